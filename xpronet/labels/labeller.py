"""The labeller of reports that the parameters name."""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from xpronet.labels import rules
from xpronet.labels.chexbert import CheXbert
from xpronet.labels.params import LabelParams

Labeller = Callable[[Sequence[str]], np.ndarray]  # N reports -> classes (N, 14)


def load(params: LabelParams, *, device: torch.device) -> tuple[str, Labeller]:
    """Its name and itself: CheXbert, or the rules; for labels from a file too, which no generated report stands in.

    Raises:
        ValueError: the checkpoint is missing or broken.
    """
    if params.labeller == "chexbert":
        return "chexbert", CheXbert.from_checkpoint(params.chexbert_path, device=device).label
    return "rules", rules.label
