"""The images of a whole dataset, decoded once and packed in the order of its studies."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from xpronet.data.files import raise_all
from xpronet.data.images import Packed, pack_image, read_image, write_pack
from xpronet.data.phantom import source
from xpronet.data.progress import track
from xpronet.data.studies import Study

Reader = Callable[[Study, int], np.ndarray]  # study, number of the view -> (H, W) uint8


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
            study.state,
        )
        for study in drawn
    ]
    return studies, partial(_draw, {study.id: study for study in drawn}, size)


def files(folder: str | Path) -> Reader:
    """What reads the views of studies from an image folder."""
    return partial(_read, Path(folder))


def _draw(drawn: dict, size: int, study: Study, view: int) -> np.ndarray:
    phantom = drawn[study.id]
    return source.draw(phantom, phantom.views[view], size=size)


def _read(folder: Path, study: Study, view: int) -> np.ndarray:
    path = folder / study.image_path[view]
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{path}: leads out of the image folder")
    return read_image(path)


def pack_studies(
    studies: Sequence[Study],
    read: Reader,
    pixels: str | Path,
    index: str | Path,
    *,
    resize: int,
    crop: int,
    workers: int = 0,
) -> None:
    """Write the pack; every image is decoded even after one has failed.

    Raises:
        ValueError: images are missing or broken; each is named with its study, and nothing is written.
    """
    problems: list[str] = []
    views = [(study, view) for study in studies for view in range(len(study.image_path))]
    pack = partial(_pack, read, resize, crop)

    def good(results: Iterator[Packed | str]) -> Iterator[Packed]:
        for (study, _), result in track(zip(views, results, strict=True), what="pack", unit="images", total=len(views)):
            if isinstance(result, str):
                problems.append(f"study {study.id}: {result}")
            elif not problems:
                yield result
        raise_all("images", problems)

    if workers == 0:
        write_pack(pixels, index, good(map(pack, views)), resize=resize, crop=crop)
    else:
        with multiprocessing.Pool(workers) as pool:
            write_pack(pixels, index, good(pool.imap(pack, views, chunksize=8)), resize=resize, crop=crop)


def _pack(read: Reader, resize: int, crop: int, item: tuple[Study, int]) -> Packed | str:
    study, view = item
    try:
        image = read(study, view)
    except ValueError as error:
        return str(error)
    return pack_image(image, resize=resize, crop=crop, train=study.split == "train")
