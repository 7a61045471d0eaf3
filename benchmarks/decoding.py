"""Decoding without the visual extractor, against the bare matrix products of the same steps."""

import torch
from torch import Tensor

from benchmarks.measure import alternate, at_most
from benchmarks.setting import BATCH, BEAM, CONFIG, SIZE, TOKENS, VIEWS, labels, model


def rows() -> list[dict]:
    network = model().eval()
    features = torch.relu(torch.randn(BATCH, VIEWS * (SIZE // 32) ** 2, 2048))
    network.patch_features = lambda images, views: (features, torch.ones(features.shape[:2], dtype=torch.bool))
    with torch.no_grad():
        network.head.bias[0] = -1e9  # no report ends before the last step
    images, positives = torch.zeros(BATCH, VIEWS, 1), labels(BATCH)

    def decode(length: int = TOKENS) -> None:
        network.generate(images, positives, beam_size=BEAM, max_length=length)

    with torch.no_grad():
        ours, bare = alternate(decode, Products().run, repeats=5)
        return [at_most(f"decoding, beam {BEAM}, {TOKENS} tokens", ours, bare, 2.2)]


class Products:
    """The matrix products of encoder and search with random operands, and nothing else."""

    def __init__(self):
        d, heads, beams = CONFIG.d_model, CONFIG.heads, BATCH * BEAM
        patches = VIEWS * (SIZE // 32) ** 2
        rows = CONFIG.n_conditions * CONFIG.n_prototypes
        self.square, self.fusion = torch.randn(d, d), torch.randn(2 * d, d)
        self.head, self.prototypes = torch.randn(d, CONFIG.vocab_size + 1), torch.randn(d, rows)
        self.x, self.wide = torch.randn(beams, d), torch.randn(beams, 2 * d)
        self.queries = torch.randn(beams * heads, 1, d // heads)
        self.past = torch.randn(beams * heads, d // heads, TOKENS)
        self.study_queries = torch.randn(BATCH * heads, BEAM, d // heads)
        self.memory = torch.randn(BATCH * heads, d // heads, patches)

    def run(self) -> None:
        for length in range(1, TOKENS + 1):
            self.step(length)

    def step(self, length: int) -> Tensor:
        x, past = self.x, self.past[:, :, :length]
        weights = x @ self.square @ self.prototypes  # query, similarity
        x @ self.square, weights @ self.prototypes.T, self.wide @ self.fusion  # out, responses, fusion
        for _ in range(CONFIG.layers):
            for _ in range(8):  # self-attention 4, cross-attention 2, feed-forward 2
                x @ self.square
            (self.queries @ past) @ past.transpose(1, 2)
            (self.study_queries @ self.memory) @ self.memory.transpose(1, 2)
        return x @ self.head


if __name__ == "__main__":
    torch.set_num_threads(2)
    print(rows())
