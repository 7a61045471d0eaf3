"""Commands about models: from elsewhere, at work on images, and to share."""

from pathlib import Path
from typing import Annotated

import typer

from xpronet.app.options import ModelFolder, PublishedDataset, check_outputs
from xpronet.common.wording import number

commands = typer.Typer()


@commands.command(
    epilog="Example: xpronet import-official model_best.pth --annotation annotation.json --dataset iu_xray model"
)
def import_official(
    checkpoint: Annotated[Path, typer.Argument(help="The published checkpoint, .pth (read without running any code).")],
    out: Annotated[Path, typer.Argument(help="The model folder to make.")],
    annotation: Annotated[Path, typer.Option(help="The annotation.json that it was trained with: its vocabulary.")],
    dataset: Annotated[
        PublishedDataset,
        typer.Option(help="Whose way of cleaning reports, least count of a word and order of the labels."),
    ],
    gamma: Annotated[
        int, typer.Option(min=1, help="Prototypes that respond to a query, as in its training: no weight tells.")
    ] = 15,
    heads: Annotated[int, typer.Option(min=1, help="Attention heads, as in its training: no weight tells.")] = 8,
    min_count: Annotated[
        int | None, typer.Option(min=1, help="Occurrences that make a word. [default: 3 for iu_xray, 10 for mimic_cxr]")
    ] = None,
    classifier: Annotated[
        Path | None, typer.Option(help="Folder of stage classify that goes with it and predicts labels from images.")
    ] = None,
) -> None:
    """Make a model folder of a checkpoint that the published XProNet code has trained."""
    from xpronet.app.official import convert

    sizes = {"gamma": gamma, "heads": heads, "min_count": min_count}
    typer.echo(convert(checkpoint, annotation, dataset.value, out, classifier=classifier, **sizes))


@commands.command(epilog="Example: xpronet generate frontal.png --model data/model")
def generate(
    images: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGE...",
            help="PNG, JPEG or DICOM files, each a study; folders, each of which is a study with its images as views;"
            " or a .csv with columns study and image.",
        ),
    ],
    model: ModelFolder = Path("data/model"),
    labels: Annotated[
        list[str] | None,
        typer.Option(
            help="Observations whose prototypes the model may use: `predicted` from the images (the default, where the"
            " folder has a classifier), `none` (all may be used), or names, as 'Edema, Fracture'."
        ),
    ] = None,
    beam_size: Annotated[
        int | None, typer.Option(min=1, help="Beams of the search. [default: the model folder's]")
    ] = None,
    max_length: Annotated[
        int | None, typer.Option(min=1, help="Most tokens of a report. [default: the model folder's]")
    ] = None,
    gamma: Annotated[
        int | None, typer.Option(min=1, help="Prototypes that respond to a query. [default: as trained]")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="JSON lines, a study each; so does --out NAME.jsonl.")] = False,
    out: Annotated[Path | None, typer.Option(help="File for the reports. [default: the terminal]")] = None,
    explain: Annotated[
        Path | None,
        typer.Option(
            help="Also write where each word looked and which prototypes it asked for: a .json, or of one study a .png"
            " or .svg."
        ),
    ] = None,
) -> None:
    """Write reports for images. Research software and no medical device.

    A study that cannot be read, or is no chest radiograph, is named at the end; the exit code is 1 then.
    """
    from xpronet.app import generate as generation
    from xpronet.app.given import studies

    given = studies(images)
    check_outputs(out, explain, read=[*images, *(image for study in given for image in study.images)])
    if out and out.suffix in (".csv", ".json"):
        raise ValueError(f"{out}: reports are written as text or as JSON lines: name a .txt or .jsonl file")
    problems = generation.generate(
        given,
        model,
        labels=labels,
        out=out,
        as_json=json or (out is not None and out.suffix == ".jsonl"),
        explain=explain,
        beam_size=beam_size,
        max_length=max_length,
        gamma=gamma,
    )
    count = len(given) - len(problems)
    for file, what in ((out, "reports"), (explain, "explanations")):
        if file:
            typer.echo(f"{file}: {what} of {number(count, 'study')}", err=True)
    if problems:
        typer.echo(generation.summary(problems, len(given)), err=True)
        raise typer.Exit(1)


@commands.command(epilog="Example: dvc repro && xpronet export published")
def export(
    out: Annotated[Path, typer.Argument(help="The folder to make.")],
    params: Annotated[Path, typer.Option(help="Parameter file: which model, dataset and labeller.")] = Path(
        "params.yaml"
    ),
    license: Annotated[
        str | None,
        typer.Option(
            help="Licence of the weights, as Hugging Face names it. [default: mit for the phantom, else other]"
        ),
    ] = None,
) -> None:
    """Put the model that was scored, its classifier and a model card with its scores into a folder to share."""
    from xpronet.app.export import export as export_model

    export_model(out, params, license=license)
    typer.echo(f"{out}: weights, classifier and a model card (README.md)")
