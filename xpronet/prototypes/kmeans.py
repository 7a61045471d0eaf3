"""The prototype matrix PM: K-means per observation over cross-modal features (§3.2, Eq. 4-7)."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from sklearn.cluster import KMeans, MiniBatchKMeans

logger = logging.getLogger(__name__)

NOISE = 0.01  # deviation of the noise on a repeated centroid, as a share of the features' own deviation
EXACT_ROWS = 50_000  # scikit-learn's KMeans up to here, MiniBatchKMeans beyond; 0.6 GB at 2,816 features
BATCH_ROWS = 8_192
PASSES = 2  # of MiniBatchKMeans over all rows


@dataclass(frozen=True)
class Rows:
    """R_k (n, D), Eq. 4-5: some studies' visual features, or the mirrored ones, beside their textual ones.

    The arrays may be memory-mapped: only the rows that are asked for are read.
    """

    sides: tuple[np.ndarray, ...]  # (N, C_1) each
    textual: np.ndarray  # (N, C_2)
    members: np.ndarray  # rows of them

    def __len__(self) -> int:
        return len(self.sides) * len(self.members)

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Some of the n rows, (len(rows), D) float32."""
        side, member = np.divmod(rows, len(self.members))
        found = np.empty((len(rows), self.sides[0].shape[1] + self.textual.shape[1]), np.float32)
        for number, visual in enumerate(self.sides):
            here = np.flatnonzero(side == number)
            studies = self.members[member[here]]
            found[here, : visual.shape[1]] = visual[studies]
            found[here, visual.shape[1] :] = self.textual[studies]  # Eq. 5
        return found

    def batches(self) -> Iterator[np.ndarray]:
        """All rows in order, BATCH_ROWS at a time."""
        for first in range(0, len(self), BATCH_ROWS):
            yield self.take(np.arange(first, min(first + BATCH_ROWS, len(self))))


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
        visual, flipped: (N, C_1); textual: (N, C_2); labels: (N, K) 0/1, all of the train split. Features may be
            memory-mapped: what is held of them does not grow with N.
        flips: `joint` clusters both orientations together; `separate` gives each half of the clusters, flipped first,
            as the published matrix (row 14).

    Raises:
        ValueError: `separate` with an odd number of prototypes, or features that are no numbers.
    """
    if flips == "separate" and n_prototypes % 2:
        raise ValueError(f"features.flips: separate needs an even n_prototypes, got {n_prototypes}")
    mean, spread = _moments(Rows((visual, flipped), textual, np.arange(len(labels))))  # (D,), (D,)
    matrix, table = [], []
    for k, condition in enumerate(conditions):
        members = np.flatnonzero(labels[:, k])  # Eq. 4
        random = np.random.RandomState([seed, k])
        if not len(members):
            # No study carries it in training, so only a study under test can query it: the mean of all rows says least.
            logger.warning("%s: no training study has it; its prototypes are the mean of all with noise", condition)
            centres, inertia = _fill(mean[None], n_prototypes, spread, random), 0.0
        elif flips == "joint":
            rows = Rows((visual, flipped), textual, members)
            centres, inertia = _cluster(rows, n_prototypes, spread, random, condition)
        else:
            halves = [
                _cluster(Rows((side,), textual, members), n_prototypes // 2, spread, random, condition)
                for side in (flipped, visual)
            ]
            centres, inertia = np.concatenate([half[0] for half in halves]), halves[0][1] + halves[1][1]
        matrix.append(centres)
        table.append({"condition": condition, "studies": len(members), "inertia": round(float(inertia), 4)})
    return np.stack(matrix).astype(np.float32), table


def _moments(rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (D,) float64 of all rows, in two passes."""
    mean = sum(batch.sum(axis=0, dtype=np.float64) for batch in rows.batches()) / len(rows)
    if not np.isfinite(mean).all():
        raise ValueError("data/features: some are no numbers; `dvc repro -f features` makes them again")
    return mean, np.sqrt(sum(((batch - mean) ** 2).sum(axis=0) for batch in rows.batches()) / len(rows))


def _cluster(rows: Rows, count: int, spread: np.ndarray, random: np.random.RandomState, condition: str):
    """Cluster means (count, D), Eq. 6-7, and the sum of squared distances to them."""
    if len(rows) > EXACT_ROWS:
        return _cluster_in_batches(rows, count, random)
    every = rows.take(np.arange(len(rows)))
    distinct = np.unique(every, axis=0)
    if len(distinct) <= count:
        if len(distinct) < count:
            logger.warning(
                "%s: %d distinct rows for %d prototypes; some repeat with noise", condition, len(distinct), count
            )
        return _fill(distinct, count, spread, random), 0.0
    fitted = KMeans(count, n_init=1, random_state=random).fit(every)  # Eq. 6
    return fitted.cluster_centers_, fitted.inertia_  # Eq. 7


def _cluster_in_batches(rows: Rows, count: int, random: np.random.RandomState) -> tuple[np.ndarray, float]:
    """The same for any number of rows: K-means of a sample, then its centres moved by mini-batches of all."""
    sample = rows.take(np.sort(random.choice(len(rows), EXACT_ROWS, replace=False)))
    start = KMeans(count, n_init=1, random_state=random).fit(sample).cluster_centers_
    del sample
    fitted = MiniBatchKMeans(count, init=start, n_init=1, reassignment_ratio=0, random_state=random)
    batches = np.arange(0, len(rows), BATCH_ROWS)
    for _ in range(PASSES):
        order = random.permutation(len(rows))
        for first in batches:
            fitted.partial_fit(rows.take(np.sort(order[first : first + BATCH_ROWS])))
    inertia = sum(-fitted.score(batch) for batch in rows.batches())
    return fitted.cluster_centers_, inertia


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
