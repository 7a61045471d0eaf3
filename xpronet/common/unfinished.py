"""The mark in a model folder whose training has not ended: its weights are those of the best epoch so far.

It lies in the folder, so that it goes where the folder goes: a copy has it, and what DVC checks out has not.
"""

import logging
from pathlib import Path

MARK = "unfinished"

logger = logging.getLogger(__name__)


def mark(folder: Path) -> None:
    (folder / MARK).touch()


def unmark(folder: Path) -> None:
    (folder / MARK).unlink(missing_ok=True)


def warn_of(folder: Path) -> None:
    """A line in the log where the folder is marked."""
    if (folder / MARK).exists():
        logger.warning(
            "%s: its training has not ended, and these are the weights of its best epoch so far: `dvc repro`, or the "
            "command that began it, goes on with it",
            folder,
        )
