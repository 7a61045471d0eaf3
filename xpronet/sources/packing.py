"""The images of a whole dataset, decoded once and packed in the order of its studies."""

import hashlib
import json
import logging
import os
import unicodedata
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

from xpronet.common.files import raise_all
from xpronet.common.progress import track
from xpronet.common.wording import number
from xpronet.data.studies import Study, of_split
from xpronet.sources.images import Picture, decode
from xpronet.sources.pack_writer import Packed, PackWriter, pack_image
from xpronet.sources.phantom import source

logger = logging.getLogger(__name__)

CHUNK = 8  # images that a process takes at once
CHUNKS_AHEAD = 4  # per process: what may wait in memory


class Reader(Protocol):
    """Where the views of studies come from."""

    @property
    def key(self) -> str:
        """What decides which pixels `read` returns."""

    def read(self, study: Study, view: int) -> Picture:
        """ValueError where it cannot be read."""

    def stamp(self, study: Study, view: int) -> Any:
        """Changes when the pixels do, without reading them."""


@dataclass(frozen=True)
class Folder:
    """An image folder, to which the paths of studies are relative. What is a link in it is followed."""

    path: Path

    @property
    def key(self) -> str:
        return str(self.path)

    def read(self, study: Study, view: int) -> Picture:
        return decode(self._path(study.image_path[view]))

    def stamp(self, study: Study, view: int) -> Any:
        try:
            status = self._path(study.image_path[view]).stat()
        except OSError:
            return None
        return [status.st_size, status.st_mtime_ns]

    def _path(self, name: str) -> Path:
        """As it is named, or in the other of Unicode's two spellings of an accent, which copying may change."""
        spellings = (name, *(unicodedata.normalize(form, name) for form in ("NFC", "NFD")))
        return self.path / next((each for each in spellings if os.path.exists(self.path / each)), name)


@dataclass(frozen=True)
class Phantom:
    """The embedded dataset, drawn as it is read."""

    drawn: dict[str, source.PhantomStudy]
    size: int
    seed: int

    @property
    def key(self) -> str:
        return f"phantom of seed {self.seed}, {self.size} pixels"

    def read(self, study: Study, view: int) -> Picture:
        phantom = self.drawn[study.id]
        return Picture(source.draw(phantom, phantom.views[view], size=self.size))

    def stamp(self, study: Study, view: int) -> Any:
        return None


def phantom(*, train: int, val: int, test: int, size: int, seed: int) -> tuple[list[Study], Reader]:
    """The studies of the embedded dataset, and what draws their views."""
    drawn = source.studies(train=train, val=val, test=test, seed=seed)
    studies = [
        Study(
            study.id,
            study.split,
            study.findings,
            tuple(f"{study.id}/{view}.png" for view in study.views),
            study.impression,
            state=study.state,
        )
        for study in drawn
    ]
    return studies, Phantom({study.id: study for study in drawn}, size, seed)


def pack_studies(
    studies: Sequence[Study],
    reader: Reader,
    pixels: str | Path,
    index: str | Path,
    *,
    resize: int,
    crop: int,
    workers: int = 0,
    broken: Literal["fail", "drop"] = "fail",
    min_views: int = 1,
) -> tuple[list[Study], list[str]]:
    """Write the pack -> the studies as they are in it, and a line per broken image.

    Every image is decoded even after one has failed. A run that is killed or fails leaves its work beside the pack, and
    the next one goes on there. Memory does not grow with the number of images but for their rows in the index.

    Args:
        broken: `drop` leaves out images that cannot be read, and studies that have fewer than `min_views` others.

    Raises:
        ValueError: there are no studies; or images are missing or broken, which are named with their studies, and no
            pack is written. With `drop`, a split of which no image is left.
    """
    if not studies:
        raise ValueError("images: there are no studies to pack")
    views = [(study, view) for study in studies for view in range(len(study.image_path))]
    key = _key(studies, reader, broken)
    with PackWriter(pixels, index, resize=resize, crop=crop, key=key) as writer:
        done = writer.resume(lambda position: reader.stamp(*views[position]), keep_broken=broken == "drop")
        if done:
            logger.info("pack: an earlier run has left %d of %d images; going on from there", done, len(views))
        results = _in_order(_Pack(reader, resize, crop), views[done:], workers)
        for item, result in zip(
            views[done:], track(results, what="pack", unit="images", total=len(views), done=done), strict=True
        ):
            writer.add(result, reader.stamp(*item))
        kept, problems, without, start = [], [], set(), 0
        for study in studies:
            rows = writer.rows[start : start + len(study.image_path)]
            problems += [(study.split, f"study {study.id}: {row}") for row in rows if isinstance(row, str)]
            good = tuple(path for path, row in zip(study.image_path, rows, strict=True) if isinstance(row, list))
            if len(good) == len(rows) or len(good) >= min_views:
                kept.append(replace(study, image_path=good))
            else:
                without.update(range(start, start + len(rows)))
            start += len(rows)
        lines = [line for _, line in problems]
        if len(lines) == len(views) > 1:
            raise ValueError(f"images: none of {len(views)} can be read: is images.folder right? The first: {lines[0]}")
        if broken == "fail":
            raise_all("images", lines, help="images.broken=drop leaves out what cannot be read")
        for lost in {study.split: None for study in studies if not of_split(kept, study.split)}:
            first, *others = [line for split, line in problems if split == lost]
            raise ValueError(
                f"images: {1 + len(others)} in {lost} cannot be read, and no study there has {min_views} left, "
                f"the first: {first}"
            )
        for note, count in Counter(row[-2] for row in writer.rows if isinstance(row, list) and row[-2]).items():
            logger.info("pack: %s: %s", number(count, "image"), note)
        writer.finish(without)
    return kept, lines


@dataclass(frozen=True)
class _Pack:
    reader: Reader
    resize: int
    crop: int

    def __call__(self, item: tuple[Study, int]) -> Packed | str:
        study, view = item
        try:
            image = self.reader.read(study, view)
        except ValueError as error:
            return str(error)
        train = study.split == "train"
        return pack_image(image.pixels, resize=self.resize, crop=self.crop, train=train, note=image.note)


def _key(studies: Sequence[Study], reader: Reader, broken: str) -> str:
    """SHA-256 over everything that decides the pack but the pixels: studies, reader and the code of this room."""
    paths = [[study.id, study.split, study.image_path] for study in studies]
    key = hashlib.sha256(json.dumps([reader.key, broken, paths]).encode())
    for file in sorted(Path(__file__).parent.rglob("*.py")):
        key.update(file.read_bytes())
    return key.hexdigest()


def _in_order(pack: _Pack, items: Sequence, workers: int) -> Iterator[Packed | str]:
    """pack(item) of each item, on all workers, with a bounded number of results waiting."""
    if workers == 0:
        yield from map(pack, items)
        return
    waiting: deque = deque()
    with ProcessPoolExecutor(workers, initializer=_begin, initargs=(pack,)) as pool:
        try:
            for start in range(0, len(items), CHUNK):
                waiting.append(pool.submit(_chunk, items[start : start + CHUNK]))
                if len(waiting) > CHUNKS_AHEAD * workers:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        except BrokenProcessPool:
            raise ValueError(
                "images: a process that packs was killed, perhaps for want of memory; run again to go on"
            ) from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


_packs: list[_Pack] = []  # of a worker process: sent once, not with every image


def _begin(pack: _Pack) -> None:
    _packs[:] = [pack]


def _chunk(items: Iterable) -> list[Packed | str]:
    return [_packs[0](item) for item in items]
