"""Arrays on disk that are written in pieces, by any number of processes: what a killed run has done stays done."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from xpronet.common.files import FullDisk, replacing, reserve, room


def read_array(path: str | Path, *, rows: int, stage: str) -> np.ndarray:
    """A `.npy` file, memory-mapped: (rows, any width) float32.

    Raises:
        ValueError: no such file, or cut or something else, or of other studies: the line names the stage that makes it
            again.
    """
    try:
        found = np.lib.format.open_memmap(path, mode="r")
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; `dvc repro {stage}` makes it") from None
    except (ValueError, EOFError, OSError, OverflowError, SyntaxError):
        size = Path(path).stat().st_size
        raise ValueError(
            f"{path}: no whole array in its {size:,} bytes: cut, or another file; `dvc repro {stage}` makes it again"
        ) from None
    if found.dtype != np.float32 or found.ndim != 2 or len(found) != rows or not found.shape[1]:
        raise ValueError(
            f"{path}: {found.dtype} of shape {found.shape}, expected float32 of {rows} studies: another file, or of "
            f"other studies; `dvc repro -f {stage}` makes it again"
        )
    return found


class Pieces:
    """One or more float32 `.npy` files of the same number of rows, unfinished beside their places until `finish`.

    A byte per piece says whether it is in all of them. It is set after the rows, so a killed process leaves no piece
    that is half there.
    """

    def __init__(self, paths: Sequence[str | Path], shapes: Sequence[tuple[int, ...]], *, pieces: int, key: str):
        """`key`: whatever decides the content; the unfinished work of another key is thrown away.

        Raises:
            FullDisk: there is no room for all of the files; none is left.
        """
        self.paths = [Path(path) for path in paths]
        self._parts = [path.with_name(f".{path.stem}.unfinished.npy") for path in self.paths]
        self._done = self.paths[0].with_name(f".{self.paths[0].stem}.unfinished.done.npy")
        self._key = self.paths[0].with_name(f".{self.paths[0].stem}.unfinished.json")
        head = json.dumps({"key": key, "shapes": shapes, "pieces": pieces})
        kept = all(path.is_file() for path in (*self._parts, self._done, self._key)) and self._key.read_text() == head
        if not kept:
            self._key.unlink(missing_ok=True)
            rows = [(part, np.float32, shape) for part, shape in zip(self._parts, shapes, strict=True)]
            try:
                for part, kind, shape in (*rows, (self._done, np.uint8, (pieces,))):
                    part.parent.mkdir(parents=True, exist_ok=True)
                    with room(part, math.prod(shape) * np.dtype(kind).itemsize):
                        np.lib.format.open_memmap(part, "w+", kind, shape)
                    reserve(part)
            except FullDisk:
                for part in (*self._parts, self._done):
                    part.unlink(missing_ok=True)
                raise
            with replacing(self._key) as beside:  # last: without it, nothing before counts
                beside.write_text(head)

    def left(self) -> list[int]:
        """Pieces that are still to do."""
        return np.flatnonzero(np.load(self._done) == 0).tolist()

    def open(self) -> tuple[list[np.memmap], np.memmap]:
        """The arrays and the bytes per piece, to write to; each process opens its own."""
        return [np.load(part, mmap_mode="r+") for part in self._parts], np.load(self._done, mmap_mode="r+")

    def finish(self) -> None:
        """Move the arrays to their places."""
        assert not self.left()
        for part, path in zip(self._parts, self.paths, strict=True):
            part.replace(path)
        for path in (self._done, self._key):
            path.unlink()


def forget_unfinished(folder: str | Path) -> None:
    """Remove what killed runs have left below `folder`, for the end of a run, when every result is whole.

    A stage whose results DVC then took from its run cache never came back for it.
    """
    for path in Path(folder).rglob(".*.unfinished*"):
        path.unlink()
