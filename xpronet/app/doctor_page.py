"""The doctor's page: what it found, and how a terminal shows it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from xpronet.common.wording import number
from xpronet.labels.conditions import CONDITIONS

Level = Literal["breaks", "warns", "note", "fine"]
EXAMPLES = 3  # studies that a finding names


@dataclass(frozen=True)
class Finding:
    level: Level  # breaks: training or scoring would fail; warns: scores would mislead or suffer
    what: str
    meaning: str = ""


@dataclass
class Page:
    splits: dict[str, dict[str, Any]] = field(default_factory=dict)  # split -> what its row says
    prevalence: dict[str, dict[str, int]] = field(default_factory=dict)  # split -> observation -> studies
    findings: list[Finding] = field(default_factory=list)

    @property
    def breaks(self) -> bool:
        return any(finding.level == "breaks" for finding in self.findings)

    def say(self, level: Level, what: str, meaning: str = "") -> None:
        self.findings.append(Finding(level, what, meaning))


def counted(names: Sequence[str], what: str) -> str:
    return f"{number(len(names), what)} ({', '.join(names[:EXAMPLES])}{', …' if len(names) > EXAMPLES else ''})"


def show(page: Page, console: Console) -> None:
    """The page in a terminal."""
    rows = {
        "studies": ("studies", "{:,}"),
        "patients": ("patients", "{:,}"),
        "images": ("images", "{:,}"),
        "views": ("views per study", "{}"),
        "median_tokens": ("tokens, median", "{}"),
        "truncated": ("longer than max_length", "{:.1%}"),
        "unknown_words": ("unknown words", "{:.2%}"),
        "marked_reports": ("reports with XXXX", "{:.1%}"),
        "distinct_reports": ("distinct reports", "{:.1%}"),
        "in_train": ("found word for word in train", "{:.1%}"),
    }
    table = _table("Dataset", page.splits)
    for key, (name, form) in rows.items():
        table.add_row(name, *(form.format(row[key]) if key in row else "–" for row in page.splits.values()))
    console.print(table)
    if page.prevalence:
        table = _table("\nStudies with each observation", page.prevalence)
        for name in CONDITIONS:
            table.add_row(name, *(f"{counts[name]:,}" for counts in page.prevalence.values()))
        console.print(table)
    console.print()
    for level, mark in (
        ("breaks", "[red]✗[/red]"),
        ("warns", "[yellow]![/yellow]"),
        ("note", "·"),
        ("fine", "[green]✓[/green]"),
    ):
        for finding in page.findings:
            if finding.level == level:
                text = f"{mark} {_plain(finding.what)}" + (
                    f"\n  → {_plain(finding.meaning)}" if finding.meaning else ""
                )
                console.print(text, highlight=False)
    console.print("\n[red]Training would break.[/red]" if page.breaks else "\nTraining can start.", highlight=False)


def _table(title: str, columns: Iterable[str]) -> Table:
    table = Table("", title=title, title_justify="left", box=None)
    for column in columns:
        table.add_column(column, justify="right", min_width=8)
    return table


def _plain(text: str) -> str:
    return text.replace("[", r"\[")
