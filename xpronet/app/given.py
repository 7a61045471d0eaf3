"""The studies that somebody names on the command line: files, folders of images, or a table."""

import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from xpronet.common.files import raise_all, read_table
from xpronet.sources.dicom import is_dicom

logger = logging.getLogger(__name__)

SUFFIXES = (".png", ".jpg", ".jpeg", ".dcm", ".dicom")
MOST_VIEWS = 8  # images of a folder that are views of one study; of more, each is a study of its own


class Given(NamedTuple):
    id: str
    images: tuple[Path, ...]


def studies(paths: Sequence[Path]) -> list[Given]:
    """What the paths name, in their order.

    A file is a study of one image. In a folder, and those below it, each folder that holds images is a study with these
    as its views, in the order of their names; where it holds more than MOST_VIEWS, each is a study. A .csv has columns
    `study` and `image`, whose paths are relative to the table's folder.

    Raises:
        ValueError: no such file or folder, a folder without images, no table, or two studies of one name.
    """
    found: dict[str, Given] = {}
    twice = []
    for path in paths:
        for study in _of(path):
            if found.setdefault(study.id, study).images != study.images:
                twice.append(study.id)
    if twice:
        raise ValueError(f"two studies are called {twice[0]}: name them in a table of the columns study and image")
    return list(found.values())


def _of(path: Path) -> Iterator[Given]:
    if path.is_dir():
        return _folder(path)
    if not path.exists():
        raise ValueError(f"{path}: no such file or folder")
    if path.name.lower().endswith((".csv", ".csv.gz")):
        return _table(path)
    return iter([Given(as_text(path), (path,))])


def _folder(top: Path) -> Iterator[Given]:
    empty = True
    for place, folders, names in os.walk(top, onerror=_raise):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        folder = Path(place)
        images = tuple(folder / name for name in sorted(names) if _is_image(folder / name))
        empty = empty and not images
        if len(images) > MOST_VIEWS:
            logger.warning("%s: %d images, more than the views of a study: each is a study", folder, len(images))
            yield from (Given(as_text(image.relative_to(top)), (image,)) for image in images)
        elif images:
            yield Given(as_text(folder.relative_to(top) if folder != top else Path(top.absolute().name)), images)
    if empty:
        raise ValueError(f"{top}: no image in this folder: PNG, JPEG or DICOM expected")


def _raise(error: OSError) -> None:
    raise error


def _is_image(path: Path) -> bool:
    if path.name.startswith("."):
        return False
    return path.suffix.lower() in SUFFIXES or (not path.suffix and path.is_file() and is_dicom(path))


def _table(path: Path) -> Iterator[Given]:
    views: dict[str, list[Path]] = {}
    problems = []
    for line, row in read_table(path, ("study", "image")):
        study, image = row["study"].strip(), row["image"].strip()
        if study and image:
            views.setdefault(study, []).append(path.parent / image)
        else:
            problems.append(f"line {line}: no {'image' if study else 'study'}")
    raise_all(path, problems)
    if not views:
        raise ValueError(f"{path}: no study in this table")
    return (Given(study, tuple(images)) for study, images in views.items())


def as_text(path: Path) -> str:
    """As UTF-8 can hold it, whatever the file system does."""
    return os.fsencode(path.as_posix()).decode(errors="replace")
