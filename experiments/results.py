"""What a finished run has left in its experiment: parameters, details of its scores, and what stands behind them."""

import json
import math
from collections.abc import Mapping
from typing import Any

import dvc.api
from dvc.api import DVCFileSystem

from xpronet.evaluation.lexical import METRICS

DETAILS = "metrics/details/test.json"
SHOWN = (*METRICS, "micro_F1_14", "macro_F1_14")


def params_of(name: str) -> dict[str, Any]:
    return dvc.api.params_show(rev=name)


def steps(params: Mapping[str, Any]) -> int:
    """Of a training on the phantom by these parameters."""
    return math.ceil(params["phantom"]["train"] / params["train"]["batch_size"]) * params["train"]["epochs"]


def details_of(name: str) -> dict[str, Any]:
    return json.loads(DVCFileSystem(rev=name).read_text(DETAILS, encoding="utf-8"))


def look_at(details: Mapping[str, Any]) -> dict[str, float | None]:
    """What the corpus scores of a run do not tell: likelihood, diversity, and scores by stratum."""
    predicted, strata = details["predicted"], details["strata"]
    return {
        "cross_entropy": predicted["cross_entropy"],
        "distinct_reports": predicted["distinct_reports"],
        "same_side": predicted["same_side"],  # None where no finding has one
        **{f"{stratum} {metric}": value for stratum, scores in strata.items() for metric, value in scores.items()},
    }
