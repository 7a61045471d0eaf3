"""Saved states of a training, each a safetensors file that is whole or not there: nothing in it is ever unpickled.

The tensors are tensors, and what is no tensor is JSON in the file's header. The states of a run lie in a folder named
after all that decides its result, so that no other run can take them for its own.
"""

import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import safetensors
from torch import Tensor

from xpronet.common.files import read_json, replacing, write_json
from xpronet.common.lock import alone
from xpronet.common.weights import not_weights, read_weights, save_tensors

logger = logging.getLogger(__name__)

KEPT = 2
STALE = 7 * 24 * 3600  # seconds after which the state of another run, which nobody has touched, is removed
_ABOUT = "run.json"


class States:
    """The states of one run, for the block in which they are entered: no second process of the same run may have them.

    Raises:
        ValueError: on entering, where the same run is alive in another process.
    """

    def __init__(self, home: str | Path, about: Mapping[str, str], *, minutes: float):
        """`home`: of all runs of a stage; `about`: whatever decides the result; `minutes`: between two states."""
        name = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]
        self.home, self.folder, self.minutes = Path(home), Path(home) / name, minutes
        self._about, self._held, self._last = dict(about), ExitStack(), time.monotonic()

    def __enter__(self) -> "States":
        lock = alone(self.folder / "lock", name="training", refused=f"{self.folder}: this very training runs already")
        self._held.enter_context(lock)
        for part in self.folder.glob(".*.part*"):  # of a save that was killed
            part.unlink()
        for path in self._numbered():
            wrong = self._wrong(path)
            if wrong:
                logger.warning("%s: %s: passed over", path, wrong)
                path.unlink()
        if not self._numbered():
            self._say_what_differs()
        write_json(self.folder / _ABOUT, self._about)
        return self

    def __exit__(self, *error) -> None:
        self._held.close()
        with suppress(OSError):  # not there or, as nearly always, not empty
            self.folder.rmdir()

    def due(self) -> bool:
        """Whether the last state is `minutes` old, or the start of the run where there is none."""
        return time.monotonic() - self._last >= 60 * self.minutes

    def save(self, step: int, content: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Write a state; the last two stay, each with the best weights that its `content["best"]` names.

        Raises:
            FullDisk: nothing has changed.
        """
        self._last = time.monotonic()
        with replacing(self.folder / f"{step:010d}.safetensors") as beside:
            save_tensors(tensors, beside, content=json.dumps(content))
            _on_disk(beside)
        self._tidy()

    def save_best(self, epoch: int, tensors: Mapping[str, Tensor]) -> None:
        """Write the weights of an epoch, before a state that names it; FullDisk as `save`."""
        with replacing(self._best(epoch)) as beside:
            save_tensors(tensors, beside)
            _on_disk(beside)
        self._tidy(self._best(epoch))

    def load(self) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, Tensor]] | None:
        """The newest state: its content, its tensors and those of its best epoch; None where there is none."""
        if not self._numbered():
            return None
        path = self._numbered()[-1]
        content = _content(path)
        return content, read_weights(path), {} if content["best"] is None else read_weights(self._best(content["best"]))

    def finish(self) -> None:
        """Remove them, when the results of the run are written.

        A folder on NFS keeps the lock under another name while it is held, so that it can only go after that.
        """
        shutil.rmtree(self.folder, ignore_errors=True)

    def _tidy(self, *also: Path) -> None:
        kept = self._numbered()[-KEPT:]
        named = {self._best(_content(path)["best"]) for path in kept}
        for path in self.folder.glob("*.safetensors"):
            if path not in {*kept, *named, *also}:
                path.unlink()

    def _numbered(self) -> list[Path]:
        return sorted(self.folder.glob("[0-9]*.safetensors"))

    def _best(self, epoch: int | None) -> Path:
        return self.folder / f"best-{epoch}.safetensors"

    def _wrong(self, path: Path) -> str | None:
        """What keeps a state from being gone on with; None where it is whole."""
        wrong = not_weights(path)
        if wrong:
            return wrong
        try:
            best = _content(path)["best"]
        except (LookupError, TypeError, ValueError):
            return "damaged in its header"
        return None if best is None else not_weights(self._best(best))

    def _others(self) -> list[Path]:
        return [path for path in self.home.iterdir() if path != self.folder and (path / _ABOUT).is_file()]

    def _say_what_differs(self) -> None:
        """From the run that was saved last; states that nobody went on with for a week are removed."""
        others = sorted((_touched(path), path) for path in self._others())
        for touched, path in others:
            if time.time() - touched > STALE:
                shutil.rmtree(path, ignore_errors=True)
                logger.info("%s: the state of another run, of %.0f days ago, is removed", path, STALE / 86400)
        if others and others[-1][1].is_dir():
            path = others[-1][1]
            try:
                lines = list(_differences(read_json(path / _ABOUT), self._about))
            except (OSError, ValueError):  # it has just ended, or its file was damaged
                return
            more = f" and {len(lines) - 4} more" if len(lines) > 4 else ""
            logger.info("%s is of another run (%s%s): this one starts afresh", path, "; ".join(lines[:4]), more)


def _touched(folder: Path) -> float:
    """When one of its files was written last; that of a run which is alive may be gone by now."""
    try:
        return max(path.stat().st_mtime for path in folder.iterdir())
    except (FileNotFoundError, ValueError):
        return time.time()


def _on_disk(path: Path) -> None:
    """Before it gets its name: what has one is whole after a crash of the machine, too."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def _differences(other: Mapping[str, str], ours: Mapping[str, str]) -> Iterator[str]:
    """Parameters with both values, then files by name."""
    differing = [key for key in {**ours, **other} if ours.get(key) != other.get(key)]
    for key in sorted(differing, key=lambda key: "/" in key):
        yield f"{key} has changed" if "/" in key else f"{key} {other.get(key)}, now {ours.get(key)}"


def _content(path: Path) -> dict[str, Any]:
    with safetensors.safe_open(path, "pt") as file:
        return json.loads(file.metadata()["content"])
