"""Reports that some model has written, from a file, and cleaned as references are."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from xpronet.common.files import json_lines, keyed, read_table, read_text
from xpronet.data.params import ReportParams
from xpronet.data.reports import UNKNOWN
from xpronet.data.studies import Study

SUFFIXES = (".jsonl", ".csv")
TEXT_COLUMNS = ("report", "text")


def read_reports(path: str | Path, *, labels: str = "predicted") -> dict[str, str]:
    """id -> report, raw or cleaned, of JSON lines (`parse_reports`) or of a .csv with columns id and report, or text.

    Raises:
        ValueError: no such file, another form, or two reports of one id.
    """
    if Path(path).suffix != ".csv":
        return parse_reports(path, read_text(path), labels=labels)
    rows = read_table(path, ("id",), one_of=TEXT_COLUMNS)
    texts = ((line, row["id"], next(row[name] for name in TEXT_COLUMNS if name in row)) for line, row in rows)
    return keyed(path, ((line, id, text.strip()) for line, id, text in texts))


def parse_reports(name: str | Path, text: str, *, labels: str) -> dict[str, str]:
    """id -> report of JSON lines: stage `generate`'s, or of another model {"id": …, "report": …}."""

    def reports() -> Iterator[tuple[int, str, str]]:
        for line, record in json_lines(text, name):
            try:
                report = record["report"] if "report" in record else record[labels]["report"]
                yield line, str(record["id"]), str.strip(report)
            except (KeyError, TypeError, AttributeError):
                forms = f'{{"id": …, "report": …}} or {{"id": …, "{labels}": {{"report": …}}}}'
                raise ValueError(f"{name}: line {line}: expected {forms}") from None

    return keyed(name, reports())


def of_studies(name: str | Path, reports: dict[str, str], studies: Sequence[Study], split: str) -> list[str]:
    """The report of each study; ValueError, one line, where some have none."""
    missing = [study.id for study in studies if study.id not in reports]
    if len(missing) == len(studies) > 1:
        raise ValueError(
            f"{name}: no report for any of {len(studies)} studies of {split}, {missing[0]} first: is it of another "
            "split (--split) or dataset?"
        )
    if missing:
        raise ValueError(
            f"{name}: no report for {len(missing)} of {len(studies)} studies of {split}, {missing[0]} first"
        )
    return [reports[study.id] for study in studies]


def cleaned(texts: Iterable[str], params: ReportParams) -> list[str]:
    """As references are, one space between words; `<unk>` is a word that models write, and stays."""
    marked = (text.replace(UNKNOWN, "\0") for text in texts)  # cleaning takes the brackets off what it does not know
    found = params.clean(marked)
    return [" ".join(text.split()).replace("\0", UNKNOWN) for text in found]
