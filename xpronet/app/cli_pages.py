"""Commands that make something to look at: pages and pictures."""

from pathlib import Path
from typing import Annotated

import typer

from xpronet.app.options import (
    Cleaning,
    LabelSource,
    ModelFolder,
    PublishedDataset,
    Split,
    SplitOption,
    WrittenUnder,
    check_outputs,
)
from xpronet.common.wording import number

commands = typer.Typer()


@commands.command(epilog="Example: xpronet view data/predictions/test.jsonl --out reports.html")
def view(
    predictions: Annotated[
        list[Path],
        typer.Argument(help="One or two files of reports: JSON lines {id, report}, or .csv."),
    ],
    prepared: Annotated[
        Path, typer.Option(help="Folder of stage prepare; or an annotation.json, then without images.")
    ] = Path("data/prepared"),
    split: SplitOption = Split.test,
    labels: WrittenUnder = LabelSource.predicted,
    dataset: Annotated[
        PublishedDataset, typer.Option(help="Whose way of cleaning reports.")
    ] = PublishedDataset.iu_xray,
    out: Annotated[Path, typer.Option(help="The page; many images go to a folder beside it.")] = Path("reports.html"),
) -> None:
    """Make a page of reports beside their references and images, to open in a browser, without a server."""
    from xpronet.app.settings import SETTINGS
    from xpronet.app.view import view as make_page

    if len(predictions) > 2:
        raise ValueError(f"view shows one or two files of reports, got {len(predictions)}")
    check_outputs(out, read=(*predictions, prepared))
    params = SETTINGS[dataset.value].reports(dataset.value)
    studies = make_page(predictions, prepared, out, split=split.value, labels=labels.value, params=params)
    typer.echo(f"{out}: {number(studies, 'study')}")


@commands.command(epilog="Example: xpronet figures HEAD wo-pi wo-cmpnet")
def figures(
    sides: Annotated[
        list[str],
        typer.Argument(help="DVC experiments, git revisions, or files of reports, as of compare."),
    ],
    split: SplitOption = Split.test,
    labels: WrittenUnder = LabelSource.predicted,
    params: Cleaning = Path("params.yaml"),
    out: Annotated[Path, typer.Option(help="Folder for the pictures, PNG and SVG.")] = Path("data/figures"),
) -> None:
    """Draw reports of experiments side by side, and their scores with intervals: over the parameter that differs."""
    from xpronet.app.pictures import figures as draw

    for line in draw(sides, split=split.value, labels=labels.value, params=params, out=out):
        typer.echo(line)


@commands.command(epilog="Example: xpronet serve --port 7860")
def serve(
    model: ModelFolder = Path("data/model"),
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 7860,
    host: Annotated[str, typer.Option(help="Address to listen on; the default is for this machine alone.")] = (
        "127.0.0.1"
    ),
) -> None:
    """Open a page on which reports are written for the images that are dropped there. No medical device.

    It shows where the model looked, which prototypes a word asks for, and what other labels, γ or beams change.
    """
    from xpronet.app.serve import serve as serve_page

    serve_page(model, host, port, typer.echo)
