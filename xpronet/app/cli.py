"""The command `xpronet`. Each command imports what it needs when it runs, so that --help is quick."""

import logging
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from xpronet.common.threads import wait_asleep

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)


class PublishedDataset(StrEnum):
    iu_xray = "iu_xray"
    mimic_cxr = "mimic_cxr"


class Split(StrEnum):
    test = "test"
    val = "val"


class LabelSource(StrEnum):
    predicted = "predicted"
    reference = "reference"
    none = "none"


class Protocol(StrEnum):
    full = "full"
    published = "published"


class PerStudy(StrEnum):
    rouge_l = "ROUGE_L"
    cider = "CIDEr"
    example_f1 = "example_F1"


SplitOption = Annotated[Split, typer.Option(help="The split whose studies are taken.")]
WrittenUnder = Annotated[
    LabelSource, typer.Option(help="Of predictions of our own: the labels that they were written under.")
]
Cleaning = Annotated[Path, typer.Option(help="Parameter file: how reports are cleaned and labelled.")]
ModelFolder = Annotated[Path, typer.Option(help="A model folder, as training, import-official and export make it.")]


@app.callback(epilog="Example: xpronet generate frontal.png --model data/model")
def xpronet() -> None:
    """Radiology reports from chest X-rays with cross-modal prototypes.

    Training is `dvc repro`; these commands go with it, before and after. Each one's --help has an example.
    """
    logging.basicConfig(format="%(message)s")  # to standard error; of other packages warnings only
    logging.getLogger("xpronet").setLevel(logging.INFO)


@app.command(
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


@app.command(epilog="Example: xpronet generate frontal.png --model data/model")
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

    refuse_folders(out, explain)
    given = studies(images)
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
    if out:
        typer.echo(f"{out}: {len(given) - len(problems):,} studies", err=True)
    if problems:
        typer.echo(generation.summary(problems, len(given)), err=True)
        raise typer.Exit(1)


@app.command(epilog="Example: dvc repro && xpronet export published")
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


@app.command(epilog="Example: dvc repro label && xpronet doctor")
def doctor(
    prepared: Annotated[
        Path, typer.Argument(help="Folder of stage prepare, or any annotation.json: then only the text is examined.")
    ] = Path("data/prepared"),
    labels: Annotated[
        Path | None, typer.Option(help="Labels of stage label. [default: labels.csv beside the folder]")
    ] = None,
    params: Annotated[
        Path, typer.Option(help="Parameter file: how reports are cleaned and cut, number of prototypes.")
    ] = Path("params.yaml"),
    out: Annotated[Path, typer.Option(help="Folder for doctor.json and the pictures.")] = Path("data/doctor"),
) -> None:
    """Examine a dataset before anyone trains on it: sizes, leaks, repeats, odd images, and what they mean.

    The exit code is 1 where training would break.
    """
    from rich.console import Console

    from xpronet.app.doctor import examine
    from xpronet.app.doctor_page import show

    page = examine(prepared, labels, params, out)
    show(page, Console())
    typer.echo(f"{out}/doctor.json and pictures")
    raise typer.Exit(int(page.breaks))


@app.command(epilog="Example: xpronet compare HEAD wo-pi other_model.jsonl")
def compare(
    sides: Annotated[
        list[str],
        typer.Argument(
            help="DVC experiments, git revisions, or .jsonl files of lines {id, report}, raw or cleaned;"
            " `workspace` is this folder. The first is the baseline."
        ),
    ],
    split: SplitOption = Split.test,
    labels: WrittenUnder = LabelSource.predicted,
    by: Annotated[PerStudy, typer.Option(help="What the studies that moved most are ordered by.")] = PerStudy.rouge_l,
    protocol: Annotated[
        Protocol, typer.Option(help="References: whole (full), or cut and with <unk> as the published code scores.")
    ] = Protocol.full,
    params: Cleaning = Path("params.yaml"),
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of the random draws.")] = 1,
    out: Annotated[Path, typer.Option(help="Where the JSON goes.")] = Path("data/comparison.json"),
) -> None:
    """Test whether reports differ from a baseline's (paired bootstrap, approximate randomisation), and show where."""
    from rich.console import Console

    from xpronet.app.compare import compare as compare_reports
    from xpronet.app.compare import show
    from xpronet.common.files import write_json

    refuse_folders(out)
    result = compare_reports(
        sides,
        split=split.value,
        labels=labels.value,
        by=by.value,
        params=params,
        protocol=protocol.value,
        seed=seed,
    )
    write_json(out, result)
    show(result, Console())
    typer.echo(f"\n{out}")


@app.command(epilog="Example: xpronet score reports.csv --annotation annotation.json --markdown scores.md")
def score(
    reports: Annotated[
        Path, typer.Argument(help="JSON lines {id, report}, or a .csv with columns id and report; raw or cleaned.")
    ],
    annotation: Annotated[Path, typer.Option(help="annotation.json with the references, and train for the floors.")],
    split: SplitOption = Split.test,
    dataset: Annotated[
        PublishedDataset,
        typer.Option(help="Whose way of cleaning reports, and lengths and words of the published protocol."),
    ] = PublishedDataset.iu_xray,
    labels: WrittenUnder = LabelSource.predicted,
    chexbert: Annotated[Path | None, typer.Option(help="Label by this CheXbert checkpoint, not by rules.")] = None,
    out: Annotated[Path, typer.Option(help="Where the JSON goes.")] = Path("scores.json"),
    markdown: Annotated[Path | None, typer.Option(help="Where the table goes, as Markdown.")] = None,
) -> None:
    """Score any model's reports: lexical and clinical, with intervals, beside floors and by the published protocol."""
    from rich.console import Console

    from xpronet.app import score as scoring
    from xpronet.app.settings import SETTINGS
    from xpronet.common.files import replacing, write_json
    from xpronet.labels.params import LabelParams

    refuse_folders(out, markdown)
    result = scoring.score(
        reports,
        annotation,
        split=split.value,
        labels=labels.value,
        params=SETTINGS[dataset.value].reports(dataset.value),
        labelling=LabelParams(
            labeller="chexbert" if chexbert else "rules",
            section="findings",
            uncertain="positive",
            chexbert_path=str(chexbert) if chexbert else None,
            file=None,
            file_order="chexbert",
            threshold=None,
        ),
    )
    write_json(out, result)
    scoring.show(result, Console())
    typer.echo(f"\n{out}")
    if markdown:
        with replacing(markdown) as beside:
            beside.write_text(scoring.markdown(result), encoding="utf-8")
        typer.echo(markdown)


@app.command(epilog="Example: xpronet view data/predictions/test.jsonl --out reports.html")
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
    refuse_folders(out)
    params = SETTINGS[dataset.value].reports(dataset.value)
    studies = make_page(predictions, prepared, out, split=split.value, labels=labels.value, params=params)
    typer.echo(f"{out}: {studies:,} studies")


@app.command(epilog="Example: xpronet figures HEAD wo-pi wo-cmpnet")
def figures(
    sides: Annotated[
        list[str],
        typer.Argument(help="DVC experiments, git revisions, or .jsonl files, as of compare."),
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


@app.command(epilog="Example: xpronet serve --port 7860")
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


def refuse_folders(*files: Path | None) -> None:
    """Raise ValueError, one line, where a folder is named for a file, before the minutes that scoring takes."""
    for file in filter(None, files):
        if file.is_dir():
            raise ValueError(f"{file}: a folder: name the file in it")


def main() -> None:
    """Run; a mistake of the user's is one line (XPRONET_DEBUG=1 shows where it was noticed)."""
    wait_asleep()
    try:
        app()
    except (ValueError, OSError) as error:
        if os.environ.get("XPRONET_DEBUG"):
            raise
        sys.exit(str(error))
    except (MemoryError, RuntimeError) as error:
        from xpronet.common.shortage import explain

        line = explain(error)
        if line is None or os.environ.get("XPRONET_DEBUG"):
            raise
        sys.exit(line)


if __name__ == "__main__":
    main()
