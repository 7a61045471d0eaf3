"""What the finished runs show: scores, differences from the full model, floors, and what stands behind them."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dvc.api
from dvc.api import DVCFileSystem

from experiments import study
from experiments.ablations.runs import FULL, ROWS, SWEEPS, WHOLE, plan
from xpronet.app.compare import check_same_studies, read_side, score
from xpronet.evaluation.lexical import METRICS
from xpronet.evaluation.statistics import Table

DETAILS = "metrics/details/test.json"
SHOWN = (*METRICS, "micro_F1_14", "macro_F1_14")
# What stands behind the scores, and its column.
LOOKS = {
    "cross_entropy": "cross-entropy",
    "distinct_reports": "different reports",
    "same_side": "same side",
    "without_findings BLEU_4": "BLEU_4 without",
    "without_findings CIDEr": "CIDEr without",
    "with_findings BLEU_4": "BLEU_4 with",
    "with_findings CIDEr": "CIDEr with",
}


def analyse(
    seeds: Sequence[int], sweep_seeds: Sequence[int], whole_seeds: Sequence[int], params: Path
) -> dict[str, Any]:
    """What finished runs show: the four rows with their floors, the sweeps, and the rows of the preset's own length."""
    sides = [read_side(run.name, "test", "predicted") for run in plan(seeds, sweep_seeds, whole_seeds)]
    for side in sides[1:]:
        check_same_studies(sides[0], side, "test")
    labeller, _, tables = score(sides, params)
    of_run = {side.name: table for side, table in zip(sides, tables, strict=True)}

    def of(row: str, seeds: Sequence[int]) -> list[Table]:
        return [of_run[f"{row}-{seed}"] for seed in seeds]

    rows = {row: of(row, seeds) for row in ROWS}
    looks = {row: [look_at(f"{row}-{seed}") for seed in seeds] for row in ROWS}
    full = [details_of(f"{FULL}-{seed}") for seed in seeds]
    preset = params_of(f"{FULL}-{seeds[0]}")
    sweeps = {}
    for key, values in SWEEPS.items() if sweep_seeds else ():
        swept = {FULL: of(FULL, sweep_seeds), **{str(value): of(f"{key}-{value}", sweep_seeds) for value in values}}
        sweeps[key] = {
            "full": preset[key],
            "seeds": list(sweep_seeds),
            "values": {name: study.scores_of(each) for name, each in swept.items()},
            "against_full": study.against(swept, FULL, seed=1),
        }
    return {
        "labeller": labeller,
        "seeds": list(seeds),
        "studies": len(tables[0].means),
        "steps": steps(preset),
        "rows": {row: study.scores_of(each) for row, each in rows.items()},
        "looks": {
            row: {look: study.summary([run[look] for run in each]) for look in LOOKS} for row, each in looks.items()
        },
        "against_full": study.against(rows, FULL, seed=1),
        "floors": {
            floor: {metric: study.summary([each["floors"][floor][metric] for each in full]) for metric in SHOWN}
            for floor in full[0]["floors"]
        },
        "leak_delta": {metric: study.summary([each["leak_delta"][metric] for each in full]) for metric in SHOWN},
        "sweeps": sweeps,
        "whole": whole({row: of(row, whole_seeds) for row in WHOLE}, whole_seeds) if whole_seeds else None,
    }


def whole(rows: study.Tables, seeds: Sequence[int]) -> dict[str, Any]:
    """The rows of the preset's own length, with the intervals and the best floors of each seed of the full model."""
    full = next(iter(WHOLE))
    details = [details_of(f"{full}-{seed}") for seed in seeds]
    return {
        "seeds": list(seeds),
        "steps": steps(params_of(f"{full}-{seeds[0]}")),
        "rows": {row: study.scores_of(each) for row, each in rows.items()},
        "intervals": [{metric: each["predicted"]["intervals"][metric] for metric in SHOWN} for each in details],
        "best_floors": [
            {metric: max(floor[metric] for floor in each["floors"].values()) for metric in SHOWN} for each in details
        ],
        "against_full": study.against(rows, full, seed=1),
    }


def params_of(name: str) -> dict[str, Any]:
    return dvc.api.params_show(rev=name)


def steps(params: Mapping[str, Any]) -> int:
    """Of a training on the phantom by these parameters."""
    return math.ceil(params["phantom"]["train"] / params["train"]["batch_size"]) * params["train"]["epochs"]


def details_of(name: str) -> dict[str, Any]:
    return json.loads(DVCFileSystem(rev=name).read_text(DETAILS, encoding="utf-8"))


def look_at(name: str) -> dict[str, float | None]:
    """What the corpus scores of a run do not tell: likelihood, diversity, and scores by stratum."""
    details = details_of(name)
    predicted, strata = details["predicted"], details["strata"]
    return {
        "cross_entropy": predicted["cross_entropy"],
        "distinct_reports": predicted["distinct_reports"],
        "same_side": predicted["same_side"],  # None where no finding has one
        **{f"{stratum} {metric}": value for stratum, scores in strata.items() for metric, value in scores.items()},
    }
