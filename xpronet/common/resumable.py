"""Arrays on disk that are written in pieces, by any number of processes: what a killed run has done stays done."""

import json
import logging
import math
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from xpronet.common.files import FullDisk, replacing, reserve, room

if TYPE_CHECKING:  # it imports PyTorch, which not every reader of this module needs
    from xpronet.common.processes import Group

logger = logging.getLogger(__name__)


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


class Filling:
    """The pieces that are this process's to compute, and where it hands each in."""

    def __init__(self, pieces: Pieces | None, left: Sequence[int], group: "Group"):
        """`pieces`: of the first process alone."""
        self.mine = list(left[group.rank :: group.size])
        self._group, self._rounds = group, math.ceil(len(left) / group.size)
        self._arrays, self._done = pieces.open() if pieces else ([], None)

    def put(self, piece: int, rows: slice | np.ndarray, found: Sequence[np.ndarray]) -> None:
        """Of the next of `mine`, what belongs into these rows of each array; all processes hand in one by turns."""
        self._write((piece, rows, found))

    def end(self) -> None:
        """Hand in that this process has none for the last turn, and leave everything on the disk."""
        if self._rounds:
            self._write(None)
        for array in (*self._arrays, *([] if self._done is None else [self._done])):
            array.flush()

    def _write(self, own: tuple | None) -> None:
        self._rounds -= 1
        for piece, rows, found in filter(None, self._group.to_first(own)):
            for array, values in zip(self._arrays, found, strict=True):
                array[rows] = values
            self._done[piece] = 1


@contextmanager
def filling(
    paths: Sequence[str | Path],
    shapes: Sequence[tuple[int, ...]],
    *,
    pieces: int,
    key: str,
    group: "Group",
    what: str,
    later: list[Pieces] | None = None,
) -> Iterator[Filling]:
    """`Pieces` that the processes of a group compute, each its share of those that are left: whole after the block.

    Then they are moved to their places, or join `later`, for a stage that moves them at its end: DVC removes the
    results of a stage that begins again.

    The first process alone writes: two machines that write to one page of a file in a folder that both see lose what
    one of them wrote.

    Raises:
        FullDisk: there is no room for all of the files; none is left.
    """
    files = Pieces(paths, shapes, pieces=pieces, key=key) if group.first else None
    left = group.told(files and files.left())
    if files and len(left) < pieces:
        logger.info("%s: an earlier run has left %d of %d batches", what, pieces - len(left), pieces)
    work = Filling(files, left, group)
    yield work
    work.end()
    if files and later is None:
        files.finish()
    elif files:
        later.append(files)
    group.wait()


def forget_unfinished(folder: str | Path) -> None:
    """Remove what killed runs have left below `folder`, for the end of a run, when every result is whole.

    A stage whose results DVC then took from its run cache never came back for it. `raw`, which is the user's, stays.
    """
    name, own = ".*.unfinished*", [path for path in Path(folder).iterdir() if path.is_dir() and path.name != "raw"]
    for path in [*Path(folder).glob(name), *(found for each in own for found in each.rglob(name))]:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
