"""Runs of a study, each a DVC experiment by a name of its own (`wo-pi-2`: w/o PI, seed 2), all with one budget.

A study that was interrupted goes on where it stopped: what an experiment has of this commit is not run again.
"""

import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass

import typer

EPOCHS = 6  # of the phantom preset's 20
BUDGET = [f"train.epochs={EPOCHS}", f"train.freeze_epochs={EPOCHS}"]


@dataclass(frozen=True)
class Run:
    """One experiment of the study."""

    row: str
    seed: int
    changes: Sequence[str]

    @property
    def name(self) -> str:
        return f"{self.row}-{self.seed}"


def seeds_of(text: str) -> list[int]:
    """`1,2,3` -> [1, 2, 3]; none of an empty text."""
    try:
        return [int(seed) for seed in text.split(",") if seed.strip()]
    except ValueError:
        raise ValueError(f"seeds {text!r}: whole numbers with commas between them, as 1,2,3") from None


def run_all(runs: Sequence[Run]) -> None:
    """Run what is missing; ValueError when DVC fails, which has said why."""
    todo = [run for run in runs if not is_done(run.name)]
    typer.echo(f"{len(runs)} experiments, {len(runs) - len(todo)} of them done")
    started = time.monotonic()
    for number, run in enumerate(todo):
        left = ""
        if number:
            minutes = (time.monotonic() - started) / number * (len(todo) - number) / 60
            left = f"; about {minutes:.0f} min left"
        changes = [f"seed={run.seed}", *run.changes]
        typer.echo(f"[{number + 1}/{len(todo)}] {run.name}: {' '.join(changes)}{left}")
        # Not --force for a name that is taken: it would run every stage again instead of what the change touches.
        subprocess.run(["dvc", "exp", "remove", run.name], capture_output=True)
        command = ["dvc", "exp", "run", "--temp", "--name", run.name]
        for change in changes:
            command += ["--set-param", change]
        if subprocess.run(command).returncode:
            raise ValueError(f"experiment {run.name} failed: {' '.join(command)}")


def is_done(name: str) -> bool:
    """Whether an experiment of this name began at this commit; only docs, where the study writes, may differ since."""
    head = _git("rev-parse", "HEAD").strip()
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ":!docs").strip()
    return not changed and bool(_git("for-each-ref", f"refs/exps/{head[:2]}/{head[2:]}/{name}").strip())


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout
