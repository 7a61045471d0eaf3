"""What commands of `xpronet` share: choices, options, and a look at the files that they are to write."""

import os
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class PublishedDataset(StrEnum):
    iu_xray = "iu_xray"
    mimic_cxr = "mimic_cxr"


class Split(StrEnum):
    test = "test"
    val = "val"


class LabelSource(StrEnum):
    predicted = "predicted"
    reference = "reference"
    none = "none"


SplitOption = Annotated[Split, typer.Option(help="The split whose studies are taken.")]
WrittenUnder = Annotated[
    LabelSource, typer.Option(help="Of predictions of our own: the labels that they were written under.")
]
Cleaning = Annotated[Path, typer.Option(help="Parameter file: how reports are cleaned and labelled.")]
ModelFolder = Annotated[Path, typer.Option(help="A model folder, as training, import-official and export make it.")]


def check_outputs(*files: Path | None, read: Iterable[str | Path | None] = ()) -> None:
    """Raise ValueError, one line, before any work, where an output is a folder, or a file that is to be `read`."""
    inputs = [Path(path) for path in read if path is not None and os.path.exists(path)]
    for file in filter(None, files):
        if file.is_dir():
            raise ValueError(f"{file}: a folder: name the file in it")
        if file.exists() and any(file.samefile(path) for path in inputs):
            raise ValueError(f"{file}: it is read here, and would be overwritten: name another file")
