"""`make table1`: the systems of the paper's Table 1 as DVC experiments with equal budgets, and what they show."""

import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from experiments.markdown import put_between
from experiments.runs import run_all, seeds_of
from experiments.table1.analysis import REFERENCE, analyse, plan
from experiments.table1.page import draw, tables
from xpronet.common.files import read_json, write_json
from xpronet.model.params import SystemName


def main(
    seeds: Annotated[str, typer.Option(help="Of training.")] = "1,2",
    systems: Annotated[str, typer.Option(help="Which, xpronet among them; empty: all.")] = "",
    page: Annotated[Path, typer.Option(help="Markdown page to write the table into.")] = Path("docs/table1.md"),
    params: Annotated[Path, typer.Option(help="Parameter file: cleaning, labeller.")] = Path("params.yaml"),
    redraw: Annotated[
        bool, typer.Option("--redraw", help="Run nothing: table and picture of the page's .json.")
    ] = False,
) -> None:
    """Train every system with the same data and steps, score it, and write Table 1 with a picture."""
    try:
        if not redraw:
            wanted = seeds_of(seeds)
            if not wanted:
                raise ValueError(f"--seeds {seeds!r} names no seed")
            names = systems.split(",") if systems else list(get_args(SystemName))
            if REFERENCE not in names or not {*names} <= {*get_args(SystemName)}:
                raise ValueError(f"--systems {systems}: {REFERENCE} and others of {', '.join(get_args(SystemName))}")
            run_all(plan(wanted, names))
            write_json(page.with_suffix(".json"), analyse(wanted, params, names))
        result: dict[str, Any] = read_json(page.with_suffix(".json"))
        put_between(page, tables(result))
        draw(page.with_suffix(""), result)
    except (ValueError, OSError, subprocess.CalledProcessError) as error:
        sys.exit(str(error))
    typer.echo(tables(result))
    typer.echo(f"{page}, and beside it .json, .png and .svg")


if __name__ == "__main__":
    typer.run(main)
