"""CheXbert (Smit et al., 2020): the labeller behind the paper's pseudo labels (§3.2), and its text encoder (row 16).

A BERT-base whose [CLS] vector feeds one linear head per condition. The weights are not ours to ship: `chexbert.pth` of
StanfordAIMI/RRG_scorers on the Hugging Face hub, read without unpickling code.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from xpronet.data.weights import read_weights
from xpronet.labels.bert import BertEncoder, bert_from_sizes, first_token, load_exactly, uncased_tokenizer
from xpronet.labels.conditions import CONDITIONS, NO_FINDING, POSITIVE, UNCERTAIN, Uncertain

N_CLASSES = 4  # BLANK, POSITIVE, NEGATIVE, UNCERTAIN; the No Finding head has the first two only


@dataclass(frozen=True)
class CheXbert:
    """The labeller; every method takes N reports, raw or cleaned, and runs the encoder once over them."""

    encoder: BertEncoder
    heads: nn.ModuleList  # 14 linear heads, in the order of CONDITIONS

    @classmethod
    def from_checkpoint(cls, path: str | Path, *, heads: int = 12, device: str = "cpu") -> "CheXbert":
        """Load the published checkpoint (`.pth`), or the same tensors as `.safetensors`.

        Parameters
        ----------
        path : the file; parameter `labels.chexbert_path`
        heads : attention heads; all other sizes are read off the shapes
        device : where the encoder runs

        Raises
        ------
        ValueError
            No such file, not a checkpoint, or keys that are missing, extra or misshaped.
        """
        source = f"labels.chexbert_path: {path}"
        state = {key.removeprefix("module."): value for key, value in _read(Path(path), source).items()}
        bert_state = {key.removeprefix("bert."): value for key, value in state.items() if key.startswith("bert.")}
        tokenizer = uncased_tokenizer()
        bert = bert_from_sizes(bert_state, heads=heads, source=source)
        if bert.config.vocab_size != len(tokenizer):
            raise ValueError(f"{source} has {bert.config.vocab_size} word pieces, bert-base-uncased {len(tokenizer)}")
        outputs = [2 if k == NO_FINDING else N_CLASSES for k in range(len(CONDITIONS))]
        linear_heads = nn.ModuleList(nn.Linear(bert.config.hidden_size, n) for n in outputs)
        load_exactly(nn.ModuleDict({"bert": bert, "linear_heads": linear_heads}), state, source=source, prefix="bert.")
        encoder = BertEncoder(
            bert.eval().to(device),
            tokenizer,
            first_token,
            max_tokens=min(BertEncoder.max_tokens, bert.config.max_position_embeddings),
        )
        return cls(encoder, linear_heads)

    @property
    def width(self) -> int:
        """Length of the [CLS] vector, 768 in the published checkpoint."""
        return self.encoder.width

    def embed(self, reports: Sequence[str]) -> np.ndarray:
        """[CLS] vectors (N, width) float32."""
        return self.encoder.embed(reports)

    def logits(self, reports: Sequence[str]) -> np.ndarray:
        """(N, 14, 4) float32; -inf for the classes that a head lacks."""
        return self.head_logits(self.embed(reports))

    def logits_beside(self, path: str | Path, reports: Sequence[str]) -> np.ndarray:
        """What `logits` returns, for reports that take hours: a killed run goes on with what it left beside `path`."""
        path = Path(path).with_suffix(".npy")
        self.encoder.write(path, reports)
        logits = self.head_logits(np.load(path))
        path.unlink()
        return logits

    def label(self, reports: Sequence[str]) -> np.ndarray:
        """Classes (N, 14) int64: 0 blank, 1 positive, 2 negative, 3 uncertain; No Finding is 0 or 1."""
        return self.logits(reports).argmax(axis=2)

    @torch.inference_mode()
    def head_logits(self, vectors: np.ndarray) -> np.ndarray:
        """The heads alone, for vectors (N, width) of `embed` -> (N, 14, 4) float32."""
        logits = np.full((len(vectors), len(CONDITIONS), N_CLASSES), -np.inf, dtype=np.float32)
        for k, head in enumerate(self.heads):
            logits[:, k, : head.out_features] = head(torch.from_numpy(vectors)).numpy()  # (N, 4) or (N, 2)
        return logits


def probabilities(logits: np.ndarray, *, uncertain: Uncertain = "positive") -> np.ndarray:
    """(N, 14, 4) -> (N, 14) float32: how probable it is that an observation counts as present, Eq. 3.

    That it is positive, or uncertain where that counts as positive (row 17). The label is the likeliest of the four
    classes, which is not the same as a probability above a half.
    """
    shares = torch.from_numpy(logits).softmax(dim=2).numpy()
    return shares[:, :, POSITIVE] + (shares[:, :, UNCERTAIN] if uncertain == "positive" else 0)


def _read(path: Path, source: str) -> Mapping[str, Tensor]:
    if not path.is_file():
        raise ValueError(
            f"{source} is not a file: download chexbert.pth of StanfordAIMI/RRG_scorers from the Hugging Face hub"
            " and set labels.chexbert_path to it"
        )
    try:
        loaded = read_weights(path)
    except ValueError as error:
        raise ValueError(f"labels.chexbert_path: {error}; download chexbert.pth again") from None
    if path.suffix == ".safetensors":
        return loaded
    state = loaded.get("model_state_dict") if isinstance(loaded, dict) else None
    if not isinstance(state, dict):
        raise ValueError(f"{source} has no model_state_dict: it is not the published chexbert.pth")
    return state
