"""Reports side by side, with the words marked that they share with the reference (the paper's Fig. 4)."""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.textpath import text_to_path

from xpronet.figures.drawing import BLUE, GREY, picture
from xpronet.labels.conditions import CONDITIONS, NO_FINDING, SUPPORT_DEVICES

SIZE, LINE, GAP, MARGIN = 10, 14, 16, 10  # points
QUANTILES = (0.9, 0.5, 0.1)


@dataclass(frozen=True)
class Example:
    """A study: what is said above it, its own report, and a report per column."""

    head: str
    reference: str
    written: Sequence[str]


def shared(report: Sequence[str], reference: Sequence[str]) -> list[bool]:
    """Which words of a report stand in the reference too, in the same order; a full stop alone is no word."""
    marks = [False] * len(report)
    for _, start, size in SequenceMatcher(None, reference, report, autojunk=False).get_matching_blocks():
        marks[start : start + size] = [report[start : start + size] != ["."]] * size
    return marks


def with_findings(labels: np.ndarray) -> np.ndarray:
    """(N,): which studies of labels (N, 14) 0/1 have a finding; a device is none."""
    return np.delete(labels > 0, (SUPPORT_DEVICES, NO_FINDING), axis=1).any(axis=1)


def kind(labels: np.ndarray) -> str:
    """What `choose` chooses from, for a title."""
    return "studies with findings" if with_findings(labels).any() else "studies, all without findings"


def choose(scores: Sequence[float], labels: np.ndarray) -> list[int]:
    """Of the studies with findings, or of all where none has, those at QUANTILES of the scores, best first.

    Args:
        labels: (N, 14) 0/1.
    """
    findings = with_findings(labels)
    rows = np.flatnonzero(findings) if findings.any() else np.arange(len(labels))
    order = rows[np.argsort(np.asarray(scores)[rows], kind="stable")]
    return list(dict.fromkeys(int(order[round(q * (len(order) - 1))]) for q in QUANTILES))


def names(labels: np.ndarray) -> str:
    """The observations of one study, (14,) 0/1."""
    return ", ".join(name for name, has in zip(CONDITIONS, labels, strict=True) if has)


def side_by_side(path: str | Path, title: str, columns: Sequence[str], examples: Sequence[Example]) -> None:
    """A row per study: the reference, then a column for each name of `columns`; shared words are blue and bold."""
    inches = min(10 + 3.2 * max(0, len(columns) - 2), 20)
    width = (72 * inches - 2 * MARGIN - GAP * len(columns)) / (1 + len(columns))
    rows = []
    for example in examples:
        reference = example.reference.split()
        texts = [report.split() for report in example.written]
        marked = [shared(words, reference) for words in texts]
        kept = [shared(reference, words) for words in texts]
        cells = [_wrap(reference, kept[0] if len(kept) == 1 else [False] * len(reference), width)]
        head = _wrap(example.head.split(), [False] * len(example.head.split()), 72 * inches - 2 * MARGIN)
        rows.append(
            (
                [" ".join(word for _, word, _ in line) for line in head],
                [*cells, *(_wrap(*each, width) for each in zip(texts, marked, strict=True))],
            )
        )
    height = 3.2 * LINE + 2 * MARGIN + sum((len(head) + 1 + max(map(len, cells))) * LINE + GAP for head, cells in rows)
    with picture(path, inches, height / 72) as figure:
        figure.set_layout_engine("none")
        y = height - MARGIN - LINE
        _say(figure, MARGIN, y, title, fontsize=12)
        y -= 1.7 * LINE
        for number, name in enumerate(("reference", *columns)):
            while _width(name, True) > width:
                name = f"…{name.removeprefix('…')[1:]}"
            _say(figure, MARGIN + number * (width + GAP), y, name, color="black", weight="bold")
        y -= 0.8 * LINE
        for head, cells in rows:
            figure.add_artist(_rule(figure, y))
            y -= 1.3 * LINE
            for down, line in enumerate(head):
                _say(figure, MARGIN, y - down * LINE, line, color="#555555")
            y -= (len(head) + 0.2) * LINE
            for number, lines in enumerate(cells):
                for down, line in enumerate(lines):
                    for x, word, mark in line:
                        look = {"color": BLUE, "weight": "bold"} if mark else {"color": "black"}
                        _say(figure, MARGIN + number * (width + GAP) + x, y - down * LINE, word, **look)
            y -= max(map(len, cells)) * LINE + GAP - 0.5 * LINE


def _wrap(words: Sequence[str], marks: Sequence[bool], width: float) -> list[list[tuple[float, str, bool]]]:
    """Lines of (x, word, mark) that fit a width in points; a full stop has room behind its word."""
    lines: list[list[tuple[float, str, bool]]] = [[]]
    end, space, stop = 0.0, _width(" ", False), _width(" .", True)
    for word, mark in zip(words, marks, strict=True):
        size = _width(word, mark)
        after = 0.0 if word == "." else stop  # room for it
        if lines[-1] and end + space + size + after > width:
            lines.append([])
            end = -space
        x = end + space if lines[-1] else 0.0
        lines[-1].append((x, word, mark))
        end = x + size
    return lines


def _width(text: str, bold: bool) -> float:
    font = FontProperties(family="DejaVu Sans", size=SIZE, weight="bold" if bold else "normal")
    return text_to_path.get_text_width_height_descent(text, font, ismath=False)[0]


def _say(figure: Figure, x: float, y: float, text: str, **look) -> None:
    """Text whose baseline begins at points from the lower left."""
    width, height = 72 * figure.get_size_inches()
    figure.text(x / width, y / height, text, va="baseline", parse_math=False, **{"fontsize": SIZE, **look})


def _rule(figure: Figure, y: float) -> Line2D:
    height = 72 * figure.get_size_inches()[1]
    return Line2D([0.01, 0.99], [y / height] * 2, color=GREY, linewidth=0.8, transform=figure.transFigure)
