"""CheXbert (Smit et al., 2020): the labeller behind the paper's pseudo labels (§3.2), and its text encoder (row 16).

A BERT-base whose [CLS] vector feeds one linear head per observation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from xpronet.common.processes import ALONE, Group
from xpronet.encoders import chexbert
from xpronet.encoders.bert import BertEncoder
from xpronet.labels.conditions import CONDITIONS, POSITIVE, UNCERTAIN, Uncertain

N_CLASSES = 4  # BLANK, POSITIVE, NEGATIVE, UNCERTAIN; the No Finding head has the first two only


@dataclass(frozen=True)
class CheXbert:
    """The labeller; every method takes N reports, raw or cleaned, and runs the encoder once over them."""

    encoder: BertEncoder
    heads: nn.ModuleList  # 14 linear heads, in the order of CONDITIONS

    @classmethod
    def from_checkpoint(cls, path: str | Path, *, heads: int = 12, device: str | torch.device = "cpu") -> "CheXbert":
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
        return cls(*chexbert.load(path, heads=heads, device=device))

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

    def logits_beside(self, path: str | Path, reports: Sequence[str], *, group: Group = ALONE) -> np.ndarray | None:
        """What `logits` returns, for reports that take hours: a killed run goes on with what it left beside `path`.

        The processes of the group share the reports, and the first one alone is given what they found.
        """
        path = Path(path).with_suffix(".npy")
        self.encoder.write(path, reports, group=group)
        if not group.first:
            return None
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
