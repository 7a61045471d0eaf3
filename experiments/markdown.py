"""Tables in Markdown, and the page that they are written into."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from xpronet.common.files import replacing


def table_header(first: str, columns: Sequence[str]) -> str:
    return table_row(first, columns) + "\n" + "|---" * (len(columns) + 1) + "|"


def table_row(first: str, cells: Sequence[str]) -> str:
    return "| " + " | ".join((first, *cells)) + " |"


def spread(found: Mapping[str, Any] | None, *, sign: str = "") -> str:
    if found is None:
        return "–"
    return f"{found['mean']:{sign}.3f}" + (f" ± {found['deviation']:.3f}" if found["deviation"] is not None else "")


BEGIN, END = "<!-- study: begin, written by make -->", "<!-- study: end -->"


def put_between(page: Path, text: str) -> None:
    """Replace what stands between the two marks of a Markdown page."""
    content = page.read_text(encoding="utf-8")
    if BEGIN not in content or END not in content:
        raise ValueError(f"{page}: no lines {BEGIN} and {END} to write the tables between")
    before, rest = content.split(BEGIN, 1)
    with replacing(page) as beside:
        beside.write_text(f"{before}{BEGIN}\n{text}{END}{rest.split(END, 1)[1]}", encoding="utf-8")
