"""An explanation as a picture (the paper's Fig. 1 and 4): a report, where its words looked and what they asked for."""

import re
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import FancyBboxPatch, Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.textpath import text_to_path

from xpronet.common.files import replacing
from xpronet.figures.drawing import BLUE, ORANGE, PINK, RED
from xpronet.labels.lexicon import MENTIONS

# Blue is a word, orange what it looks at, pink is doubt.
DARK, PALE = "#5b646d", "#c4cbd2"  # greys
WIDTH, MARGIN, GAP, TOP = 12.0, 0.35, 0.3, 0.75  # inches
SMALL, FINDINGS_WIDTH, LINE, CLASS = 1.5, 3.2, 0.27, 0.42  # a view, its findings, a line of the report, a class
PAD, NUMBER = 0.04, 0.1  # around a word, and for its number
WORDS, VIEWS, CLASSES, FINDINGS = 4, 4, 5, 6  # that are shown at most
SHARPEST = 512  # pixels of a view's longer side that a picture of this size can show
TEXT = 11  # points
UNEVEN = 0.01  # nats: as where one of eighteen patches has 1.7 times what each other has
# Of the words of four letters and more, those that carry no finding.
FUNCTION_WORDS = frozenset(
    """about above after again along also been below between both cannot from have into more most near neither other
    over remaining seen some such than that their there these they this through under upon very were what when where
    which while with within without""".split()  # noqa: SIM905
)


def telling_words(record: dict[str, Any], count: int = WORDS) -> list[int]:
    """Positions of words worth a look, in the report's order and each once.

    First, up to half of them, words that looked anything but evenly; then those that name an observation, present or
    not; then others.
    """
    tokens = [word["word"] for word in record["words"]]
    attention = np.array([np.ravel(word["attention"]) for word in record["words"]])  # (T, S)
    logs = np.log(attention * attention.shape[1], out=np.zeros_like(attention), where=attention > 0)
    uneven = (attention * logs).sum(axis=1)  # nats from even
    order = sorted(range(len(tokens)), key=lambda place: -uneven[place])
    content = [place for place in order if len(tokens[place]) > 3 and tokens[place] not in FUNCTION_WORDS]
    content = [place for place in content if tokens[place].isalpha()]
    names = _naming(tokens)
    looking = [place for place in content if uneven[place] > UNEVEN]
    naming = [place for place in content if place in names]
    chosen: dict[str, int] = {}
    for places, most in ((looking, count // 2), (naming, count), (content, count)):
        for place in places:
            if len(chosen) < most:
                chosen.setdefault(tokens[place], place)
    return sorted(chosen.values())


def _naming(tokens: Sequence[str]) -> set[int]:
    """Positions of the words with which the name of an observation ends."""
    ends = np.cumsum([len(token) + 1 for token in tokens]) - 1  # of each word in the text
    found = _mentions().finditer(" ".join(tokens))
    return {int(np.searchsorted(ends, match.end())) for match in found}


@cache
def _mentions() -> re.Pattern:
    return re.compile(rf"\b(?:{'|'.join(phrase for phrases in MENTIONS.values() for phrase in phrases)})\b")


def explanation_picture(
    path: str | Path,
    record: dict[str, Any],
    views: Sequence[np.ndarray],
    *,
    title: str,
    words: Sequence[int] | None = None,
    note: str = "",
) -> None:
    """Draw a PNG or SVG, as the path ends.

    Args:
        record: as `to_json` makes it.
        views: (H, W) uint8 each, of any size; shown in the shape of the originals, which the record says.
        words: positions of those to show; None: the most telling.
        note: what is said below.
    """
    with matplotlib.rc_context({"font.family": "DejaVu Sans", "font.size": 9, "svg.hashsalt": "xpronet"}):
        figure = draw(record, views, title=title, words=words, note=note)
        undated = {"Date": None} if str(path).endswith(".svg") else None
        with replacing(path) as beside:
            figure.savefig(beside, dpi=130, metadata=undated)


class _Sheet:
    """A figure to lay out by inches from the left and the top."""

    def __init__(self, height: float):
        self.figure, self.height = Figure(figsize=(WIDTH, height)), height

    def axes(self, x: float, y: float, width: float, tall: float) -> Axes:
        axes = self.figure.add_axes(
            (x / WIDTH, 1 - (y + tall) / self.height, width / WIDTH, tall / self.height), frameon=True
        )
        axes.tick_params(length=0)
        return axes

    def say(self, x: float, y: float, text: str, size: float = 8, color: str = DARK, **style) -> None:
        self.figure.text(x / WIDTH, 1 - y / self.height, text, va="top", fontsize=size, color=color, **style)


def draw(
    record: dict[str, Any],
    views: Sequence[np.ndarray],
    *,
    title: str,
    words: Sequence[int] | None = None,
    note: str = "",
) -> Figure:
    """The figure of `explanation_picture`."""
    attention = np.array([word["attention"] for word in record["words"]])  # (T, V, h, w)
    attention *= attention[0].size  # times an even look
    peaks = [np.unravel_index(own.argmax(), own.shape) for own in attention]  # view, row and column
    words = telling_words(record) if words is None else list(words)
    shown = sorted(np.argsort(-attention.sum(axis=(0, 2, 3)), kind="stable")[:VIEWS].tolist())
    across, down = min(len(shown), 2), -(-len(shown) // 2)
    findings = FINDINGS_WIDTH if record["probabilities"] is not None else 0.0
    left = across * SMALL + findings
    lines = _lines(record["words"], words, WIDTH - 2 * MARGIN - left - GAP)
    top = max(0.5 + LINE * len(lines), SMALL * down, 1.9 if findings else 0)
    column = (WIDTH - 2 * MARGIN - (WORDS - 1) * GAP) / WORDS
    side = column / across  # of the square that a view lies in
    asked = record["patches"] is not None
    classes = min(len(record["labels"]), CLASSES) if asked else 0
    middle = TOP + top + GAP
    sheet = _Sheet(middle + 1.0 + side * down + (0.6 + CLASS * classes if asked else 0) + 0.5)

    sheet.say(MARGIN, 0.25, title, 13, "black", weight="bold")
    for number, view in enumerate(shown):
        x, y = MARGIN + number % 2 * SMALL, TOP + number // 2 * SMALL
        _show(sheet.axes(x, y, SMALL - 0.06, SMALL - 0.06), views[view], record["views"][view])
    if findings:
        x = MARGIN + across * SMALL + 0.1
        sheet.say(x, TOP, "Classifier's findings; blue: prototypes allowed")
        _findings(sheet.axes(x + 1.62, TOP + 0.25, findings - 2.2, 1.55), record)
    x = MARGIN + left + GAP
    _write(sheet.axes(x, TOP, WIDTH - MARGIN - x, top), record["words"], lines, words)

    scale = max(2.0, float(attention[words].max(initial=0)))
    sheet.say(
        MARGIN,
        middle,
        "Where the framed words looked" + " and what they asked for" * asked,
        10.5,
        "black",
        weight="bold",
    )
    sheet.say(WIDTH - MARGIN - 1.7, middle + 0.02, "attention, times an even look", ha="right")
    _scale(sheet.axes(WIDTH - MARGIN - 1.6, middle + 0.03, 1.6, 0.12), scale)
    for number, position in enumerate(words):
        word, ratio = record["words"][position], attention[position]
        x, y = MARGIN + number * (column + GAP), middle + 0.45
        sheet.say(x, y, f"{number + 1}  {word['word']}", 11, BLUE, weight="bold")
        sheet.say(x, y + 0.23, _certainty(word))
        for slot, view in enumerate(shown):
            axes = sheet.axes(x + slot % across * side, y + 0.45 + slot // across * side, side - 0.06, side - 0.06)
            _show(axes, views[view], record["views"][view])
            _overlay(axes, record["views"][view], ratio[view], scale)
            if view == peaks[position][0]:
                _frame(axes, record["views"][view], *peaks[position][1:], ratio.max())
        if asked and "classes" in word:
            y += 0.5 + side * down
            same, of, chance = len(word["shared"]), len(word["prototypes"]), word["shared_by_chance"]
            sheet.say(
                x, y, f"{same} of {of} prototypes also asked for by the\nframed patch ({chance:.1f} by chance alone)"
            )
            names = sorted(record["labels"], key=lambda name: -word["classes"].get(name, 0))[:classes]
            _classes(sheet.axes(x, y + 0.4, column, CLASS * classes), word, names)
    sheet.say(MARGIN, sheet.height - 0.3, note)
    if asked:
        x, y = WIDTH - MARGIN - 6.0, sheet.height - 0.3
        sheet.say(x, y, "Classes of the prototypes asked for by")
        for beside, colour, text in ((2.4, BLUE, "the word"), (3.3, ORANGE, "all patches, as it attends to them")):
            sheet.say(x + beside, y - 0.01, "■", 9, colour)
            sheet.say(x + beside + 0.17, y, text)
    return sheet.figure


def _show(axes: Axes, view: np.ndarray, about: dict[str, Any]) -> None:
    height, width = about["size"]
    finer = max(1, max(view.shape) // SHARPEST)
    axes.imshow(view[::finer, ::finer], cmap="gray", vmin=0, vmax=255, extent=(0, width, height, 0))
    axes.axis("off")


def _overlay(axes: Axes, about: dict[str, Any], ratios: np.ndarray, scale: float) -> None:
    """Attention (h, w), where there is more than in an even look, as how much orange lies over a patch."""
    for row, (top, bottom) in enumerate(pairwise(about["rows"])):
        for column, (left, right) in enumerate(pairwise(about["columns"])):
            colour = _orange((ratios[row, column] - 1) / (scale - 1))
            axes.add_patch(Rectangle((left, top), right - left, bottom - top, facecolor=colour, linewidth=0))


def _frame(axes: Axes, about: dict[str, Any], row: int, column: int, ratio: float) -> None:
    """Around the patch that has most of a word's attention, and how much."""
    (top, bottom), (left, right) = about["rows"][row : row + 2], about["columns"][column : column + 2]
    axes.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=RED, linewidth=2))
    middle, outline = ((left + right) / 2, (top + bottom) / 2), [withStroke(linewidth=2, foreground="black")]
    style = {"fontsize": 8, "weight": "bold", "color": "white", "ha": "center", "va": "center"}
    axes.text(*middle, f"{ratio:.1f}×", path_effects=outline, **style)


def _orange(share: float) -> tuple[float, ...]:
    return (*to_rgb(ORANGE), 0.8 * float(np.clip(share, 0, 1)))


def _certainty(word: dict[str, Any]) -> str:
    others = [f"{other} {np.exp(value):.0%}" for other, value in word["alternatives"].items() if np.exp(value) >= 0.01]
    return f"{np.exp(word['log_prob']):.0%} sure" + (f"; else {', '.join(others[:2])}" if others else "")


def _findings(axes: Axes, record: dict[str, Any]) -> None:
    """The likeliest observations, and what was taken as a label before others."""
    labels, given = record["labels"], record["probabilities"]
    likely = sorted(given, key=lambda name: (name not in labels, -given[name]))[:FINDINGS]
    shown = sorted(likely, key=lambda name: -given[name])
    values = [given[name] for name in shown]
    axes.barh(shown, values, 0.6, color=[BLUE if name in labels else PALE for name in shown])
    for row, (name, value, tick) in enumerate(zip(shown, values, axes.get_yticklabels(), strict=True)):
        tick.set(fontsize=8, color=BLUE if name in labels else DARK)
        axes.text(value + 0.03, row, f"{value:.0%}", va="center", fontsize=7.5, color=DARK)
    axes.set(ylim=(FINDINGS - 0.5, -0.5), xlim=(0, 1), xticks=[])
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.spines["left"].set_color(PALE)


def _classes(axes: Axes, word: dict[str, Any], names: Sequence[str]) -> None:
    for row, name in enumerate(names):
        axes.text(0, row + 0.04, name, va="top", fontsize=8)
        for line, (key, colour) in enumerate((("classes", BLUE), ("seen_classes", ORANGE))):
            share, y = word[key].get(name, 0), row + 0.45 + 0.25 * line
            axes.barh(y, share, 0.18, color=colour)
            axes.text(share + 0.015, y, f"{share:.0%}", va="center", fontsize=6.5, color=DARK)
    axes.set(ylim=(len(names), 0), xlim=(0, 1.12))
    axes.axis("off")


def _scale(axes: Axes, most: float) -> None:
    axes.imshow([[_orange(share) for share in np.linspace(0, 1, 64)]], extent=(1, most, 0, 1), aspect="auto")
    axes.set(yticks=[], xticks=range(1, int(most) + 1))
    axes.set_xticklabels([f"{tick}×" for tick in range(1, int(most) + 1)], fontsize=7.5, color=DARK)
    axes.spines[:].set_color(PALE)


def _width(text: str, bold: bool) -> float:
    """Inches of a word as it is written."""
    font = FontProperties(family="DejaVu Sans", size=TEXT, weight="bold" if bold else "normal")
    return text_to_path.get_text_width_height_descent(text, font, ismath=False)[0] / 72


def _lines(
    words: Sequence[dict[str, Any]], chosen: Sequence[int], width: float
) -> list[list[tuple[int, float, float]]]:
    """Line by line the positions of words, where they begin, and how wide their boxes are, in inches."""
    lines, x = [[]], 0.0
    for position, word in enumerate(words):
        own = _width(word["word"], position in chosen) + 2 * PAD + NUMBER * (position in chosen)
        if x + own > width and lines[-1]:
            lines, x = [*lines, []], 0.0
        lines[-1].append((position, x, own))
        x += own + PAD
    return lines


def _write(axes: Axes, words: Sequence[dict[str, Any]], lines, chosen: Sequence[int]) -> None:
    """The report, each word on as much pink as it is unsure; the words shown below have a frame and their number."""
    width, height = axes.get_position().size * axes.figure.get_size_inches()
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.axis("off")
    axes.text(PAD, 0, "The report, and how sure each of its words was:", va="top", fontsize=8, color=DARK)
    for place, share in enumerate((1.0, 0.75, 0.5, 0.25, 0.0)):
        x = 3.0 + 0.36 * place
        axes.add_patch(Rectangle((x, -0.01), 0.34, 0.16, facecolor=PINK, alpha=1 - share, linewidth=0))
        axes.text(x + 0.17, 0.07, f"{share:.0%}", ha="center", va="center", fontsize=7)
    for row, line in enumerate(lines):
        y = 0.42 + LINE * row
        for position, x, own in line:
            word, shown = words[position], position in chosen
            doubt = (*to_rgb(PINK), 1 - float(np.exp(word["log_prob"])))
            box = FancyBboxPatch((x, y - 0.12), own, 0.23, boxstyle="round,pad=0,rounding_size=0.04", facecolor=doubt)
            box.set(linewidth=1.4, edgecolor=BLUE) if shown else box.set(linewidth=0)
            axes.add_patch(box)
            x += PAD
            if shown:
                number = chosen.index(position) + 1
                axes.text(x, y, number, va="center_baseline", fontsize=7.5, weight="bold", color=BLUE)
                x += NUMBER
            style = {"weight": "bold" if shown else "normal", "color": DARK if word["word"][0] == "<" else "black"}
            axes.text(x, y, word["word"], va="center_baseline", fontsize=TEXT, **style)
