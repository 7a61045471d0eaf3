"""`xpronet compare`: are the reports of one experiment better than another's, and on which studies?"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table as Grid

from xpronet.app.sides import Protocol, Side, read_sides, score
from xpronet.common.wording import number
from xpronet.evaluation import statistics
from xpronet.evaluation.paired import Difference, holm, paired

MOVED = 3  # studies shown at either end


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
        names: as `read_sides` has them, and which `labels` its reports were written under.
        by: one of `statistics.MEANS`, to order the studies that moved most.
        params: parameter file with the groups `reports` and `labels`: how texts are cleaned and labelled.
        protocol: `full`: against whole references; `published`: cut and with `<unk>`, as the published code scores.

    Raises:
        ValueError: one line: a side cannot be read, or two sides have other studies.
    """
    if len(names) < 2 or len(set(names)) < len(names):
        raise ValueError(f"compare needs two or more different names, got: {' '.join(names) or 'none'}")
    labeller_name, sides, tables = score(read_sides(names, split, labels), params, protocol)
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
        title = f"{number(result['studies'], 'study')} of {result['split']}, {result['protocol']} references, "
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
    marked = " (bold)" if console.color_system else ""
    rare = "so large a difference is rare where the two sets of reports are interchangeable."
    console.print(f"\np < 0.05{marked}: {rare}", highlight=False)
    console.print("p says nothing of another seed: `make ablations` compares several.")
