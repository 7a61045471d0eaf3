"""Runs of a study, each a DVC experiment by a name of its own (`wo-pi-2`: w/o PI, seed 2), all with one budget.

A study that was interrupted goes on where it stopped: what an experiment has of this commit is not run again.
"""

import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import typer
from dvc.api import DVCFileSystem

from xpronet.training.params import TRAINED

STARTS = Path(".dvc/tmp/starts")  # copies of models that a second phase goes on from
EPOCHS = 6  # of the phantom preset's 20
BUDGET = [f"train.epochs={EPOCHS}", f"train.freeze_epochs={EPOCHS}"]


@dataclass(frozen=True)
class Run:
    """One experiment of the study."""

    row: str
    seed: int
    changes: Sequence[str]
    after: str | None = None  # the row whose model of the same seed it goes on from

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
    """Run what is missing.

    Raises:
        ValueError: parameters are not those of the commit, or DVC fails, which has said why.
    """
    if _git("status", "--porcelain", "--", "params.yaml").strip():
        raise ValueError(
            "params.yaml is not that of the commit, as `dvc exp run` leaves it where it is killed: every run would have"
            " its parameters; `git checkout HEAD params.yaml`, or commit it"
        )
    todo = [run for run in runs if not is_done(run.name)]
    typer.echo(f"{len(runs)} experiments, {len(runs) - len(todo)} of them done")
    started = time.monotonic()
    for number, run in enumerate(todo):
        left = ""
        if number:
            minutes = (time.monotonic() - started) / number * (len(todo) - number) / 60
            left = f"; about {minutes:.0f} min left"
        changes = [f"seed={run.seed}", *run.changes]
        if run.after:
            changes.append(f"train.start={model_of(f'{run.after}-{run.seed}')}")
        typer.echo(f"[{number + 1}/{len(todo)}] {run.name}: {' '.join(changes)}{left}")
        # Not --force for a name that is taken: it would run every stage again instead of what the change touches.
        subprocess.run(["dvc", "exp", "remove", run.name], capture_output=True)
        command = ["dvc", "exp", "run", "--temp", "--name", run.name]
        for change in changes:
            command += ["--set-param", change]
        if subprocess.run(command).returncode:
            raise ValueError(f"experiment {run.name} failed: {' '.join(command)}")


def model_of(name: str) -> Path:
    """A copy of the model folder of a finished experiment, where DVC's copies of the repository find it too."""
    folder = STARTS.resolve() / name
    shutil.rmtree(folder, ignore_errors=True)
    DVCFileSystem(rev=name).get(TRAINED, str(folder), recursive=True)
    return folder


def is_done(name: str) -> bool:
    """Whether an experiment of this name began at this commit; only docs, where the study writes, may differ since."""
    head = _git("rev-parse", "HEAD").strip()
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ":!docs").strip()
    return not changed and bool(_git("for-each-ref", f"refs/exps/{head[:2]}/{head[2:]}/{name}").strip())


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout
