"""Reports of experiments and files beside their references: read, held to be of the same studies, and scored."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np
from dvc.api import DVCFileSystem
from dvc.exceptions import DvcException

from xpronet.app.written import SUFFIXES, cleaned, of_studies, parse_reports, read_reports
from xpronet.common.params import Part, read
from xpronet.data.params import ReportParams
from xpronet.data.reports import Vocabulary, as_published
from xpronet.data.studies import of_split, read_annotation
from xpronet.evaluation import statistics
from xpronet.evaluation.meteor import running_meteor
from xpronet.labels import labeller
from xpronet.labels.conditions import pseudo_labels
from xpronet.labels.params import LabelParams

ANNOTATION = Path("data/prepared/annotation.json")
Protocol = Literal["full", "published"]


class Keys(Part):
    """What a parameter file says that matters here."""

    reports: ReportParams
    labels: LabelParams


@dataclass(frozen=True)
class Side:
    """The reports of one experiment or file."""

    name: str
    ids: list[str]
    references: list[str]
    written: list[str]
    train: Sequence[str] = ()  # references of the train split: their words are the published protocol's
    raw: bool = True  # the reports, perhaps: ours are scored as they were written


def read_sides(names: Sequence[str], split: str, labels: str) -> list[Side]:
    """One a name: a DVC experiment, a git revision, a file of reports (.jsonl, .csv), or `workspace`: this folder.

    Args:
        labels: under which kind of labels the reports were written.

    Raises:
        ValueError: one line: a side cannot be read, or has other studies than the first.
    """
    sides = [read_side(name, split, labels) for name in names]
    for side in sides[1:]:
        check_same_studies(sides[0], side, split)
    return sides


def read_side(name: str, split: str, labels: str) -> Side:
    """A prediction file beside this folder's references, or the predictions and references of an experiment."""
    path, raw = f"data/predictions/{split}.jsonl", Path(name).suffix in SUFFIXES
    if name == "workspace" or raw:
        file = Path(path if name == "workspace" else name)
        if not file.is_file():
            raise ValueError(f"{name}: no such file of reports: {file}")
        if not ANNOTATION.is_file():
            raise ValueError(f"{name}: its references are missing: {ANNOTATION}; run `dvc repro prepare` or `dvc pull`")
        studies, reports = read_annotation(ANNOTATION), read_reports(file, labels=labels)
    else:
        try:
            experiment = DVCFileSystem(rev=name)
            text = experiment.read_text(path, encoding="utf-8")
            with TemporaryDirectory() as folder:
                experiment.get_file(str(ANNOTATION), f"{folder}/{ANNOTATION.name}")
                studies = read_annotation(f"{folder}/{ANNOTATION.name}")
        except (DvcException, OSError) as error:
            raise ValueError(
                f"{name}: no file of reports ({', '.join(SUFFIXES)}), and no experiment with {path} in the cache"
                f" ({' '.join(str(error).split())}); `dvc exp show` lists the experiments"
            ) from None
        reports = parse_reports(name, text, labels=labels)
    chosen = of_split(studies, split)
    written = of_studies(name, reports, chosen, split)
    return Side(
        name,
        [study.id for study in chosen],
        [study.report for study in chosen],
        written,
        [study.report for study in of_split(studies, "train")],
        raw=raw,
    )


def check_same_studies(first: Side, other: Side, split: str) -> None:
    """Raise ValueError, one line, where ids or references differ."""
    if first.ids == other.ids and first.references == other.references:
        return
    own, others = (set(zip(side.ids, side.references, strict=True)) for side in (first, other))
    same = len(own & others)
    raise ValueError(
        f"{first.name} and {other.name} share {same} of {len(first.ids)} and {len(other.ids)} studies of {split}:"
        " only reports of the same studies can be compared (another phantom.seed or openi.seed draws others)"
    )


def score(
    sides: Sequence[Side], params: Path, protocol: Protocol = "full"
) -> tuple[str, list[Side], list[statistics.Table]]:
    """The labeller's name, each side as it was scored, and its sums per study.

    Args:
        params: parameter file with the groups `reports` and `labels`.
        protocol: as `compare`; the words are those of the first side's train split. Labels are of whole references.
    """
    keys = read(Keys, params)
    name, classes = labeller.load(keys.labels, device="auto")

    @cache
    def label(texts: tuple[str, ...]) -> np.ndarray:
        return pseudo_labels(classes(texts), uncertain=keys.labels.uncertain)

    whole = [cleaned(side.references, keys.reports) for side in sides]
    references = whole
    if protocol == "published":
        vocabulary = Vocabulary.build(cleaned(sides[0].train, keys.reports), keys.reports.min_count)
        references = [[as_published(text, vocabulary, keys.reports.max_length) for text in texts] for texts in whole]
    scored = [
        replace(side, references=texts, written=cleaned(side.written, keys.reports) if side.raw else side.written)
        for side, texts in zip(sides, references, strict=True)
    ]
    with running_meteor() as meteor:
        tables = [
            statistics.table(
                side.references, side.written, label(tuple(texts)), label(tuple(side.written)), meteor=meteor
            )
            for side, texts in zip(scored, whole, strict=True)
        ]
    return name, scored, tables
