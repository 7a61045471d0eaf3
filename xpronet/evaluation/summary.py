"""The scores of one split: all that is known of what was written under each kind of labels, and the few to compare."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from xpronet.evaluation import statistics
from xpronet.evaluation.diversity import diversity
from xpronet.evaluation.extras import Scorer
from xpronet.evaluation.lexical import METRICS
from xpronet.evaluation.meteor import Meteor
from xpronet.evaluation.places import places
from xpronet.labels import agreement

COMPARED = (*METRICS, "micro_F1_14", "macro_F1_14", "cross_entropy", "distinct_reports")
BEATEN = ("BLEU_4", "micro_F1_14")  # of these the best floor's value stands beside


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
) -> tuple[dict[str, Any], statistics.Table]:
    """Scores by kind of labels, floor, observation and stratum; and the sums per study of those under `predicted`.

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
            **agreement.precision_recall(tables[source].hits),
            **places(references, hypotheses),
            **diversity(references, hypotheses, seed=statistics.SEED),
            "intervals": statistics.intervals(tables[source], seed=statistics.SEED),
        }
        for source, hypotheses in written.items()
    }
    scores["floors"] = {
        name: {**statistics.of_all(table(hypotheses)), **places(references, hypotheses)}
        for name, hypotheses in floors.items()
    }
    of_truth = agreement.f1s(agreement.hits(truth[1], own_labels).sum(axis=0, keepdims=True))
    scores["ceiling"] = {"against": truth[0], **{name: float(value[0]) for name, value in of_truth.items()}}
    scores["leak_delta"] = {
        name: scores["reference"][name] - scores["predicted"][name] for name in statistics.of_all(tables["predicted"])
    }
    scores["observations"] = {source: agreement.observations(each.hits) for source, each in tables.items()}
    scores["strata"] = statistics.strata(tables["predicted"], groups)
    return scores, tables["predicted"]


def compared(details: Mapping[str, Any]) -> dict[str, float]:
    """The numbers that two runs are compared by: under predicted labels, and of the best floor."""
    floors = details["floors"].values()
    return {
        **{name: details["predicted"][name] for name in COMPARED},
        **{f"floor_{name}": max(floor[name] for floor in floors) for name in BEATEN},
    }
