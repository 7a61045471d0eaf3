"""Several seeds of several ablations: means, deviations, and whether they differ from the full model.

Two questions, two tests. Would the difference stand on other studies? Approximate randomisation over the studies, each
with its reports of all seeds. Would it stand with other seeds? A paired t-test over the seeds, which with three of them
has little power: it says how sure one can be, not that there is nothing.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from xpronet.evaluation.paired import holm, paired
from xpronet.evaluation.statistics import Table, of_all

Tables = Mapping[str, Sequence[Table]]  # row -> one table per seed, the same seeds in the same order


def summary(values: Sequence[float | None]) -> dict[str, Any] | None:
    """Mean and sample standard deviation over the seeds (None for one), and what they are of; None if one lacks."""
    if None in values:
        return None
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {"mean": float(np.mean(values)), "deviation": deviation, "seeds": [float(value) for value in values]}


def interval(values: Sequence[float]) -> tuple[float, float] | None:
    """95 % interval of the mean over other seeds, by Student's t; None for one seed."""
    if len(values) < 2:
        return None
    half = float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))
    return float(np.mean(values)) - half, float(np.mean(values)) + half


def scores_of(tables: Sequence[Table]) -> dict[str, dict[str, Any]]:
    """`summary` of each metric over one table per seed."""
    found = [of_all(table) for table in tables]
    return {metric: summary([scores[metric] for scores in found]) for metric in found[0]}


def against(rows: Tables, full: str, *, seed: int) -> dict[str, dict[str, dict[str, Any]]]:
    """Every row but `full` against it: {row: {metric: difference}}.

    A difference has `mean`, `deviation` and `seeds` (row minus full, seed by seed), the bootstrap 95 % `interval` and
    `p_studies` over the studies with their reports of all seeds, `p_studies_holm` corrected for the number of rows, and
    `p_seeds` (None for one seed).
    """
    others = [row for row in rows if row != full]
    reference = pooled(rows[full])
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for row in others:
        of_studies = paired(reference, pooled(rows[row]), seed=seed)
        pairs = [(of_all(a), of_all(b)) for a, b in zip(rows[full], rows[row], strict=True)]
        found[row] = {
            metric: {
                **summary([b[metric] - a[metric] for a, b in pairs]),
                "interval": [difference.low, difference.high],
                "p_studies": difference.p,
                "p_seeds": _p_seeds([a[metric] for a, _ in pairs], [b[metric] for _, b in pairs]),
            }
            for metric, difference in of_studies.items()
        }
    for metric in found[others[0]] if others else ():
        corrected = holm([found[row][metric]["p_studies"] for row in others])
        for row, p in zip(others, corrected, strict=True):
            found[row][metric]["p_studies_holm"] = p
    return found


def pooled(tables: Sequence[Table]) -> Table:
    """One table of the same studies under several seeds: each study's sums, so that its reports stay together."""
    sums = {name: np.sum([vars(table)[name] for table in tables], axis=0) for name in ("bleu", "meteor", "hits")}
    return Table(**sums, means=np.mean([table.means for table in tables], axis=0), names=tables[0].names)


def _p_seeds(full: Sequence[float], row: Sequence[float]) -> float | None:
    if len(full) < 2:
        return None
    differences = np.subtract(row, full)
    if np.ptp(differences) < 1e-12:  # no spread: the t-test is undefined
        return 1.0 if abs(differences[0]) < 1e-12 else 0.0
    return float(stats.ttest_rel(row, full).pvalue)
