"""The runs of the study: the four rows of Table 2 over seeds, and short runs that sweep γ and θ beside the same rows.

All runs share their data, and so their test studies; a seed is one of training. The sweeps are of short runs, with the
four rows trained as short beside them: what is too early to see shows there.
"""

from collections.abc import Sequence

from experiments.runs import Run

FULL = "full"
ROWS = {FULL: [], "wo-pi": ["prototype_init=random"], "wo-imlcs": ["imlcs=false"], "wo-cmpnet": ["cmpnet=false"]}
SWEEPS = {"gamma": (1, 5, 15), "theta": (1.25, 1.75, 2.0)}  # beside the preset's own 10 and 1.5
SHORT = ["train.epochs=4", "train.freeze_epochs=4"]  # a third of the preset's steps, all with the extractor frozen


def plan(seeds: Sequence[int], short_seeds: Sequence[int]) -> list[Run]:
    """Every run, seed by seed, so that an interrupted study has whole seeds."""
    runs = [Run(row, seed, changes) for seed in seeds for row, changes in ROWS.items()]
    for seed in short_seeds:
        runs += [Run(f"short-{row}", seed, [*SHORT, *changes]) for row, changes in ROWS.items()]
        runs += [
            Run(f"{key}-{value}", seed, [*SHORT, f"{key}={value}"])
            for key, values in SWEEPS.items()
            for value in values
        ]
    return runs
