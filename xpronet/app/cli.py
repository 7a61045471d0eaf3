"""The command `xpronet`. Each command imports what it needs when it runs, so that --help is quick."""

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


class PublishedDataset(StrEnum):
    iu_xray = "iu_xray"
    mimic_cxr = "mimic_cxr"


@app.callback()
def xpronet() -> None:
    """Radiology reports from chest X-rays with cross-modal prototypes."""


@app.command(
    epilog="Example: xpronet import-official model_best.pth --annotation annotation.json --dataset iu_xray model"
)
def import_official(
    checkpoint: Annotated[Path, typer.Argument(help="The published checkpoint, .pth (read without running any code).")],
    out: Annotated[Path, typer.Argument(help="The model folder to make.")],
    annotation: Annotated[Path, typer.Option(help="The annotation.json that it was trained with: its vocabulary.")],
    dataset: Annotated[PublishedDataset, typer.Option(help="Which cleaner, thresholds and class order.")],
    gamma: Annotated[int, typer.Option(help="Prototypes that respond to a query: no weight tells.")] = 15,
    heads: Annotated[int, typer.Option(help="Attention heads: no weight tells.")] = 8,
    min_count: Annotated[
        int | None, typer.Option(help="Occurrences that make a word; 3 for iu_xray, 10 for mimic_cxr.")
    ] = None,
) -> None:
    """Make a model folder of a checkpoint that the published XProNet code has trained."""
    from xpronet.app.official import convert

    typer.echo(convert(checkpoint, annotation, dataset.value, out, gamma=gamma, heads=heads, min_count=min_count))


@app.command(epilog="Example: dvc repro label && xpronet doctor")
def doctor(
    prepared: Annotated[
        Path, typer.Argument(help="Folder of stage prepare, or any annotation.json: then only the text is examined.")
    ] = Path("data/prepared"),
    labels: Annotated[
        Path | None, typer.Option(help="Labels of stage label, if not labels.csv beside the folder.")
    ] = None,
    params: Annotated[Path, typer.Option(help="Parameter file: cleaning, lengths, prototypes.")] = Path("params.yaml"),
    out: Annotated[Path, typer.Option(help="Folder for doctor.json and the pictures.")] = Path("data/doctor"),
) -> None:
    """Examine a dataset before anyone trains on it: sizes, leaks, repeats, odd images, and what they mean.

    The exit code is 1 where training would break.
    """
    from rich.console import Console

    from xpronet.app.doctor import examine, show

    page = examine(prepared, labels, params, out)
    show(page, Console())
    typer.echo(f"{out}/doctor.json and pictures")
    raise typer.Exit(int(page.breaks))


def main() -> None:
    """Run; a mistake of the user's is one line (XPRONET_DEBUG=1 shows where it was noticed)."""
    try:
        app()
    except (ValueError, OSError) as error:
        if os.environ.get("XPRONET_DEBUG"):
            raise
        sys.exit(str(error))


if __name__ == "__main__":
    main()
