"""`make table1`: the systems of the paper's Table 1 as DVC experiments with equal budgets, and what they show."""

import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from experiments.markdown import put_between
from experiments.runs import run_all
from experiments.table1.analysis import analyse, plan
from experiments.table1.page import draw, tables
from xpronet.common.files import read_json, write_json


def main(
    seeds: Annotated[str, typer.Option(help="Of training.")] = "1,2",
    page: Annotated[Path, typer.Option(help="Markdown page to write the table into.")] = Path("docs/table1.md"),
    params: Annotated[Path, typer.Option(help="Parameter file: cleaning, labeller.")] = Path("params.yaml"),
    redraw: Annotated[
        bool, typer.Option("--redraw", help="Run nothing: table and picture of the page's .json.")
    ] = False,
) -> None:
    """Train every system with the same data and steps, score it, and write Table 1 with a picture."""
    try:
        if not redraw:
            wanted = [int(seed) for seed in seeds.split(",") if seed.strip()]
            if not wanted:
                raise ValueError(f"--seeds {seeds!r} names no seed")
            run_all(plan(wanted))
            write_json(page.with_suffix(".json"), analyse(wanted, params))
        result: dict[str, Any] = read_json(page.with_suffix(".json"))
        put_between(page, tables(result))
        draw(page.with_suffix(""), result)
    except (ValueError, OSError, subprocess.CalledProcessError) as error:
        sys.exit(str(error))
    typer.echo(tables(result))
    typer.echo(f"{page}, and beside it .json, .png and .svg")


if __name__ == "__main__":
    typer.run(main)
