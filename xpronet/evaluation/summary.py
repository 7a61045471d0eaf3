"""The scores of one split: what a metrics file says of the reports that were written under each kind of labels."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from xpronet.evaluation import statistics
from xpronet.evaluation.diversity import diversity
from xpronet.evaluation.extras import Scorer
from xpronet.evaluation.meteor import Meteor


def summarise(
    references: Sequence[str],
    written: Mapping[str, Sequence[str]],
    *,
    floors: Mapping[str, Sequence[str]],
    groups: Mapping[str, np.ndarray],
    label: Callable[[Sequence[str]], np.ndarray],
    truth: tuple[str, np.ndarray],
    meteor: Meteor,
    extras: Mapping[str, Scorer] | None = None,
    seed: int,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Scores, and what they hide: the same by observation and by stratum.

    Args:
        references: N cleaned reports.
        written: N generated ones per kind of labels, `predicted` and `reference` among them.
        floors: N reports that need no model, per floor.
        groups: (N,) bool per stratum; reports under `predicted` are scored on each.
        label: reports -> labels (N, 14) 0/1.
        truth: the best labels (N, 14) of what the references speak of, and where they come from. The labeller's own
            ones of the references against these are the ceiling: a report equal to its reference still gets them.
        extras: more scores, as `statistics.table`.
    """
    own_labels = label(references)

    def table(hypotheses: Sequence[str]) -> statistics.Table:
        return statistics.table(references, hypotheses, own_labels, label(hypotheses), meteor=meteor, extras=extras)

    tables = {source: table(hypotheses) for source, hypotheses in written.items()}
    scores: dict[str, Any] = {
        source: {
            **statistics.of_all(tables[source]),
            **statistics.precision_recall(tables[source]),
            **diversity(references, hypotheses, seed=seed),
            "intervals": statistics.intervals(tables[source], seed=seed),
        }
        for source, hypotheses in written.items()
    }
    scores["floors"] = {name: statistics.of_all(table(hypotheses)) for name, hypotheses in floors.items()}
    of_truth = statistics.f1s(statistics.hits(truth[1], own_labels).sum(axis=0, keepdims=True))
    scores["ceiling"] = {"against": truth[0], **{name: float(value[0]) for name, value in of_truth.items()}}
    scores["leak_delta"] = {
        name: scores["reference"][name] - scores["predicted"][name] for name in statistics.of_all(tables["predicted"])
    }
    details = {
        "observations": {source: statistics.observations(each) for source, each in tables.items()},
        "strata": statistics.strata(tables["predicted"], groups),
    }
    return scores, details
