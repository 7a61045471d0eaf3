"""Studies beside a model: examples to try, and the train studies that a new one is most like.

A model folder has none of its data. Stage by stage the pipeline leaves it in the folder around: `data/model` beside
`data/prepared` and `data/features`. The phantom needs no data: it is drawn.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from xpronet.app.reporter import Reporter, Views
from xpronet.classifier.network import StudyClassifier
from xpronet.common.resumable import read_array
from xpronet.data.dataset import Batch, image_positions
from xpronet.data.pack import ImagePack
from xpronet.data.studies import Study, of_split, read_annotation
from xpronet.model.checkpoint import ModelCard
from xpronet.sources.phantom import source

EXAMPLES = 6
SEED, DRAWN, SIZE = 7, 200, 192  # of phantoms that no preset trains with, and the size that presets draw
PHANTOM = 0.75  # share of a model's words in so many phantom reports from which it is the phantom's
FILES = ("prepared/annotation.json", "prepared/images.u8", "prepared/images.jsonl")
SAME = 0.999  # cosine from which two features of a study are of one network


class Shown(NamedTuple):
    """A study that a page shows."""

    id: str
    report: str
    images: list[tuple[str, np.ndarray]]  # name and pixels (H, W) uint8 of each view


def examples(folder: Path, card: ModelCard) -> tuple[str, list[Shown]]:
    """Where they are from, in words, and up to EXAMPLES studies that the model was not trained with.

    Drawn where the model knows the phantom's words, else test studies of the data in `folder`, else none.
    """
    drawn = source.studies(train=0, val=0, test=DRAWN, seed=SEED)
    known, words = set(card.vocabulary.tokens), {word for study in drawn for word in _words(study.findings)}
    if len(known & words) > PHANTOM * len(known):
        chosen = _varied([(study, tuple(study.state["observations"])) for study in drawn if len(study.views) > 1])
        return "Drawn, not photographed: nobody's picture, and none that the model was trained with.", [
            Shown(
                study.id,
                study.findings,
                [(f"{view}.png", source.draw(study, view, size=SIZE)) for view in study.views],
            )
            for study in chosen
        ]
    if not all((folder / file).is_file() for file in FILES):
        return "No examples: the data that this model was trained with is not beside it.", []
    studies = read_annotation(folder / FILES[0])
    pack = ImagePack.of(folder / "prepared")
    positions = dict(zip([study.id for study in studies], image_positions(studies), strict=True))
    chosen = of_split(studies, "test")[:EXAMPLES]
    return "Test studies of the data beside the model, as small as the model sees them.", [
        _shown(study, pack, positions[study.id]) for study in chosen
    ]


def _words(report: str) -> list[str]:
    return report.lower().replace(".", " ").replace(",", " ").split()


def _varied(studies: list[tuple[source.PhantomStudy, tuple[str, ...]]]) -> list[source.PhantomStudy]:
    """The first EXAMPLES of which none shows just what another does."""
    first: dict[tuple[str, ...], source.PhantomStudy] = {}
    for study, observations in studies:
        first.setdefault(observations, study)
    return list(first.values())[:EXAMPLES]


def _shown(study: Study, pack: ImagePack, positions: list[int]) -> Shown:
    pack.require([positions])
    return Shown(study.id, study.report, [(f"view {n}.png", pack.square(p)) for n, p in enumerate(positions, start=1)])


class TrainStudies:
    """Those of the folder around a model: read when they are first asked for, as there may be hundreds of thousands."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._read: tuple[list[Study], list[list[int]], ImagePack, np.ndarray] | None = None

    @staticmethod
    def are_in(folder: Path) -> bool:
        return all((folder / file).is_file() for file in (*FILES, "features/visual.npy"))

    def nearest(self, reporter: Reporter, views: Views, count: int) -> list[tuple[Shown, float]]:
        """The train studies with the highest cosine similarity of features to one, and that similarity.

        Raises:
            ValueError: one line: files are not whole, or the features are of another network than the model's
                classifier, so that nothing can be compared.
        """
        studies, positions, pack, stored = self._open(reporter)
        wanted = feature(reporter.classifier, reporter.batch([views]))
        similar = np.concatenate(
            [cosine(stored[first : first + 10_000], wanted) for first in range(0, len(stored), 10_000)]
        )
        best = np.argsort(-similar, kind="stable")[:count]
        return [(_shown(studies[row], pack, positions[row]), float(similar[row])) for row in best]

    def _open(self, reporter: Reporter) -> tuple[list[Study], list[list[int]], ImagePack, np.ndarray]:
        if self._read is None:
            every = read_annotation(self.folder / FILES[0])
            pairs = [pair for pair in zip(every, image_positions(every), strict=True) if pair[0].split == "train"]
            pack = ImagePack.of(self.folder / "prepared")
            pack.require([positions for _, positions in pairs])
            stored = read_array(self.folder / "features/visual.npy", rows=len(pairs), stage="features")
            self._check(reporter, pack, pairs[0][1], stored)
            self._read = [study for study, _ in pairs], [positions for _, positions in pairs], pack, stored
        return self._read

    @staticmethod
    def _check(reporter: Reporter, pack: ImagePack, positions: list[int], stored: np.ndarray) -> None:
        """Features of other networks have nothing to do with each other, though their widths agree."""
        same = pack.crop == reporter.card.crop
        if same:
            first = feature(reporter.classifier, reporter.batch([Views(np.stack([pack.square(p) for p in positions]))]))
            same = stored.shape[1] == len(first) and cosine(stored[:1], first)[0] > SAME
        if not same:
            raise ValueError(
                "the train studies' features are of another network than this model's classifier: no comparison"
            )


@torch.inference_mode()
def feature(classifier: StudyClassifier, batch: Batch) -> np.ndarray:
    """(C,) float32: mean over a study's views of the pooled last convolution, as stage features has it."""
    pooled: list[torch.Tensor] = []
    hook = classifier.network.fc.register_forward_pre_hook(lambda module, given: pooled.append(given[0]))
    try:
        classifier(batch.images, batch.views)
    finally:
        hook.remove()
    return pooled[0].float().mean(dim=0).cpu().numpy()


def cosine(rows: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """(N,) of (N, C) with (C,)."""
    lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(wanted)
    return rows @ wanted / np.maximum(lengths, 1e-12)
