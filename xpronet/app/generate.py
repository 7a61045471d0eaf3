"""`xpronet generate`: reports for many studies, a batch in memory at a time, as text or JSON lines."""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from xpronet.app.explained import Explained, check_explain, explanations
from xpronet.app.given import Given, as_text
from xpronet.app.pages import NOTICE
from xpronet.app.reporter import BATCH, Report, Reporter, Views, named
from xpronet.common.files import replacing
from xpronet.common.progress import track
from xpronet.model.system import name_of


def generate(
    studies: Sequence[Given],
    model: Path,
    *,
    labels: Sequence[str] | None,
    out: Path | None,
    as_json: bool,
    explain: Path | None = None,
    **search,
) -> list[str]:
    """Write the studies' reports to a file or to standard output, in their order -> a line per study that has none.

    Args:
        labels: as `chosen` takes them.
        explain: the file that says how they came about.
        search: `beam_size`, `max_length`, `gamma`, as `Reporter.write` takes them.

    Raises:
        ValueError: the model folder or the labels are wrong, or no study at all could be read.
    """
    labels = chosen(labels)
    if explain:
        check_explain(explain, len(studies))
    reporter = Reporter.load(model)
    if explain and not reporter.model.has_attention:
        raise ValueError(f"--explain {explain}: system {name_of(reporter.model)} has no attention to show")
    problems: list[str] = []
    quiet = len(studies) == 1 or (out is None and sys.stdout.isatty())  # then the reports show how far it is
    shown = studies if quiet else track(studies, what="generate", unit="studies", total=len(studies))
    with explanations(explain) if explain else nullcontext() as explained:
        written = stream(reporter, shown, problems, explained, labels=labels, **search)
        first = next(written, None)
        if first is None:
            raise ValueError(summary(problems, len(studies)))
        with _opened(out) as file:
            say = _json_lines(file) if as_json else _text(file, model, reporter)
            say(*first)
            for study, report in written:
                say(study, report)
    return problems


def chosen(labels: Sequence[str] | None) -> str | list[str] | None:
    """What `--labels` says: one of `predicted` and `none`, or names of observations, in one value or several."""
    if not labels:
        return None
    names = [name.strip() for value in labels for name in value.split(",")]
    if len(names) == 1 and names[0].lower() in ("predicted", "none"):
        return names[0].lower()
    named(names)
    return names


def stream(
    reporter: Reporter,
    studies: Iterator[Given] | Sequence[Given],
    problems: list[str],
    explained: Explained | None = None,
    **how,
) -> Iterator[tuple[Given, Report]]:
    """Studies and their reports, in order; of those that cannot be read a line goes to `problems`.

    `explained` gets how each came about.
    """
    waiting: list[tuple[Given, Views]] = []
    for study in studies:
        try:
            waiting.append((study, reporter.read(study.images)))
        except ValueError as error:
            alone = study.images == (Path(study.id),)  # then the error names it already
            problems.append(str(error) if alone else f"study {study.id}: {error}")
        if len(waiting) == BATCH:
            yield from _written(reporter, waiting, explained, how)
            waiting = []
    if waiting:
        yield from _written(reporter, waiting, explained, how)


def _written(
    reporter: Reporter, waiting: list[tuple[Given, Views]], explained: Explained | None, how: dict
) -> Iterator[tuple[Given, Report]]:
    studies, views = zip(*waiting, strict=True)
    reports = reporter.write(views, **how)
    if explained:
        records = reporter.explain(views, reports, max_length=how.get("max_length"), gamma=how.get("gamma"))
        for each in zip(studies, views, reports, records, strict=True):
            explained(*each)
    yield from zip(studies, reports, strict=True)


def summary(problems: Sequence[str], count: int) -> str:
    """What is said at the end of the studies without a report."""
    if count == 1:
        return problems[0]
    return "\n  ".join([f"{len(problems):,} of {count:,} studies have no report:", *problems])


@contextmanager
def _opened(out: Path | None) -> Iterator[TextIO]:
    if out is None:
        yield sys.stdout
        return
    with replacing(out) as beside, open(beside, "w", encoding="utf-8") as file:
        yield file


def record(study: Given, report: Report) -> dict[str, Any]:
    """A study as a line of JSON says it."""
    return {
        "id": study.id,
        "images": [as_text(image) for image in study.images],
        "report": report.text,
        "log_prob": round(report.log_prob, 4),
        "labels": list(report.labels),
        "labels_from": report.labels_from,
        "probabilities": report.probabilities,
        "doubts": list(report.doubts),
    }


def _json_lines(file: TextIO):
    notice = {"notice": NOTICE}  # once, with the first study: every line is a report, for `xpronet score` too

    def say(study: Given, report: Report) -> None:
        file.write(f"{json.dumps({**record(study, report), **notice}, ensure_ascii=False, allow_nan=False)}\n")
        file.flush()
        notice.clear()

    return say


def _text(file: TextIO, model: Path, reporter: Reporter):
    console = Console(file=file, highlight=False, soft_wrap=not file.isatty())
    console.print(Text(NOTICE, "dim"))
    none = "none: every prototype may be asked" + ("" if reporter.classifier else f" ({model} has no classifier)")
    sources = {"predicted": f"predicted from the images by {model}/classifier", "given": "as given"}

    def line(text: str, style: str = "") -> None:
        """Indented; on a terminal each of its lines is."""
        console.print(Padding(Text(text, style), (0, 0, 0, 2)) if console.is_terminal else Text(f"  {text}"))

    def say(study: Given, report: Report) -> None:
        console.print()
        console.print(Text(study.id, "bold"))
        if reporter.model.has_prototypes:  # others read no labels
            labels = f"{', '.join(_with_probability(report))} ({sources.get(report.labels_from)})"
            line(f"labels: {none if report.labels_from == 'none' else labels}", "dim")
        for doubt in report.doubts:
            line(f"odd: {doubt}", "yellow")
        line(readable(report.text))
        file.flush()

    return say


def _with_probability(report: Report) -> Iterator[str]:
    for name in report.labels:
        yield f"{name} {report.probabilities[name]:.2f}" if report.probabilities else name


def readable(text: str) -> str:
    """Cleaned sentences with capitals and points where a reader expects them."""
    sentences = [sentence.strip() for sentence in text.split(" .")]
    return " ".join(f"{sentence[0].upper()}{sentence[1:]}." for sentence in sentences if sentence)
