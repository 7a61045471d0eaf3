"""Decoding without the visual extractor, against the bare matrix products of the same work."""

import torch
from torch import Tensor

from benchmarks.measure import alternate, at_most
from benchmarks.setting import BATCH, BEAM, CONFIG, SIZE, TOKENS, VIEWS, labels, model
from xpronet.model.xpronet import XProNet

PATCHES = VIEWS * (SIZE // 32) ** 2
D, HEADS = CONFIG.d_model, CONFIG.heads
SHORT = 15  # tokens of the longest report where reports end early


@torch.no_grad()
def rows() -> list[dict]:
    network = without_visual_extractor()
    images, positives = torch.zeros(BATCH, VIEWS, 1), labels(BATCH)
    encoded = network.encode(images, network.query_prototypes(positives), None)
    encode = network.encode

    def decode(length: int = TOKENS) -> None:
        network.generate(images, positives, beam_size=BEAM, max_length=length)

    def search() -> None:
        network.encode = lambda *_: encoded
        decode()
        network.encode = encode

    steps, encoder = Steps(), Encoder()
    name = f"beam {BEAM}, {TOKENS} tokens"
    found = [
        at_most(f"decoding, {name}", *alternate(decode, lambda: (encoder.run(), steps.run()), repeats=7), 1.3),
        at_most(f"search alone, {name}", *alternate(search, steps.run, repeats=7), 1.3),
    ]
    network.head.register_forward_hook(EndsAfter(SHORT))
    network.head.bias[0] = 0.0
    early, exact = alternate(decode, lambda: decode(SHORT), repeats=7)
    return [*found, at_most(f"search stops after {SHORT} of {TOKENS} tokens", early, exact, 1.1)]


def without_visual_extractor() -> XProNet:
    """A model whose patch features are given, and whose reports have no end before the last token."""
    network = model().eval()
    features = torch.relu(torch.randn(BATCH, PATCHES, 2048))
    network.patch_features = lambda images, views: (features, torch.ones(BATCH, PATCHES, dtype=torch.bool))
    network.head.bias[0] = -1e9
    return network


class EndsAfter:
    """A hook on the head that makes every report end with its n-th token, and none before."""

    def __init__(self, length: int):
        self.length, self.calls = length, 0

    def __call__(self, head, inputs, logits: Tensor) -> Tensor:
        self.calls = self.calls % self.length + 1
        logits[..., 0] = 1e9 if self.calls == self.length else -1e9
        return logits


class Steps:
    """The matrix products of a search, with operands of their own for each layer, and nothing else."""

    def __init__(self):
        beams, rows = BATCH * BEAM, CONFIG.n_conditions * CONFIG.n_prototypes
        self.x = torch.randn(beams, D)
        # Query and output of the prototypes; per layer self-attention 4, cross-attention 2, feed-forward 2.
        self.squares = [torch.randn(D, D) for _ in range(2 + 8 * CONFIG.layers)]
        self.fusion, self.head = torch.randn(2 * D, D), torch.randn(D, CONFIG.vocab_size + 1)
        self.prototypes = [torch.randn(HEADS, rows, D // HEADS) for _ in range(2)]
        self.past = [torch.randn(beams * HEADS, TOKENS, D // HEADS) for _ in range(2 * CONFIG.layers)]
        self.memory = [torch.randn(BATCH * HEADS, PATCHES, D // HEADS) for _ in range(2 * CONFIG.layers)]

    def run(self) -> None:
        for length in range(1, TOKENS + 1):
            self.step(length)

    def step(self, length: int) -> None:
        for square in self.squares:
            self.x @ square
        torch.cat([self.x, self.x], dim=1) @ self.fusion
        self.x @ self.head
        attend(self.x.view(-1, HEADS, D // HEADS).transpose(0, 1), *self.prototypes)
        for layer in range(CONFIG.layers):
            keys, values = self.past[2 * layer : 2 * layer + 2]
            attend(self.x.view(-1, 1, D // HEADS), keys[:, :length], values[:, :length])
            attend(self.x.view(-1, BEAM, D // HEADS), *self.memory[2 * layer : 2 * layer + 2])


class Encoder:
    """The matrix products of patch embedding, prototype query, fusion and Transformer encoder."""

    def __init__(self):
        self.x, self.features = torch.randn(BATCH * PATCHES, D), torch.randn(BATCH * PATCHES, 2048)
        self.embedding, self.fusion = torch.randn(2048, D), torch.randn(2 * D, D)
        self.squares = [torch.randn(D, D) for _ in range(2 + 6 * CONFIG.layers)]
        self.prototypes = torch.randn(HEADS, CONFIG.n_conditions * CONFIG.n_prototypes, D // HEADS)

    def run(self) -> None:
        self.features @ self.embedding
        for square in self.squares:
            self.x @ square
        torch.cat([self.x, self.x], dim=1) @ self.fusion
        attend(self.x.view(-1, HEADS, D // HEADS).transpose(0, 1), self.prototypes, self.prototypes)
        patches = self.x.view(BATCH, PATCHES, HEADS, -1).transpose(1, 2).flatten(0, 1)
        for _ in range(CONFIG.layers):
            attend(patches, patches, patches)


def attend(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    return (queries @ keys.transpose(1, 2)) @ values
