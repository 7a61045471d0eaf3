"""`xpronet compare`: are the reports of one experiment better than another's, and on which studies?"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
from dvc.api import DVCFileSystem
from dvc.exceptions import DvcException
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table as Grid

from xpronet.app.written import SUFFIXES, cleaned, of_studies, parse_reports, read_reports
from xpronet.common.params import Part, read
from xpronet.data.params import ReportParams
from xpronet.data.reports import Vocabulary, as_published
from xpronet.data.studies import of_split, read_annotation
from xpronet.evaluation import statistics
from xpronet.evaluation.meteor import running_meteor
from xpronet.evaluation.paired import Difference, holm, paired
from xpronet.labels import labeller
from xpronet.labels.conditions import pseudo_labels
from xpronet.labels.params import LabelParams

ANNOTATION = Path("data/prepared/annotation.json")
Protocol = Literal["full", "published"]
MOVED = 3  # studies shown at either end


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


def compare(
    names: Sequence[str],
    *,
    split: str,
    labels: str,
    by: str,
    params: Path,
    protocol: Protocol = "full",
    seed: int = 1,
) -> dict[str, Any]:
    """Every one of `names` against the first: what `xpronet compare` writes as JSON.

    Reports of a file are cleaned as references are; those of an experiment are scored as its metrics score them.

    Args:
        names: DVC experiments, git revisions, or files of reports (.jsonl, .csv); `workspace` is this folder.
        labels: under which kind of labels the reports were written.
        by: one of `statistics.MEANS`, to order the studies that moved most.
        params: parameter file with the groups `reports` and `labels`: how texts are cleaned and labelled.
        protocol: `full`: against whole references; `published`: cut and with `<unk>`, as the published code scores.

    Raises:
        ValueError: one line: a side cannot be read, or two sides have other studies.
    """
    if len(names) < 2 or len(set(names)) < len(names):
        raise ValueError(f"compare needs two or more different names, got: {' '.join(names) or 'none'}")
    sides = [read_side(name, split, labels) for name in names]
    for side in sides[1:]:
        check_same_studies(sides[0], side, split)
    labeller_name, sides, tables = score(sides, params, protocol)
    found = [paired(tables[0], table, seed=seed) for table in tables[1:]]
    corrected = {metric: holm([each[metric].p for each in found]) for metric in found[0]}
    return {
        "baseline": names[0],
        "split": split,
        "labels": labels,
        "protocol": protocol,
        "studies": len(sides[0].ids),
        "labeller": labeller_name,
        "comparisons": [
            {
                "name": side.name,
                "metrics": {
                    metric: _row(difference, corrected[metric][place]) for metric, difference in differences.items()
                },
                "moved_by": by,
                "moved": _moved(sides[0], side, tables[0], table, by),
            }
            for place, (side, table, differences) in enumerate(zip(sides[1:], tables[1:], found, strict=True))
        ],
    }


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


def _row(difference: Difference, p_holm: float) -> dict[str, Any]:
    return {
        "a": difference.a,
        "b": difference.b,
        "difference": difference.value,
        "interval": [difference.low, difference.high],
        "p": difference.p,
        "p_holm": p_holm,
    }


def _moved(
    first: Side, other: Side, a: statistics.Table, b: statistics.Table, by: str
) -> dict[str, list[dict[str, Any]]]:
    """The studies that gained and lost most."""
    change = (b.means - a.means)[:, statistics.MEANS.index(by)]
    order = np.argsort(change, kind="stable")

    def study(row: int) -> dict[str, Any]:
        texts = {"reference": first.references[row], "a": first.written[row], "b": other.written[row]}
        return {"id": first.ids[row], "change": float(change[row]), **texts}

    return {
        "gained": [study(row) for row in order[::-1][:MOVED] if change[row] > 0],
        "lost": [study(row) for row in order[:MOVED] if change[row] < 0],
    }


def show(result: dict[str, Any], console: Console) -> None:
    """The comparison in a terminal."""
    several = len(result["comparisons"]) > 1
    for each in result["comparisons"]:
        title = f"{result['studies']:,} studies of {result['split']}, {result['protocol']} references, "
        title += f"our own predictions under {result['labels']} labels"
        grid = Grid("", title=f"\n{title}", title_justify="left", box=None)
        for column in (result["baseline"], each["name"], "difference", "95 % interval", "p", *["p, Holm"] * several):
            grid.add_column(escape(column), justify="right")
        for metric, row in each["metrics"].items():
            low, high = row["interval"]
            numbers = [f"{row['a']:.3f}", f"{row['b']:.3f}", f"{row['difference']:+.3f}", f"{low:+.3f} … {high:+.3f}"]
            p = [f"{row[key]:.4f}" for key in ("p", *["p_holm"] * several)]
            grid.add_row(metric, *numbers, *p, style="bold" if row["p_holm" if several else "p"] < 0.05 else "dim")
        console.print(grid)
        for kind, studies in each["moved"].items():
            if studies:
                console.print(f"\n{kind} most in {each['moved_by']}", highlight=False)
            for study in studies:
                console.print(f"  [bold]{escape(study['id'])}[/bold] {study['change']:+.3f}", highlight=False)
                for name, key in (("reference", "reference"), (result["baseline"], "a"), (each["name"], "b")):
                    console.print(Padding(f"[dim]{escape(name)}:[/dim] {escape(study[key])}", (0, 0, 0, 4)))
    console.print("\nBold: p < 0.05; so large a difference is rare where the two sets of reports are interchangeable.")
    console.print("p says nothing of another seed: `make ablations` compares several.")
