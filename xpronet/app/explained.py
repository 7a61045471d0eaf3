"""`--explain FILE`: how reports came about, as JSON, or as a picture where there is one study."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from xpronet.app.given import Given, as_text
from xpronet.app.pages import NOTICE
from xpronet.app.reporter import Report, Views
from xpronet.common.files import replacing

PICTURES = (".png", ".svg")

Explained = Callable[[Given, Views, Report, dict[str, Any]], None]  # takes what `Reporter.explain` says of a study


def check_explain(path: Path, studies: int) -> None:
    """ValueError, one line, where a file of that name cannot hold the explanations of so many studies."""
    if path.suffix not in (".json", *PICTURES):
        raise ValueError(f"--explain {path}: name a .json, .png or .svg file")
    if path.suffix in PICTURES and studies != 1:
        raise ValueError(f"--explain {path}: a picture shows one study, and {studies} are named: take one, or a .json")


@contextmanager
def explanations(path: Path) -> Iterator[Explained]:
    """What takes the explanations of studies, one after the other, and keeps none; the file is there at the end."""
    with _picture(path) if path.suffix in PICTURES else _json(path) as say:
        yield say


@contextmanager
def _json(path: Path) -> Iterator[Explained]:
    with replacing(path) as beside, open(beside, "w", encoding="utf-8") as file:
        between = "\n"

        def say(study: Given, views: Views, report: Report, record: dict[str, Any]) -> None:
            nonlocal between
            about = {"id": study.id, "images": [as_text(image) for image in study.images]}
            content = {**about, "labels_from": report.labels_from, **record}
            text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
            file.write(f"{between}{text}")
            between = ",\n"

        file.write(f'{{"notice": {json.dumps(NOTICE)}, "studies": [')
        yield say
        file.write("\n]}\n")


@contextmanager
def _picture(path: Path) -> Iterator[Explained]:
    from xpronet.figures.explanation import explanation_picture

    def say(study: Given, views: Views, report: Report, record: dict[str, Any]) -> None:
        title = f"How the report of {study.id} came about"
        explanation_picture(path, record, views.pixels, title=title, note=NOTICE)

    yield say
