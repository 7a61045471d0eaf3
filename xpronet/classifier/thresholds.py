"""From probabilities to labels: a threshold per observation, chosen on validation."""

import numpy as np
from sklearn.metrics import precision_recall_curve

from xpronet.labels.conditions import BLANK, NO_FINDING, POSITIVE, SUPPORT_DEVICES, pseudo_labels


def decide(probabilities: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """0/1 labels (N, K) float32, such as reports get: No Finding is the classifier's own, beside Support Devices too.

    It gives way to a disease, as in CheXpert's labels, and is forced on where nothing is positive (rows 18 and 35).
    """
    labels = probabilities >= thresholds
    labels[:, NO_FINDING] &= ~np.delete(labels, [NO_FINDING, SUPPORT_DEVICES], axis=1).any(axis=1)
    return pseudo_labels(np.where(labels, POSITIVE, BLANK))


def choose_thresholds(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """(K,) float32: the threshold with the best F1 per observation."""
    thresholds = np.full(labels.shape[1], 0.5, np.float32)
    for k in range(labels.shape[1]):
        if 0 < labels[:, k].sum() < len(labels):
            precision, recall, cuts = precision_recall_curve(labels[:, k], probabilities[:, k])
            f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
            thresholds[k] = cuts[f1[:-1].argmax()]
    return thresholds
