"""From probabilities to labels: thresholds chosen on validation."""

import numpy as np

from xpronet.classifier.params import Thresholds
from xpronet.labels.conditions import BLANK, NO_FINDING, POSITIVE, SUPPORT_DEVICES, pseudo_labels


def decide(probabilities: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """0/1 labels (N, K) float32, such as reports get: No Finding is the classifier's own, beside Support Devices too.

    It gives way to a disease, as in CheXpert's labels, and is forced on where nothing is positive (rows 18 and 35).
    """
    labels = probabilities >= thresholds
    labels[:, NO_FINDING] &= ~np.delete(labels, [NO_FINDING, SUPPORT_DEVICES], axis=1).any(axis=1)
    return pseudo_labels(np.where(labels, POSITIVE, BLANK))


def choose_thresholds(labels: np.ndarray, probabilities: np.ndarray, *, kind: Thresholds) -> np.ndarray:
    """(K,) float32: where F1 is best, of all decisions together or per observation; 0.5 where only one class is there.

    A threshold of its own for an observation with a handful of studies is chance: it lies at the very probability of
    one of them.
    """
    if kind == "shared":
        return np.full(labels.shape[1], _best(labels.ravel(), probabilities.ravel()), np.float32)
    return np.array([_best(*columns) for columns in zip(labels.T, probabilities.T, strict=True)], np.float32)


def _best(labels: np.ndarray, probabilities: np.ndarray) -> float:
    from sklearn.metrics import precision_recall_curve  # a second, which what only decides need not wait

    if not 0 < labels.sum() < len(labels):
        return 0.5
    precision, recall, cuts = precision_recall_curve(labels, probabilities)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    return cuts[f1[:-1].argmax()]
