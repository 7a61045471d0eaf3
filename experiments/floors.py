"""The floors that a study's rows are held against: their names, their scores over seeds, and their lines."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from experiments.results import SHOWN
from experiments.study import summary
from xpronet.figures.drawing import GREY, RED

FLOORS = {
    "constant": "constant report",
    "label_constant": "constant by predicted labels",
    "label_neighbour": "report of the nearest labels",
    "image_neighbour": "report of the nearest image",
}
LINES = {"label_constant": ("-.", GREY), "image_neighbour": (":", RED), "constant": ("--", RED)}


def floors_of(details: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """`summary` of each floor's scores over the details of one run per seed."""
    return {
        floor: {metric: summary([each["floors"][floor][metric] for each in details]) for metric in SHOWN}
        for floor in details[0]["floors"]
    }


def draw_floors(axes: Axes, floors: Mapping[str, Any], metric: str) -> list[float]:
    """A line at each; returns where."""
    means = [floors[floor][metric]["mean"] for floor in LINES]
    for mean, (floor, (style, colour)) in zip(means, LINES.items(), strict=True):
        axes.axvline(mean, color=colour, linestyle=style, linewidth=1.4, label=f"floor: {FLOORS[floor]}")
    return means
