"""Labels against labels: F1, precision and recall over the observations, from counts that sums can be taken of."""

from collections.abc import Iterator

import numpy as np

from xpronet.labels.conditions import CONDITIONS

# The five of CheXbert-5: frequent, and agreed upon.
FIVE = tuple(map(CONDITIONS.index, ("Cardiomegaly", "Edema", "Consolidation", "Atelectasis", "Pleural Effusion")))


def hits(truth: np.ndarray, found: np.ndarray) -> np.ndarray:
    """True positives, false positives and false negatives (N, 3, 14) float64 of labels (N, 14) 0/1."""
    truth, found = truth > 0, found > 0
    return np.stack([truth & found, ~truth & found, truth & ~found], axis=1).astype(np.float64)


def f1(hits: np.ndarray) -> np.ndarray:
    """2 TP / (2 TP + FP + FN) of (W, 3, …) along axis 1 -> (W, …); 0 where neither side has any."""
    right, false, missed = np.moveaxis(hits, 1, 0)
    return 2 * right / np.maximum(2 * right + false + missed, 1e-12)


def precision(hits: np.ndarray) -> np.ndarray:
    """TP / (TP + FP), as `f1`."""
    right, false, _ = np.moveaxis(hits, 1, 0)
    return right / np.maximum(right + false, 1e-12)


def recall(hits: np.ndarray) -> np.ndarray:
    """TP / (TP + FN), as `f1`."""
    right, _, missed = np.moveaxis(hits, 1, 0)
    return right / np.maximum(right + missed, 1e-12)


def f1s(hits: np.ndarray) -> dict[str, np.ndarray]:
    """Micro and macro F1 (W,) over all 14 observations and over five, of summed hits (W, 3, 14)."""
    found = {}
    for name, chosen in _groups(hits):
        found[f"micro_F1_{name}"] = f1(chosen.sum(axis=2))
        found[f"macro_F1_{name}"] = f1(chosen).mean(axis=1)
    return found


def precision_recall(hits: np.ndarray) -> dict[str, float]:
    """Precision and recall behind each F1 of a corpus: micro and macro, and the mean per study; hits (N, 3, 14)."""
    found = {}
    for name, chosen in _groups(hits.sum(axis=0, keepdims=True)):
        for key, measure in (("precision", precision), ("recall", recall)):
            found[f"micro_{key}_{name}"] = float(measure(chosen.sum(axis=2))[0])
            found[f"macro_{key}_{name}"] = float(measure(chosen).mean())
    found["example_precision"] = float(precision(hits.sum(axis=2)).mean())
    found["example_recall"] = float(recall(hits.sum(axis=2)).mean())
    return found


def observations(hits: np.ndarray) -> dict[str, dict[str, float]]:
    """Precision, recall and F1 of each observation, and how many studies have it; hits (N, 3, 14)."""
    sums = hits.sum(axis=0, keepdims=True)
    right, _, missed = sums[0]
    values = {
        "precision": precision(sums)[0],
        "recall": recall(sums)[0],
        "F1": f1(sums)[0],
        "studies": right + missed,
    }
    return {name: {key: float(value[k]) for key, value in values.items()} for k, name in enumerate(CONDITIONS)}


def _groups(hits: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    yield "14", hits
    yield "5", hits[:, :, FIVE]
