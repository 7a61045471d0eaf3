"""Scores of several experiments with intervals: a row each, or a curve over the parameter in which they differ."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from xpronet.figures.drawing import BLUE, picture

SHOWN = {"BLEU_4": "BLEU-4", "micro_F1_14": "micro F1"}
Interval = tuple[float, float, float]  # score, low, high


def scores(path: str | Path, title: str, found: Mapping[str, Mapping[str, Interval]]) -> None:
    """Draw a row for each name: its scores of SHOWN."""
    names = list(found)
    with picture(path, 10, 1.6 + 0.36 * len(names)) as figure:
        panels = figure.subplots(1, len(SHOWN), sharey=True)
        for axes, (metric, shown) in zip(panels, SHOWN.items(), strict=True):
            value, low, high = np.array([found[name][metric] for name in names]).T
            axes.errorbar(value, range(len(names)), xerr=(value - low, high - value), fmt="o", color=BLUE, capsize=3)
            axes.set_xlim(0, 1.05 * max(high.max(), 1e-3))
            axes.grid(axis="x", color="#dddddd", linewidth=0.8)
            axes.set_axisbelow(True)
            axes.set_title(shown, loc="left")
        panels[0].set_yticks(range(len(names)), [_short(name) for name in names], parse_math=False)
        panels[0].set_ylim(len(names) - 0.5, -0.5)
        figure.suptitle(title, x=0.01, ha="left")


def curves(
    path: str | Path, title: str, key: str, at: Sequence[float], found: Sequence[Mapping[str, Interval]]
) -> None:
    """Draw scores over a parameter: a dot for each experiment, a line through the means of those at the same value."""
    with picture(path, 10, 4) as figure:
        for axes, (metric, shown) in zip(figure.subplots(1, len(SHOWN)), SHOWN.items(), strict=True):
            _curve(axes, np.array(at, float), np.array([each[metric] for each in found]))
            axes.set_xlabel(key)
            axes.set_title(shown, loc="left")
        figure.suptitle(title, x=0.01, ha="left")


def _curve(axes: Axes, at: np.ndarray, found: np.ndarray) -> None:
    """`at` (N,), and score, low and high of each (N, 3)."""
    value, low, high = found.T
    places = np.unique(at)
    axes.plot(places, [value[at == place].mean() for place in places], color=BLUE, linewidth=1.4)
    axes.errorbar(at, value, (value - low, high - value), fmt="o", color=BLUE, capsize=3, linewidth=1)
    axes.set_xticks(places, [f"{place:g}" for place in places])
    axes.set_ylim(0, 1.05 * max(high.max(), 1e-3))


def _short(name: str) -> str:
    return name if len(name) <= 28 else f"…{name[-27:]}"
