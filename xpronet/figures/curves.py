"""The picture of a training: its losses and its scores on validation, epoch by epoch."""

import csv
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from xpronet.figures.drawing import BLUE, GREY, ORANGE, RED, picture

LOSSES = {
    "cross_entropy": ("cross-entropy", BLUE, "-"),
    "visual_contrastive": ("visual contrastive", ORANGE, "--"),
    "textual_contrastive": ("textual contrastive", RED, ":"),
}
REWARDS = {  # of self-critical training, in their place
    "reward": ("reward of samples", BLUE, "-"),
    "greedy_reward": ("reward of greedy reports", ORANGE, "--"),
}
SCORES = {
    "val_ROUGE_L": ("ROUGE-L", BLUE, "-"),
    "val_BLEU_4": ("BLEU-4", ORANGE, "--"),
    "val_METEOR": ("METEOR", RED, ":"),
}


def read_history(path: str | Path) -> dict[str, list[float]]:
    """A column per name of `metrics/history.tsv`.

    Raises:
        ValueError: it has no row, or a cell is no number.
    """
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    try:
        columns = {name: [float(row[name]) for row in rows] for name in rows[0]}
        learnt = REWARDS if "reward" in columns else LOSSES
        return {name: columns[name] for name in ("epoch", "val_selection", *learnt, *SCORES)}
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: no history of a training ({error}); `dvc repro -f train` makes it again") from None


def training(path: str | Path, history: dict[str, list[float]]) -> None:
    """Draw the columns of `read_history`; a line marks the epoch that was kept."""
    epochs, selection = history["epoch"], history["val_selection"]
    kept = epochs[selection.index(max(selection))]
    with picture(path, 10, 4.2) as figure:
        left, right = figure.subplots(1, 2)
        if "reward" in history:
            _lines(left, epochs, {name: (*REWARDS[name], history[name]) for name in REWARDS})
            left.set_title("What reports on train earn", loc="left")
        else:
            _lines(left, epochs, {name: (*LOSSES[name], history[name]) for name in LOSSES if max(history[name]) > 0})
            left.set_yscale("log")
            left.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            left.yaxis.set_major_formatter("{x:g}")
            left.yaxis.set_minor_formatter(NullFormatter())
            left.set_title("Losses on train (logarithmic)", loc="left")
        _lines(right, epochs, {name: (*SCORES[name], history[name]) for name in SCORES})
        right.set_ylim(bottom=0)
        right.set_title("Scores on validation", loc="left")
        for axes in (left, right):
            axes.axvline(kept, color=GREY, linewidth=1)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.set_xlabel("epoch")
            axes.legend(fontsize=9)
        right.annotate("kept", (kept, 0), (3, 3), textcoords="offset points", color=GREY, fontsize=9)
        figure.suptitle(f"Validation was best after epoch {kept:g} of {epochs[-1]:g}", x=0.01, ha="left")


def _lines(axes: Axes, epochs: Sequence[float], lines: dict[str, tuple]) -> None:
    for name, colour, style, values in lines.values():
        dot = "o" if len(epochs) == 1 else None  # of one point there is no line
        axes.plot(epochs, values, color=colour, linestyle=style, marker=dot, linewidth=1.8, label=name)
