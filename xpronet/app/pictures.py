"""`xpronet figures`: reports of experiments side by side (Fig. 4), and scores with intervals (Fig. 5 and 6)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dvc.api
from dvc.exceptions import DvcException

from xpronet.app.sides import read_sides, score
from xpronet.app.written import SUFFIXES
from xpronet.common.wording import number
from xpronet.evaluation import statistics
from xpronet.figures import reports
from xpronet.figures import scores as drawing
from xpronet.labels.conditions import pseudo_labels
from xpronet.labels.rules import label

COLUMNS = 4  # of reports; more cannot be read


def figures(names: Sequence[str], *, split: str, labels: str, params: Path, out: Path) -> list[str]:
    """Write `reports` and `scores`, .png and .svg, to the folder `out`; a line for each says what it shows.

    Args:
        names: as `read_sides` has them; the first chooses the studies that are shown: at quantiles of its ROUGE-L.
        params: parameter file with the groups `reports` and `labels`.

    Raises:
        ValueError: one line: a side cannot be read, or two sides have other studies.
    """
    if not names or len(set(names)) < len(names):
        raise ValueError(f"figures needs one or more different names, got: {' '.join(names) or 'none'}")
    _, sides, tables = score(read_sides(names, split, labels), params)
    own = pseudo_labels(label(sides[0].references))
    rouge = tables[0].means[:, statistics.MEANS.index("ROUGE_L")]
    examples = [
        reports.Example(
            f"{sides[0].ids[row]}: {reports.names(own[row])}",
            sides[0].references[row],
            [side.written[row] for side in sides[:COLUMNS]],
        )
        for row in reports.choose(rouge, own)
    ]
    title = f"{split.capitalize()} {reports.kind(own)}, from a good report of {names[0]} to a poor one by ROUGE-L"
    reports.side_by_side(out / "reports", f"{title}. Blue: the reference's words", names[:COLUMNS], examples)
    found = [intervals(table) for table in tables]
    title = f"{number(len(own), 'study')} of {split}, {labels} labels; "
    title += "95 % intervals are of other studies, not other trainings"
    said = [f"{out}/reports.png and .svg: reports of {', '.join(names[:COLUMNS])}"]
    swept = the_parameter(names)
    if swept:
        drawing.curves(out / "scores", title, *swept, found)
        said.append(f"{out}/scores.png and .svg: scores over {swept[0]}")
    else:
        drawing.scores(out / "scores", title, dict(zip(names, found, strict=True)))
        said.append(f"{out}/scores.png and .svg: scores of {number(len(names), 'set')} of reports")
    return said


def intervals(table: statistics.Table) -> dict[str, drawing.Interval]:
    """Score, low and high of what is shown."""
    values, ends = statistics.of_all(table), statistics.intervals(table, seed=statistics.SEED)
    return {metric: (values[metric], *ends[metric]) for metric in drawing.SHOWN}


def the_parameter(names: Sequence[str]) -> tuple[str, list[float]] | None:
    """The one number, seeds aside, in which experiments differ, and its values; None where there is no such."""
    if any(Path(name).suffix in SUFFIXES for name in names):
        return None
    every = [flat(params_of(name)) for name in names]
    keys = {key for each in every for key in each if not key.startswith(("runtime.", "seed"))}
    different = [key for key in sorted(keys) if len({repr(each.get(key)) for each in every}) > 1]
    if len(different) != 1:
        return None
    values = [each.get(different[0]) for each in every]
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    return (different[0], values) if numbers else None


def params_of(name: str) -> dict[str, Any]:
    try:
        return dvc.api.params_show(rev=None if name == "workspace" else name)
    except DvcException as error:
        raise ValueError(
            f"{name}: no parameters ({' '.join(str(error).split())}): run it in the pipeline's folder"
        ) from None


def flat(params: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"train": {"lr": 1}} -> {"train.lr": 1}"""
    found = {}
    for key, value in params.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found
