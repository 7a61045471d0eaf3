"""A model folder that writes reports for new images, in four steps: read, batch, labels, write. `reports` takes all.

What `xpronet generate` prints and whatever else shows reports comes from here. Images are read and shrunk as stage
`prepare` packs them, and the model sees them as stage `generate` shows them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from xpronet.app.radiograph import read_radiograph
from xpronet.classifier import network
from xpronet.classifier.thresholds import decide
from xpronet.common.devices import choose
from xpronet.data.dataset import Batch, collate
from xpronet.labels.conditions import CONDITIONS
from xpronet.model import checkpoint
from xpronet.model.decoding import NoNumbers
from xpronet.model.explain import explain, to_json
from xpronet.model.system import System, name_of
from xpronet.sources.images import resize_square

BATCH = 16  # studies at once

Image = str | Path | np.ndarray  # a file, or grey values (H, W) uint8
Source = Literal["predicted", "given", "none"]  # of the labels that choose prototypes; with none, all may be queried


class Views(NamedTuple):
    """A study's images as the model sees them."""

    pixels: np.ndarray  # (V, crop, crop) uint8
    doubts: tuple[str, ...] = ()  # what is odd about the pictures
    sizes: tuple[tuple[int, int], ...] = ()  # height and width of each original


class Labels(NamedTuple):
    """Which observations' prototypes the studies of a batch may query."""

    values: np.ndarray  # (B, 14) float32 0/1
    source: Source
    probabilities: np.ndarray | None = None  # (B, 14) float32 of the classifier, where it was asked


@dataclass(frozen=True)
class Report:
    text: str  # cleaned, as the model writes: lower case, sentences ended by " ."
    log_prob: float  # summed over its tokens
    labels: tuple[str, ...]  # whose prototypes it was written with; all 14 without labels, none without prototypes
    labels_from: Source
    probabilities: dict[str, float] | None  # of each observation, where the classifier was asked
    doubts: tuple[str, ...]  # what is odd about its pictures, and whether it is cut


class Reporter:
    def __init__(
        self,
        model: System,
        card: checkpoint.ModelCard,
        classifier: tuple[network.StudyClassifier, np.ndarray] | None,
        device: torch.device,
    ):
        """`classifier`: it and its thresholds (14,), if there is one."""
        self.model, self.card, self.device = model.to(device), card, device
        self.classifier, self.thresholds = (classifier[0].to(device), classifier[1]) if classifier else (None, None)

    @classmethod
    def load(cls, folder: str | Path, *, device: str = "auto") -> "Reporter":
        """Of a model folder, with the classifier in it if there is one.

        Raises:
            ValueError: no such folder, or another one; a file in it is missing, damaged or of other observations.
        """
        folder = Path(folder)
        if not (folder / "model.json").is_file():
            what = "no model.json in it" if folder.is_dir() else "no such folder"
            raise ValueError(
                f"{folder}: {what}: name a model folder: `dvc repro` and `xpronet import-official` make one"
            )
        model, card = checkpoint.load(folder)
        if card.conditions != CONDITIONS:
            raise ValueError(f"{folder}/model.json: its labels are {', '.join(card.conditions)}: other observations")
        own = folder / "classifier"
        return cls(model, card, network.load(own) if own.exists() else None, choose(device))

    def reports(self, images: Sequence[Image | Sequence[Image]], **how) -> list[Report]:
        """A report per study, of its image or its list of images; `how`: as `write` takes it.

        Raises:
            ValueError: no list, an image that cannot be read or is no radiograph, or `how` is impossible.
        """
        if isinstance(images, str | Path):
            raise ValueError(f"{images}: one image where a list of studies is expected: reports([{str(images)!r}])")
        studies = [self.read([each] if isinstance(each, Image) else each) for each in images]
        parts = (studies[first : first + BATCH] for first in range(0, len(studies), BATCH))
        return [report for part in parts for report in self.write(part, **how)]

    def read(self, images: Sequence[Image]) -> Views:
        """One study's images; ValueError, one line, where one cannot be read or is no radiograph."""
        if not len(images):
            raise ValueError("a study without images")
        found = [read_radiograph(image, size=self.card.crop) for image in images]
        squares = [resize_square(pixels, self.card.crop) for pixels, _ in found]
        doubts = tuple(doubt for _, doubts in found for doubt in doubts)
        return Views(np.stack(squares), doubts, tuple(pixels.shape for pixels, _ in found))

    def write(
        self,
        studies: Sequence[Views],
        *,
        labels: Literal["predicted", "none"] | Sequence[str] | None = None,
        beam_size: int | None = None,
        max_length: int | None = None,
        gamma: int | None = None,
        watch: Callable[[torch.Tensor], None] | None = None,
    ) -> list[Report]:
        """The reports of one batch.

        Args:
            labels: `predicted` by the classifier; `none`: all prototypes may be queried; or names of observations.
                None: predicted where the folder has a classifier, and the model prototypes.
            beam_size, max_length: of the search; None: as the folder says.
            gamma: how many prototypes respond to a query; None: as the model was trained.
            watch: sees the search go on, as `beam_search` has it.

        Raises:
            ValueError: no such observation, no classifier, an impossible size, or a model that is broken; labels or
                `gamma` for one without prototypes.
        """
        batch = self.batch(studies)
        chosen = self.labels(batch, labels)
        search = {"beam_size": beam_size, "max_length": max_length, "gamma": gamma, "watch": watch}
        texts, log_probs = self.generate(batch, chosen.values, **search)
        rows = zip(studies, texts, log_probs, chosen.values, strict=True)
        room = self.card.max_length if max_length is None else max_length
        return [
            Report(
                text,
                log_prob,
                tuple(name for name, there in zip(CONDITIONS, values, strict=True) if there),
                chosen.source,
                None if chosen.probabilities is None else by_name(chosen.probabilities[row]),
                study.doubts + ("the report is cut at its greatest length",) * (len(text.split()) == room),
            )
            for row, (study, text, log_prob, values) in enumerate(rows)
        ]

    def explain(
        self,
        studies: Sequence[Views],
        reports: Sequence[Report],
        *,
        max_length: int | None = None,
        gamma: int | None = None,
    ) -> list[dict[str, Any]]:
        """Where the words of these studies' reports looked and what they asked for, as docs/explanations.md has it.

        Args:
            reports: what `write` made of the studies, with the same `max_length` and `gamma`.
        """
        batch, vocabulary = self.batch(studies), self.card.vocabulary
        labels = np.array([[name in report.labels for name in CONDITIONS] for report in reports], np.float32)
        most = self.card.max_length if max_length is None else max_length
        ids = [torch.tensor(vocabulary.encode(report.text)[1:][:most]) for report in reports]  # the longest have no end
        tokens = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True).to(self.device)
        self._respond(gamma)
        found = explain(self.model, batch.images, tokens, torch.from_numpy(labels).to(self.device), views=batch.views)
        return [
            to_json(
                each,
                vocabulary,
                CONDITIONS,
                crop=self.card.crop,
                sizes=study.sizes,
                probabilities=report.probabilities,
            )
            for each, study, report in zip(found, studies, reports, strict=True)
        ]

    def batch(self, studies: Sequence[Views]) -> Batch:
        """On the model's device; `.images` (B, V, 3, crop, crop) float32 and `.views` (B, V) bool are the model's."""
        items = [(study.pixels, [], np.zeros(0, np.float32), row) for row, study in enumerate(studies)]
        return collate(items).to(self.device)

    def labels(self, batch: Batch, wanted: Literal["predicted", "none"] | Sequence[str] | None = None) -> Labels:
        """Which prototypes each study may query; `wanted` as `write` has it."""
        count = len(batch.positions)
        if not self.model.has_prototypes:
            self._refuse("labels", None if wanted == "none" else wanted)
            return Labels(np.zeros((count, len(CONDITIONS)), np.float32), "none")
        if wanted is None:
            wanted = "predicted" if self.classifier else "none"
        if wanted == "predicted":
            probabilities = self.probabilities(batch)
            return Labels(decide(probabilities, self.thresholds), "predicted", probabilities)
        if wanted == "none":
            return Labels(np.ones((count, len(CONDITIONS)), np.float32), "none")
        given = named([wanted] if isinstance(wanted, str) else wanted)
        return Labels(np.tile(given, (count, 1)), "given")

    def probabilities(self, batch: Batch) -> np.ndarray:
        """(B, 14) float32 of the folder's classifier; ValueError where it has none, or a broken one."""
        if self.classifier is None:
            raise ValueError("the model folder has no classifier to predict labels by: give names, or `none`")
        found = network.probabilities(self.classifier, batch, precision="float32", device=self.device).numpy()
        if not np.isfinite(found).all():
            raise ValueError("the classifier's probabilities are no numbers: its weights are broken")
        return found

    def generate(
        self,
        batch: Batch,
        labels: np.ndarray,
        *,
        beam_size: int | None = None,
        max_length: int | None = None,
        gamma: int | None = None,
        watch: Callable[[torch.Tensor], None] | None = None,
    ) -> tuple[list[str], list[float]]:
        """Texts and log-probabilities of a batch under labels (B, 14) 0/1."""
        self._respond(gamma)
        try:
            result = self.model.generate(
                batch.images,
                torch.from_numpy(labels).to(self.device),
                views=batch.views,
                beam_size=self.card.beam_size if beam_size is None else beam_size,
                max_length=self.card.max_length if max_length is None else max_length,
                watch=watch,
            )
        except NoNumbers:
            raise ValueError("the model's log-probabilities are no numbers: its weights are broken") from None
        return [self.card.vocabulary.decode(ids) for ids in result.tokens.tolist()], result.log_probs.tolist()

    def _respond(self, gamma: int | None) -> None:
        """Let so many prototypes respond to a query from now on."""
        if self.model.has_prototypes:
            config = self.model.config if gamma is None else replace(self.model.config, gamma=gamma)
            self.model.memory.gamma = config.gamma
        else:
            self._refuse("gamma", gamma)

    def _refuse(self, name: str, asked: object) -> None:
        """Raise ValueError, one line, where something is asked that a model without prototypes has no use for."""
        if asked is not None:
            raise ValueError(f"{name}: this model, of system {name_of(self.model)}, has no prototypes: leave it out")


def named(names: Sequence[str]) -> np.ndarray:
    """(14,) float32: 1 for each observation of that name, in whatever case; ValueError, one line, for others."""
    known = {name.lower(): position for position, name in enumerate(CONDITIONS)}
    unknown = [name for name in names if name.strip().lower() not in known]
    if unknown or not names:
        what = f"no observation {', '.join(map(repr, unknown))}" if unknown else "no observation is named"
        raise ValueError(f"labels: {what}: there are {', '.join(CONDITIONS)}; or predicted, or none")
    values = np.zeros(len(CONDITIONS), np.float32)
    values[[known[name.strip().lower()] for name in names]] = 1
    return values


def by_name(values: np.ndarray) -> dict[str, float]:
    return {name: round(float(value), 4) for name, value in zip(CONDITIONS, values, strict=True)}
