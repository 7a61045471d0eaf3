"""The labeller of reports that the parameters name."""

from collections.abc import Callable, Sequence

import numpy as np

from xpronet.labels import rules
from xpronet.labels.params import LabelParams

Labeller = Callable[[Sequence[str]], np.ndarray]  # N reports -> classes (N, 14)


def load(params: LabelParams, *, device: str) -> tuple[str, Labeller]:
    """Its name and itself: CheXbert, or the rules; for labels from a file too, which no generated report stands in.

    Args:
        device: as `runtime.device` names it.

    Raises:
        ValueError: the checkpoint is missing or broken.
    """
    if params.labeller == "chexbert":
        from xpronet.common.devices import choose  # PyTorch, which costs seconds and the rules don't need
        from xpronet.labels.chexbert import CheXbert

        return "chexbert", CheXbert.from_checkpoint(params.chexbert_path, device=choose(device)).label
    return "rules", rules.label
