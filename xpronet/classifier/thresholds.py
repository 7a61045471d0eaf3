"""From probabilities to labels: a threshold per observation, chosen on validation."""

import numpy as np
from sklearn.metrics import precision_recall_curve

from xpronet.labels.conditions import NO_FINDING


def decide(probabilities: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """0/1 labels (N, K) float32; No Finding is on where nothing else is: no study is without a label (row 35)."""
    labels = probabilities >= thresholds
    labels[:, NO_FINDING] = ~np.delete(labels, NO_FINDING, axis=1).any(axis=1)
    return labels.astype(np.float32)


def choose_thresholds(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """(K,) float32: the threshold with the best F1 per observation."""
    thresholds = np.full(labels.shape[1], 0.5, np.float32)
    for k in range(labels.shape[1]):
        if 0 < labels[:, k].sum() < len(labels):
            precision, recall, cuts = precision_recall_curve(labels[:, k], probabilities[:, k])
            f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
            thresholds[k] = cuts[f1[:-1].argmax()]
    return thresholds
