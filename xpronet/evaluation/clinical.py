"""Labels against labels: prevalence and F1 over the 14 observations."""

from collections.abc import Sequence

import numpy as np
from sklearn.metrics import f1_score

from xpronet.data.studies import SPLITS, Study
from xpronet.labels.conditions import CONDITIONS


def prevalence(studies: Sequence[Study], labels: np.ndarray) -> dict[str, dict[str, int]]:
    """Studies that carry each observation, per split; labels (N, 14) 0/1."""
    splits = np.array([study.split for study in studies])
    counts = {split: labels[splits == split].sum(axis=0) for split in SPLITS}
    return {split: {name: int(n) for name, n in zip(CONDITIONS, row, strict=True)} for split, row in counts.items()}


def f1(reference: np.ndarray, predicted: np.ndarray) -> dict[str, float | dict[str, float]]:
    """macro, micro and per-observation F1 of (N, 14) 0/1 labels; one that neither side has counts as 0 in macro."""
    each = f1_score(reference, predicted, average=None, zero_division=0)
    return {
        "macro_F1": float(each.mean()),
        "micro_F1": float(f1_score(reference, predicted, average="micro", zero_division=0)),
        "F1": {name: float(value) for name, value in zip(CONDITIONS, each, strict=True)},
    }
