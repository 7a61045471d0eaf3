"""Whether two models differ: paired bootstrap and approximate randomisation over the same studies.

Koehn (2004) and Noreen (1989), as they are used for corpus scores of text. Both work on the sums per study of
`statistics`, so that BLEU, METEOR and F1 are those of a corpus in every draw. They speak of these two sets of reports:
how much another seed would change either model is not in them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from xpronet.evaluation.statistics import DRAWS, Table, of_all, resamples, scores

SWAPS = 10_000  # of approximate randomisation: p down to 0.0001
AT_ONCE = 1_000


@dataclass(frozen=True)
class Difference:
    """Of one metric between reports A and B of the same studies."""

    a: float
    b: float
    low: float  # of B - A: bootstrap 95 % interval
    high: float
    p: float  # two-sided, of approximate randomisation

    @property
    def value(self) -> float:
        return self.b - self.a


def paired(a: Table, b: Table, *, seed: int, draws: int = DRAWS, swaps: int = SWAPS) -> dict[str, Difference]:
    """B against A for every metric of `statistics.scores`; row n of both tables is the same study.

    Args:
        seed: of the draws; metrics share them.
    """
    studies = len(a.means)
    assert studies == len(b.means)
    drawn = resamples(studies, seed=seed, draws=draws)
    first, second = scores(a, drawn), scores(b, drawn)
    value_a, value_b = of_all(a), of_all(b)
    as_extreme = dict.fromkeys(value_a, 0)
    both, random = joined([a, b]), np.random.default_rng(seed)
    for start in range(0, swaps, AT_ONCE):
        swapped = random.random((min(AT_ONCE, swaps - start), studies)) < 0.5  # (W, N): A gets B's report
        weights = np.concatenate([~swapped, swapped], axis=1).astype(np.float64)  # (W, 2 N)
        left, right = scores(both, weights), scores(both, 1 - weights)
        for name in as_extreme:
            # A tie up to rounding is as extreme: with few studies most draws are.
            distance = abs(value_b[name] - value_a[name]) - 1e-12
            as_extreme[name] += int((np.abs(right[name] - left[name]) >= distance).sum())
    return {
        name: Difference(
            value_a[name],
            value_b[name],
            *(float(end) for end in np.percentile(second[name] - first[name], (2.5, 97.5))),
            p=(1 + as_extreme[name]) / (1 + swaps),
        )
        for name in value_a
    }


def joined(tables: Sequence[Table]) -> Table:
    """The studies of several tables, one below the other."""
    sums = {
        name: np.concatenate([vars(table)[name] for table in tables]) for name in ("bleu", "meteor", "means", "hits")
    }
    return Table(**sums, names=tables[0].names)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction for several comparisons: what a p-value is worth among the others."""
    order = np.argsort(p_values, kind="stable")
    corrected, highest = np.empty(len(order)), 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p_values[place]))
        corrected[place] = highest
    return corrected.tolist()
