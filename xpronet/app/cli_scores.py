"""Commands that examine: a dataset before training, reports afterwards."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from xpronet.app.options import (
    Cleaning,
    LabelSource,
    PublishedDataset,
    Split,
    SplitOption,
    WrittenUnder,
    check_outputs,
)

commands = typer.Typer()


class Protocol(StrEnum):
    full = "full"
    published = "published"


class PerStudy(StrEnum):
    rouge_l = "ROUGE_L"
    cider = "CIDEr"
    example_f1 = "example_F1"


@commands.command(epilog="Example: dvc repro label && xpronet doctor")
def doctor(
    prepared: Annotated[
        Path, typer.Argument(help="Folder of stage prepare, or any annotation.json: then only the text is examined.")
    ] = Path("data/prepared"),
    labels: Annotated[
        Path | None,
        typer.Option(
            help="Labels of stage label. [default: labels.csv beside the folder, and none for an annotation.json]"
        ),
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


@commands.command(epilog="Example: xpronet compare HEAD wo-pi other_model.jsonl")
def compare(
    sides: Annotated[
        list[str],
        typer.Argument(
            help="DVC experiments, git revisions, or files of reports, raw or cleaned: .jsonl lines {id, report}, or"
            " .csv; `workspace` is this folder. The first is the baseline."
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

    check_outputs(out, read=sides)
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


@commands.command(epilog="Example: xpronet score reports.csv --annotation annotation.json --markdown scores.md")
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

    check_outputs(out, markdown, read=(reports, annotation, chexbert))
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
