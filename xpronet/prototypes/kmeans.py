"""The prototype matrix PM: K-means per observation over cross-modal features (§3.2, Eq. 4-7)."""

import logging
from typing import Any, Literal

import numpy as np
from sklearn.cluster import KMeans

logger = logging.getLogger(__name__)

NOISE = 0.01  # deviation of the noise on a repeated centroid, as a share of the features' own deviation


def prototype_matrix(
    visual: np.ndarray,
    flipped: np.ndarray,
    textual: np.ndarray,
    labels: np.ndarray,
    *,
    conditions: tuple[str, ...],
    n_prototypes: int,
    flips: Literal["joint", "separate"],
    seed: int,
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """PM (K, N^p, D) float32, D = C_1 + C_2, and one row per observation that says what it was made of.

    Args:
        visual, flipped: (N, C_1); textual: (N, C_2); labels: (N, K) 0/1, all of the train split.
        flips: `joint` clusters both orientations together; `separate` gives each half of the clusters, flipped first,
            as the published matrix (row 14).
    """
    if flips == "separate" and n_prototypes % 2:
        raise ValueError(f"features.flips: separate needs an even n_prototypes, got {n_prototypes}")
    spread = np.concatenate([visual.std(axis=0), textual.std(axis=0)])  # (D,)
    matrix, table = [], []
    for k, condition in enumerate(conditions):
        members = np.flatnonzero(labels[:, k])
        random = np.random.RandomState([seed, k])
        mirrored, pictured = (
            np.concatenate([side[members], textual[members]], axis=1) for side in (flipped, visual)
        )  # R_k, each (n, D), Eq. 4-5
        if not len(members):
            # No study carries it in training, so only a study under test can query it: the mean of all rows says least.
            mean = np.concatenate([(visual.mean(axis=0) + flipped.mean(axis=0)) / 2, textual.mean(axis=0)])
            logger.warning("%s: no training study has it; its prototypes are the mean of all with noise", condition)
            centres, inertia = _fill(mean[None], n_prototypes, spread, random), 0.0
        elif flips == "joint":
            centres, inertia = _cluster(np.concatenate([pictured, mirrored]), n_prototypes, spread, random, condition)
        else:
            halves = [_cluster(rows, n_prototypes // 2, spread, random, condition) for rows in (mirrored, pictured)]
            centres, inertia = np.concatenate([half[0] for half in halves]), halves[0][1] + halves[1][1]
        matrix.append(centres)
        table.append({"condition": condition, "studies": len(members), "inertia": round(float(inertia), 4)})
    return np.stack(matrix).astype(np.float32), table


def _cluster(rows: np.ndarray, count: int, spread: np.ndarray, random: np.random.RandomState, condition: str):
    """Cluster means (count, D), Eq. 6-7, and the sum of squared distances to them."""
    distinct = np.unique(rows, axis=0)
    if len(distinct) <= count:
        if len(distinct) < count:
            logger.warning(
                "%s: %d distinct rows for %d prototypes; some repeat with noise", condition, len(distinct), count
            )
        return _fill(distinct, count, spread, random), 0.0
    fitted = KMeans(count, n_init=1, random_state=random).fit(rows)
    return fitted.cluster_centers_, fitted.inertia_


def _fill(rows: np.ndarray, count: int, spread: np.ndarray, random: np.random.RandomState) -> np.ndarray:
    """The rows, then the same again with noise until there are `count` (row 15)."""
    repeated = rows[np.arange(count) % len(rows)]
    noise = random.normal(size=repeated.shape) * spread * NOISE
    noise[: len(rows)] = 0
    return repeated + noise


def random_matrix(conditions: int, n_prototypes: int, width: int, *, seed: int) -> np.ndarray:
    """w/o PI: N(0, 1/D), (K, N^p, D) float32 (row 21)."""
    random = np.random.RandomState(seed)
    return (random.normal(size=(conditions, n_prototypes, width)) / np.sqrt(width)).astype(np.float32)
