"""Writing a pack: images of any number, one after the other, resumable after a kill."""

import hashlib
import json
import os
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xpronet.common.files import replacing, room
from xpronet.sources.images import resize_shorter, resize_square


@dataclass(frozen=True)
class Packed:
    """What one image becomes in the pack."""

    square: np.ndarray  # (crop, crop) uint8
    train: np.ndarray | None  # (H, W) uint8, shorter side `resize`; train split only
    size: tuple[int, int]  # height and width of the original
    sha256: str  # of the original's size and pixels: the same picture in another file or format has the same
    note: str = ""  # what decoding had to assume


def pack_image(image: np.ndarray, *, resize: int, crop: int, train: bool, note: str = "") -> Packed:
    content = hashlib.sha256(f"{image.shape}".encode() + image.tobytes()).hexdigest()
    small = resize_shorter(image, resize) if train else None
    return Packed(resize_square(image, crop), small, image.shape, content, note)


class PackWriter:
    """Writes a pack beside its place and moves it there at the end; what a killed run has written is continued.

    The index is text: a JSON object with `resize` and `crop`, then a JSON list per image: offset of the square; offset,
    height and width of the train version or three zeros; height, width and SHA-256 of the original. The unfinished
    index has a `key` in its first line, note and stamp at the end of each list, and a text in place of the list where
    an image is broken.
    """

    def __init__(self, pixels: str | Path, index: str | Path, *, resize: int, crop: int, key: str):
        """`key`: whatever decides what is written; the unfinished work of another key is thrown away."""
        self._pixels, self._index = Path(pixels), Path(index)
        self._head = {"resize": resize, "crop": crop}
        self._key, self._offset = {**self._head, "key": key}, 0
        self.rows: list[list | str] = []

    def __enter__(self) -> "PackWriter":
        self._part, self._journal = (
            place.with_name(f".{place.stem}.unfinished{place.suffix}") for place in (self._pixels, self._index)
        )
        self._part.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(self._part, "ab", buffering=0)
        self._log = None
        return self

    def __exit__(self, *error) -> None:
        self._file.close()
        if self._log:
            with room(self._index):  # what a full disk has not taken yet is tried again
                self._log.close()

    def resume(self, stamp: Callable[[int], Any], *, keep_broken: bool) -> int:
        """How many images of an unfinished run stay: those before the first whose stamp has changed or that is broken.

        Args:
            stamp: position of an image -> what changes when the file does.
            keep_broken: broken images are not tried again.
        """
        lines = self._journal.read_text(encoding="utf-8").splitlines() if self._journal.exists() else []
        if lines and _line(lines[0]) == self._key:
            for position, line in enumerate(lines[1:]):
                row = _line(line)
                if isinstance(row, str) and keep_broken:
                    self.rows.append(row)
                    continue
                if not isinstance(row, list) or row[-1] != stamp(position):
                    break
                end = row[1] + row[2] * row[3] if row[1] else row[0] + self._head["crop"] ** 2
                if end > self._file.tell():
                    break
                self.rows.append(row)
                self._offset = end
        self._file.truncate(self._offset)
        with replacing(self._journal) as beside:
            beside.write_text("".join(f"{json.dumps(line)}\n" for line in (self._key, *self.rows)), encoding="utf-8")
        self._log = open(self._journal, "a", encoding="utf-8", buffering=1)  # noqa: SIM115
        return len(self.rows)

    def add(self, image: Packed | str, stamp: Any = None) -> None:
        """The next image, or why it is broken. Pixels are written at once, before the journal says so.

        Raises:
            FullDisk: there is no room; the next run goes on from the images before.
        """
        row = image
        if isinstance(image, Packed):
            row = [self._offset, 0, 0, 0, *image.size, image.sha256, image.note, stamp]
            self._write(image.square)
            if image.train is not None:
                row[1:4] = [self._offset, *image.train.shape]
                self._write(image.train)
        with room(self._index):
            self._log.write(f"{json.dumps(row)}\n")
        self.rows.append(row)

    def _write(self, pixels: np.ndarray) -> None:
        self._offset += pixels.size
        rest = memoryview(np.ascontiguousarray(pixels)).cast("B")
        with room(self._pixels, pixels.size):
            while rest:
                rest = rest[self._file.write(rest) :]

    def finish(self, without: Collection[int] = ()) -> None:
        """Move both files to their places.

        Args:
            without: positions of images that the index leaves out, as it does broken ones; their pixels stay behind.
        """
        with replacing(self._index) as beside, open(beside, "w", encoding="utf-8") as file:
            kept = (row for position, row in enumerate(self.rows) if position not in without)
            for line in (self._head, *(row[:-2] for row in kept if isinstance(row, list))):
                file.write(f"{json.dumps(line)}\n")
        os.replace(self._part, self._pixels)
        self._journal.unlink()


def _line(text: str) -> Any:
    """A line of an unfinished index; None where the run was killed within it."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return None


def write_pack(pixels: str | Path, index: str | Path, images: Iterable[Packed], *, resize: int, crop: int) -> None:
    """Write a pack of images that are at hand."""
    with PackWriter(pixels, index, resize=resize, crop=crop, key="") as writer:
        writer.resume(lambda position: "never", keep_broken=False)
        for image in images:
            writer.add(image)
        writer.finish()
