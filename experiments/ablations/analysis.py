"""What the finished runs show: scores, differences from the full model, floors, and what stands behind them."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dvc.api
from dvc.api import DVCFileSystem

from experiments import study
from experiments.ablations.runs import FULL, ROWS, SWEEPS, plan
from xpronet.app.compare import Side, check_same_studies, read_side, score
from xpronet.evaluation.lexical import METRICS
from xpronet.evaluation.statistics import Table

DETAILS = "metrics/details/test.json"
SHOWN = (*METRICS, "micro_F1_14", "macro_F1_14")
# What stands behind the scores, and its column.
LOOKS = {
    "cross_entropy": "cross-entropy",
    "distinct_reports": "different reports",
    "without_findings BLEU_4": "BLEU_4 without",
    "without_findings CIDEr": "CIDEr without",
    "with_findings BLEU_4": "BLEU_4 with",
    "with_findings CIDEr": "CIDEr with",
}


def analyse(seeds: Sequence[int], short_seeds: Sequence[int], params: Path) -> dict[str, Any]:
    """What finished runs show: `preset` and `short`, the four rows at either length of training, and `sweeps`."""
    sides = [read_side(run.name, "test", "predicted") for run in plan(seeds, short_seeds)]
    for side in sides[1:]:
        check_same_studies(sides[0], side, "test")
    labeller, _, tables = score(sides, params)
    found = {side.name: (side, table) for side, table in zip(sides, tables, strict=True)}
    result = {"labeller": labeller, "preset": _four_rows(found, "", seeds), "short": None, "sweeps": {}}
    if not short_seeds:
        return result
    result["short"] = _four_rows(found, "short-", short_seeds)
    for key, values in SWEEPS.items():
        rows = {FULL: f"short-{FULL}", **{str(value): f"{key}-{value}" for value in values}}
        swept = {name: [found[f"{row}-{seed}"][1] for seed in short_seeds] for name, row in rows.items()}
        result["sweeps"][key] = {
            "full": dvc.api.params_show(rev=f"short-{FULL}-{short_seeds[0]}")[key],
            "seeds": list(short_seeds),
            "values": {name: study.scores_of(each) for name, each in swept.items()},
            "against_full": study.against(swept, FULL, seed=1),
        }
    return result


def _four_rows(found: Mapping[str, tuple[Side, Table]], prefix: str, seeds: Sequence[int]) -> dict[str, Any]:
    """Scores, differences from the full model and floors of the rows of Table 2 at one length of training."""
    of_row = {row: [found[f"{prefix}{row}-{seed}"] for seed in seeds] for row in ROWS}
    rows = {row: [table for _, table in each] for row, each in of_row.items()}
    looks = {row: [look_at(side) for side, _ in each] for row, each in of_row.items()}
    full = [side.name for side, _ in of_row[FULL]]
    metrics, params = [details_of(name) for name in full], dvc.api.params_show(rev=full[0])
    return {
        "seeds": list(seeds),
        "studies": len(rows[FULL][0].means),
        "steps": math.ceil(params["phantom"]["train"] / params["train"]["batch_size"]) * params["train"]["epochs"],
        "rows": {row: study.scores_of(each) for row, each in rows.items()},
        "looks": {
            row: {look: study.summary([run[look] for run in each]) for look in LOOKS} for row, each in looks.items()
        },
        "against_full": study.against(rows, FULL, seed=1),
        "floors": {
            floor: {metric: study.summary([each["floors"][floor][metric] for each in metrics]) for metric in SHOWN}
            for floor in metrics[0]["floors"]
        },
        "leak_delta": {metric: study.summary([each["leak_delta"][metric] for each in metrics]) for metric in SHOWN},
    }


def details_of(name: str) -> dict[str, Any]:
    return json.loads(DVCFileSystem(rev=name).read_text(DETAILS, encoding="utf-8"))


def look_at(side: Side) -> dict[str, float]:
    """What the corpus scores of a run do not tell: likelihood, diversity, and scores by stratum."""
    details = details_of(side.name)
    predicted, strata = details["predicted"], details["strata"]
    return {
        "cross_entropy": predicted["cross_entropy"],
        "distinct_reports": predicted["distinct_reports"],
        **{f"{stratum} {metric}": value for stratum, scores in strata.items() for metric, value in scores.items()},
    }
