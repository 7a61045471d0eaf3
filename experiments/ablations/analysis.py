"""What the finished runs show: scores, differences from the full model, floors, and what stands behind them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments import study
from experiments.ablations.runs import FULL, ROWS, SWEEPS, WHOLE, plan
from experiments.floors import floors_of
from experiments.results import SHOWN, details_of, look_at, params_of, steps
from xpronet.app.sides import read_sides, score
from xpronet.evaluation.statistics import Table

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
    names = [run.name for run in plan(seeds, sweep_seeds, whole_seeds)]
    labeller, _, tables = score(read_sides(names, "test", "predicted"), params)
    of_run = dict(zip(names, tables, strict=True))

    def of(row: str, seeds: Sequence[int]) -> list[Table]:
        return [of_run[f"{row}-{seed}"] for seed in seeds]

    rows = {row: of(row, seeds) for row in ROWS}
    details = {row: [details_of(f"{row}-{seed}") for seed in seeds] for row in ROWS}
    looks = {row: [look_at(each) for each in of_row] for row, of_row in details.items()}
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
        "floors": floors_of(details[FULL]),
        "leak_delta": {
            metric: study.summary([each["leak_delta"][metric] for each in details[FULL]]) for metric in SHOWN
        },
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
