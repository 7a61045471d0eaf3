"""The runs of the study: the four rows of Table 2, and the full model with other γ and θ, over seeds of training.

These have one short budget. Two of the rows are run with the preset's own length too. All share their data, and so
their test studies.
"""

from collections.abc import Sequence

from experiments.runs import BUDGET, Run

FULL = "full"
ROWS = {FULL: [], "wo-pi": ["prototype_init=random"], "wo-imlcs": ["imlcs=false"], "wo-cmpnet": ["cmpnet=false"]}
SWEEPS = {"gamma": (1, 5, 15), "theta": (1.25, 1.75, 2.0)}  # beside the preset's own 10 and 1.5
WHOLE = {"whole": [], "whole-wo-cmpnet": ROWS["wo-cmpnet"]}  # with the preset's own length


def plan(seeds: Sequence[int], sweep_seeds: Sequence[int], whole_seeds: Sequence[int]) -> list[Run]:
    """Rows, sweeps, then the runs of whole length, seed by seed, so that an interrupted study has whole seeds."""
    swept = {f"{key}-{value}": [f"{key}={value}"] for key, values in SWEEPS.items() for value in values}
    return [
        Run(row, seed, ["system=xpronet", *budget, *changes])
        for those, budget, rows in ((seeds, BUDGET, ROWS), (sweep_seeds, BUDGET, swept), (whole_seeds, [], WHOLE))
        for seed in those
        for row, changes in rows.items()
    ]
