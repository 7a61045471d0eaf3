"""`make ablations`: the paper's Table 2 and Figures 5 and 6 as DVC experiments over seeds, and what they show."""

import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from experiments.ablations.analysis import analyse
from experiments.ablations.page import BLEU_4, PAPER, PAPER_CONSTANT, PAPER_SWEEPS, TITLES, tables
from experiments.ablations.picture import draw
from experiments.ablations.runs import plan
from experiments.markdown import put_between
from experiments.runs import run_all, seeds_of
from xpronet.common.files import read_json, write_json
from xpronet.common.params import Part, read
from xpronet.sources.params import Dataset


class Keys(Part):
    dataset: Dataset


def main(
    seeds: Annotated[str, typer.Option(help="Of training, of the four rows of Table 2.")] = "1,2,3",
    sweep_seeds: Annotated[
        str, typer.Option(help="Of these, those of the sweeps over gamma and theta; empty for none.")
    ] = "1,2,3",
    whole_seeds: Annotated[
        str, typer.Option(help="Those of XProNet and w/o CMPNet with the preset's own length; empty for none.")
    ] = "1,2,3",
    page: Annotated[Path, typer.Option(help="Markdown page to write the tables into.")] = Path("docs/ablations.md"),
    params: Annotated[Path, typer.Option(help="Parameter file: cleaning, labeller.")] = Path("params.yaml"),
    redraw: Annotated[
        bool, typer.Option("--redraw", help="Run nothing: tables and picture of the page's .json.")
    ] = False,
) -> None:
    """Run the ablations and sweeps as DVC experiments, test the differences, and write tables and a picture."""
    try:
        if redraw:
            publish(page, read_json(page.with_suffix(".json")))
            return
        wanted, swept, whole = (seeds_of(text) for text in (seeds, sweep_seeds, whole_seeds))
        if not wanted or not {*swept} <= {*wanted}:
            raise ValueError(f"--seeds {seeds!r}, --sweep-seeds {sweep_seeds!r}: the first names one, and all others")
        dataset = read(Keys, params).dataset
        if dataset != "phantom":
            raise ValueError(
                f"{params}: dataset {dataset}: this study is of the phantom; run a row by `dvc exp run -S cmpnet=false`"
                " (docs/experiments.md) and hold it against another by `xpronet compare`"
            )
        run_all(plan(wanted, swept, whole))
        result = analyse(wanted, swept, whole, params)
        write_json(page.with_suffix(".json"), result)
        publish(page, result)
    except (ValueError, OSError, subprocess.CalledProcessError) as error:
        sys.exit(str(error))
    typer.echo(tables(result))
    typer.echo(f"{page}, and beside it .json, .png and .svg")


def publish(page: Path, result: dict[str, Any]) -> None:
    """Write the tables of a study into its page, and the picture beside it."""
    put_between(page, tables(result))
    bleu_4 = {dataset: {row: scores[BLEU_4] for row, scores in rows.items()} for dataset, rows in PAPER.items()}
    draw(page.with_suffix(""), result, bleu_4, PAPER_SWEEPS, PAPER_CONSTANT, TITLES)


if __name__ == "__main__":
    typer.run(main)
