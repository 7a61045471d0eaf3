"""What the page of `xpronet serve` asks for, computed: a study's report, how it came about, and train studies like it.

Nothing of a study is kept: each request brings its images, which live in memory and in a folder that goes with it. One
thread calls this, as one model has one γ at a time.
"""

import base64
import binascii
import io
import re
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from PIL import Image
from pydantic import Field, ValidationError

from xpronet.app.generate import readable
from xpronet.app.given import MOST_VIEWS
from xpronet.app.pages import NOTICE
from xpronet.app.radiograph import read_radiograph
from xpronet.app.reporter import Reporter, Views, by_name
from xpronet.app.trained_with import TrainStudies, examples
from xpronet.common.params import Strict
from xpronet.labels.conditions import CONDITIONS
from xpronet.sources.dicom import is_dicom

LARGEST = 32 * 2**20  # bytes of a study's files
PIXELS = 30_000_000  # of an image; detectors give 20 million at most
SIDE = 640  # of the picture that is shown, in pixels
NEAREST = 4  # train studies


class Upload(Strict):
    name: Annotated[str, Field(max_length=1000)]
    data: str


class Request(Strict):
    """A study, and how its report is to be written."""

    images: Annotated[list[Upload], Field(min_length=1, max_length=MOST_VIEWS)]
    labels: Literal["predicted", "none"] | list[str] | None = None
    gamma: Annotated[int, Field(ge=1)] | None = None
    beam_size: Annotated[int, Field(ge=1, le=10)] | None = None
    max_length: Annotated[int, Field(ge=1, le=300)] | None = None
    stream: bool = False


def request(content: Any) -> Request:
    """ValueError, one line, where JSON is no request."""
    try:
        return Request.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(
            str(part)[:40] for part in first["loc"] if part not in ("literal['predicted','none']", "list[str]")
        )
        rule = "no such key" if first["type"] == "extra_forbidden" else first["msg"].removeprefix("Value error, ")
        raise ValueError(f"{place or 'the request'}: {rule}") from None


class Answers:
    def __init__(self, folder: Path):
        """Of a model folder; ValueError, one line, where it is none."""
        self.reporter = Reporter.load(folder)
        self.data = folder.absolute().parent
        self.train = TrainStudies(self.data) if TrainStudies.are_in(self.data) and self.reporter.classifier else None

    def about(self) -> dict[str, Any]:
        """What the page needs to know of the model before it has a study."""
        card, model = self.reporter.card, self.reporter.model
        return {
            "notice": NOTICE,
            "conditions": CONDITIONS,
            "classifier": self.reporter.classifier is not None,
            "attention": model.has_attention,
            "prototypes": len(model.prototypes) if model.has_prototypes else 0,
            "gamma": model.config.gamma if model.has_prototypes else None,
            "beam_size": card.beam_size,
            "max_length": card.max_length,
            "crop": card.crop,
            "most_images": MOST_VIEWS,
            "most_bytes": LARGEST,
            "nearest": self.train is not None,
        }

    def examples(self) -> dict[str, Any]:
        """Studies to try, and where they are from; none where the model is of data that is not beside it."""
        source, found = examples(self.data, self.reporter.card)
        return {
            "source": source,
            "studies": [
                {
                    "id": study.id,
                    "report": study.report,
                    "images": [{"name": name, "data": png(pixels)} for name, pixels in study.images],
                }
                for study in found
            ],
        }

    def report(self, asked: Request, watch: Callable[[list[str]], None] | None = None) -> dict[str, Any]:
        """The report with its explanation (docs/explanations.md) and the pictures as they are shown.

        Args:
            watch: called with the words of the leading beam as the search goes on; what it raises ends the search.

        Raises:
            ValueError: one line without a path of the machine: an image cannot be read, a setting is impossible.
        """
        reporter, words = self.reporter, self.reporter.card.vocabulary.tokens
        pictures, views = self._read(asked)

        def say(tokens: torch.Tensor) -> None:
            watch([words[token - 1] for token in tokens[0].tolist() if token])

        settings = {"max_length": asked.max_length, "gamma": asked.gamma}
        search = {**settings, "beam_size": asked.beam_size, "watch": say if watch else None}
        (report,) = reporter.write([views], labels=asked.labels, **search)
        if report.probabilities is None and reporter.classifier is not None:
            found = reporter.probabilities(reporter.batch([views]))[0]
            report = replace(report, probabilities=by_name(found))
        (content,) = reporter.explain([views], [report], **settings)
        for view, (name, pixels) in zip(content["views"], pictures, strict=True):
            view |= {"image": name, "picture": png(pixels)}
        return {
            "notice": NOTICE,
            "text": readable(report.text),
            "labels_from": report.labels_from,
            "doubts": list(report.doubts),
            "beam_size": asked.beam_size or reporter.card.beam_size,
            "max_length": asked.max_length or reporter.card.max_length,
            **content,
        }

    def nearest(self, asked: Request) -> dict[str, Any]:
        """The train studies whose images are most alike to the classifier; ValueError, one line, without any."""
        if self.train is None:
            raise ValueError("no train studies lie beside this model")
        _, views = self._read(asked)
        found = self.train.nearest(self.reporter, views, NEAREST)
        studies = [
            {
                "id": study.id,
                "similarity": round(similarity, 4),
                "report": study.report,
                "images": [png(pixels) for _, pixels in study.images],
            }
            for study, similarity in found
        ]
        return {"notice": NOTICE, "studies": studies}

    def _read(self, asked: Request) -> tuple[list[tuple[str, np.ndarray]], Views]:
        """Names and pixels (H, W) uint8 of the images as they are shown, and what the model sees of them."""
        pictures, doubts = [], []
        for position, upload in enumerate(asked.images, start=1):
            name = shown_name(upload.name) or f"image {position}"
            with tempfile.TemporaryDirectory(prefix="xpronet-") as folder:
                path = Path(folder, f"{position}{'.dcm' if is_named_dicom(name) else ''}")
                try:
                    path.write_bytes(base64.b64decode(upload.data, validate=True))
                    refuse(path)
                    pixels, odd = read_radiograph(path, size=self.reporter.card.crop, most=PIXELS)
                except binascii.Error:
                    raise ValueError(f"{name}: not base64") from None
                except ValueError as error:
                    raise ValueError(named(error, path, name)) from None
            pictures.append((name, pixels))
            doubts += [named(doubt, path, name) for doubt in odd]
        views = self.reporter.read([pixels for _, pixels in pictures])
        return pictures, views._replace(doubts=tuple(doubts))


def refuse(path: Path) -> None:
    """Raise ValueError for what is no PNG, JPEG or DICOM, by its first bytes: decoders of more formats never see it."""
    with open(path, "rb") as file:
        head = file.read(8)
    if not (is_dicom(path) or head.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"))):
        raise ValueError(f"{path}: {'neither PNG, JPEG nor DICOM' if head else 'an empty file'}")


def is_named_dicom(name: str) -> bool:
    return name.lower().endswith((".dcm", ".dicom"))


def shown_name(name: str) -> str:
    """The last part of whatever path a client gives, in a line."""
    last = re.split(r"[/\\]", name)[-1]
    return "".join(character for character in last if character.isprintable()).strip()[-80:]


def named(text: object, path: Path, name: str) -> str:
    """A line about a file, by the name that its owner knows, without any path of this machine."""
    return without_paths(" ".join(str(text).replace(str(path), name).split()))


def without_paths(text: str) -> str:
    """Without the folders of what looks like an absolute path: its name stays."""
    return re.sub(r"(?<![\w.:)/])/(?:[^\s/:]+/)*(?=[^\s/])", "", text)


def png(pixels: np.ndarray) -> str:
    """(H, W) uint8 -> the address of a picture of `SIDE` at most."""
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    picture.thumbnail((SIDE, SIDE))
    held = io.BytesIO()
    picture.save(held, "PNG")
    return f"data:image/png;base64,{base64.b64encode(held.getvalue()).decode()}"
