"""How good probabilities of observations are: ranking (AUROC, AUPRC), decisions (F1) and calibration (ECE)."""

from dataclasses import dataclass

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from xpronet.labels.agreement import f1, hits
from xpronet.labels.conditions import CONDITIONS

BINS = 10  # of equal width, as Guo et al. (2017), "On calibration of modern neural networks", §2


@dataclass(frozen=True)
class Reliability:
    """One observation's studies, by the probability that they were given: a row per bin that is not empty."""

    predicted: np.ndarray  # (b,) mean probability
    observed: np.ndarray  # (b,) share of the studies that have the observation
    studies: np.ndarray  # (b,) how many

    @property
    def error(self) -> float:
        """Expected calibration error: mean distance between predicted and observed, weighted by studies; 0 is best."""
        return float(np.average(np.abs(self.predicted - self.observed), weights=self.studies))


def reliability(labels: np.ndarray, probabilities: np.ndarray) -> Reliability:
    """Of labels (N,) 0/1 and probabilities (N,) of one observation."""
    bins = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    studies = np.bincount(bins, minlength=BINS)
    there = studies > 0
    sums = (np.bincount(bins, weights=values, minlength=BINS)[there] for values in (probabilities, labels))
    predicted, observed = (total / studies[there] for total in sums)
    return Reliability(predicted, observed, studies[there])


def auroc(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Area under the ROC curve per observation; one that has only one class among the studies is left out."""
    return {CONDITIONS[k]: float(roc_auc_score(labels[:, k], probabilities[:, k])) for k in _with_both_classes(labels)}


def macro_auroc(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean over the observations that have both classes; 0.5 where there is none."""
    values = auroc(labels, probabilities).values()
    return sum(values) / len(values) if values else 0.5


def quality(labels: np.ndarray, probabilities: np.ndarray, decided: np.ndarray) -> dict[str, float | dict[str, float]]:
    """AUROC, AUPRC, F1 and ECE per observation and their means, of (N, 14) labels, probabilities and decisions 0/1.

    Observations with only one class among the studies are left out: nothing can be ranked there. AUPRC is average
    precision, whose chance level is the observation's prevalence, given beside it.
    """
    both = _with_both_classes(labels)
    of_each = f1(hits(labels, decided).sum(axis=0, keepdims=True))[0]  # (14,)
    each = {
        "AUROC": auroc(labels, probabilities),
        "AUPRC": {CONDITIONS[k]: float(average_precision_score(labels[:, k], probabilities[:, k])) for k in both},
        "F1": {CONDITIONS[k]: float(of_each[k]) for k in both},
        "ECE": {CONDITIONS[k]: reliability(labels[:, k], probabilities[:, k]).error for k in both},
        "prevalence": {CONDITIONS[k]: float(labels[:, k].mean()) for k in both},
    }
    macro = {f"macro_{name}": float(np.mean(list(values.values()))) for name, values in each.items() if values}
    return {**macro, **each}


def _with_both_classes(labels: np.ndarray) -> list[int]:
    return [k for k in range(labels.shape[1]) if 0 < labels[:, k].sum() < len(labels)]
