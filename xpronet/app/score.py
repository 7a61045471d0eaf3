"""`xpronet score`: any model's reports scored as ours are, beside floors; no training, no DVC and no image needed."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table as Grid

from xpronet.app.written import cleaned, of_studies, read_reports
from xpronet.common.progress import track
from xpronet.common.wording import number
from xpronet.data.params import ReportParams
from xpronet.data.reports import Vocabulary, as_published
from xpronet.data.studies import SPLITS, Study, of_split, read_annotation
from xpronet.evaluation import floors, lexical, statistics
from xpronet.evaluation.diversity import diversity
from xpronet.evaluation.meteor import running_meteor
from xpronet.labels import agreement, labeller
from xpronet.labels.conditions import pseudo_labels
from xpronet.labels.params import LabelParams
from xpronet.labels.table import read_labels

logger = logging.getLogger(__name__)

SHOWN = (*lexical.METRICS, "micro_F1_14", "macro_F1_14", "micro_F1_5", "macro_F1_5", "example_F1")


def score(
    reports: Path, annotation: Path, *, split: str, labels: str, params: ReportParams, labelling: LabelParams
) -> dict[str, Any]:
    """Scores, intervals, floors, strata and the published protocol of one file of reports.

    Args:
        reports: JSON lines or a .csv, as `written.read_reports`; reports and references are cleaned alike.
        annotation: references; its train split makes the published protocol's words and the floors.
        labels: under which kind of labels the reports were written, where the file is stage `generate`'s.

    Raises:
        ValueError: one line: a file cannot be read, an empty split, or studies without a report.
    """
    studies = read_annotation(annotation)
    splits = {name: of_split(studies, name) for name in SPLITS}
    if not splits[split]:
        raise ValueError(f"{annotation}: no study in split {split}")
    written = read_reports(reports, labels=labels)
    hypotheses = cleaned(of_studies(reports, written, splits[split], split), params)
    references = {name: cleaned((study.report for study in chosen), params) for name, chosen in splits.items()}
    name, classes = labeller.load(labelling, device="auto")

    def label(texts: Sequence[str]) -> np.ndarray:
        return pseudo_labels(classes(texts), uncertain=labelling.uncertain)

    own_labels = label(references[split])
    groups = statistics.groups_of(own_labels, references[split], set(references["train"]))
    vocabulary = Vocabulary.build(references["train"], params.min_count)
    cut = [as_published(text, vocabulary, params.max_length) for text in references[split]]
    with running_meteor() as meteor:

        def table(texts: Sequence[str]) -> statistics.Table:
            return statistics.table(references[split], texts, own_labels, label(texts), meteor=meteor)

        found = table(hypotheses)
        published = lexical.score(cut, hypotheses, meteor=meteor) if references["train"] else None  # row 23
        below = track(floors_of(annotation, studies, references, split).items(), what="floors", unit="floors")
        return {
            "reports": str(reports),
            "annotation": str(annotation),
            "split": split,
            "studies": len(hypotheses),
            "not_in_split": len(written.keys() - {study.id for study in splits[split]}),
            "labeller": name,
            "scores": {**statistics.of_all(found), **agreement.precision_recall(found.hits)},
            "diversity": diversity(references[split], hypotheses, seed=statistics.SEED),
            "intervals": statistics.intervals(found, seed=statistics.SEED),
            "floors": {floor: statistics.of_all(table(texts)) for floor, texts in below},
            "published_protocol": published,
            "observations": agreement.observations(found.hits),
            "strata": statistics.strata(found, groups),
        }


def floors_of(
    annotation: Path, studies: Sequence[Study], references: dict[str, list[str]], split: str
) -> dict[str, list[str]]:
    """Those that texts allow; where the annotation is stage prepare's and features lie beside it, those of images too.

    None where there is no train or no validation split to choose them by.
    """
    if not (references["train"] and references["val"]):
        logger.warning("%s has no train or no val split: no floors", annotation)
        return {}
    folder = annotation.absolute().parent.parent
    wanted = ("labels.csv", "predicted_labels.csv", "features/visual.npy", "features/held_out.npy")
    if annotation.absolute().parent.name == "prepared" and all((folder / name).exists() for name in wanted):
        predicted = read_labels(folder / "predicted_labels.csv", of_split(studies, split))
        return floors.of_folder(folder, studies, references)(split, predicted)
    constant = floors.best_constant(references["train"], references["val"])
    return {"constant": [constant] * len(references[split])}


def rows_of(result: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Heads and rows of the table that a person reads."""
    heads = ["", "score", "95 % interval", *(name.replace("_", " ") for name in result["floors"])]
    protocol = result["published_protocol"]
    if protocol:
        heads.append("published protocol")  # of the scores under test
    rows = []
    for metric in SHOWN:
        low, high = result["intervals"][metric]
        row = [metric, f"{result['scores'][metric]:.3f}", f"{low:.3f}–{high:.3f}"]
        row += [f"{floor[metric]:.3f}" for floor in result["floors"].values()]
        if protocol:
            row.append(f"{protocol[metric]:.3f}" if metric in protocol else "–")
        rows.append(row)
    return heads, rows


def title_of(result: dict[str, Any]) -> str:
    floors = ", ".join(name.replace("_", " ") for name in result["floors"])
    return (
        f"{number(result['studies'], 'study')} of {result['split']}; F1 by labeller {result['labeller']}; "
        f"{number(result['diversity']['distinct_reports'], 'different report')}; "
        + (f"floors, which need no decoder: {floors}" if floors else "no floors")
    )


def show(result: dict[str, Any], console: Console) -> None:
    """The scores in a terminal."""
    heads, rows = rows_of(result)
    console.print(f"\n{title_of(result)}", highlight=False)
    grid = Grid(box=None, padding=(0, 1, 0, 0), collapse_padding=True)
    for column, head in enumerate(heads):
        grid.add_column("\n".join(head.rsplit(" ", 1)), justify="right" if column else "left", no_wrap=True)
    for row in rows:
        grid.add_row(*row)
    console.print(grid)
    if result["diversity"]["collapsed"]:
        console.print("Hardly any two reports differ: collapsed.")
    if result["not_in_split"]:
        console.print(f"Left out: {number(result['not_in_split'], 'report')} of other studies.")


def markdown(result: dict[str, Any]) -> str:
    """The same table for a paper."""
    heads, rows = rows_of(result)
    lines = [heads, ["---"] + ["---:"] * (len(heads) - 1), *rows]
    return f"{title_of(result)}.\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)
