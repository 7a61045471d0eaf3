"""The picture of an ablation study beside the paper's Table 2, and of its sweeps (Figures 5 and 6)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from xpronet.common.files import replacing

BLUE, GREY, RED = "#0b5394", "#7d8894", "#cc3333"
SYMBOLS = {"gamma": "γ, prototypes that respond", "theta": "θ, tolerance of the contrastive loss"}
FLOORS = {"constant": "constant report", "image_neighbour": "nearest image's report"}


def draw(
    path: str | Path,
    result: Mapping[str, Any],
    paper: Mapping[str, Mapping[str, float]],
    paper_sweeps: Mapping[str, str],
    constants: Mapping[str, float],
    titles: Mapping[str, str],
) -> None:
    """BLEU-4 and clinical F1 of every row, the paper's BLEU-4, then the sweeps: seeds as dots over their mean.

    Under each row of the preset lies, thin, the one trained a third as long, where the study has it.

    Args:
        result: of `analysis.analyse`.
        paper: dataset -> row -> BLEU-4.
        paper_sweeps: parameter -> what the paper found for it.
        constants: dataset -> BLEU-4 of a constant report, where it is known.
        titles: row -> its name in the paper.
    """
    sweeps = result["sweeps"]
    figure = Figure(figsize=(13, 7 if sweeps else 3.6), layout="constrained")
    grid = figure.add_gridspec(2 if sweeps else 1, 4)
    for place, (metric, name) in enumerate({"BLEU_4": "BLEU-4", "micro_F1_14": "micro F1 of 14 observations"}.items()):
        _rows(figure.add_subplot(grid[0, place]), result, titles, metric, name)
    for place, (dataset, rows) in enumerate(paper.items(), start=2):
        axes = figure.add_subplot(grid[0, place])
        values = [rows[row] for row in titles]
        axes.barh(list(titles.values()), values, 0.6, color=GREY)
        for y, value in enumerate(values):
            axes.text(0, y, f" {value:.3f}", va="center", color="white", fontsize=9)
        if dataset in constants:
            axes.axvline(constants[dataset], color=RED, linestyle="--", linewidth=1.2)
        _finish(axes, f"{dataset}, paper: one run,\nlabels of the test reports", "BLEU-4", max(values))
    for place, (key, sweep) in enumerate(sweeps.items()):
        axes = figure.add_subplot(grid[1, 2 * place : 2 * place + 2])
        _sweep(axes, key, sweep)
        axes.set_title(f"{result['short']['steps']:,} steps; paper: {paper_sweeps[key]}", fontsize=9)
    with replacing(path) as beside:
        figure.savefig(beside, dpi=110)


def _rows(axes: Axes, result: Mapping[str, Any], titles: Mapping[str, str], metric: str, name: str) -> None:
    preset, short = result["preset"], result["short"]
    parts = [(preset, -0.12, 0.46, "#9fc5e8", BLUE)] + [(short, 0.28, 0.2, "#d9dee3", GREY)] * bool(short)
    for part, offset, height, bar, dot in parts:
        found = [part["rows"][row][metric] for row in titles]
        places = [y + offset for y in range(len(found))]
        axes.barh(places, [each["mean"] for each in found], height, color=bar, label=f"{part['steps']:,} steps")
        for y, each in zip(places, found, strict=True):
            axes.scatter(each["seeds"], [y] * len(each["seeds"]), s=14, color=dot, zorder=3)
    axes.set_yticks(range(len(titles)), list(titles.values()))
    floors = {floor: preset["floors"][floor][metric]["mean"] for floor in FLOORS}
    for floor, style in zip(FLOORS, ("--", ":"), strict=True):
        axes.axvline(floors[floor], color=RED, linestyle=style, linewidth=1.2, label=FLOORS[floor])
    if metric == "BLEU_4":
        axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(-0.3, -0.18), ncols=2)
    shown = [seed for part, *_ in parts for row in titles for seed in part["rows"][row][metric]["seeds"]]
    seeds = ", ".join(map(str, preset["seeds"]))
    _finish(axes, f"phantom: seeds {seeds},\npredicted labels", name, max(*shown, *floors.values()))


def _finish(axes: Axes, title: str, name: str, highest: float) -> None:
    axes.invert_yaxis()
    axes.set(xlim=(0, 1.22 * highest), xlabel=name)
    axes.set_title(title, fontsize=9)
    if not axes.get_subplotspec().is_first_col():  # the rows are the first panel's
        axes.set_yticklabels([])
    axes.spines[["top", "right"]].set_visible(False)


def _sweep(axes: Axes, key: str, sweep: Mapping[str, Any]) -> None:
    named = {name: float(sweep["full"] if name == "full" else name) for name in sweep["values"]}
    order = sorted(named, key=named.get)
    axes.plot(
        [named[name] for name in order],
        [sweep["values"][name]["BLEU_4"]["mean"] for name in order],
        color=BLUE,
        linewidth=1.4,
    )
    for name in order:
        seeds = sweep["values"][name]["BLEU_4"]["seeds"]
        axes.scatter([named[name]] * len(seeds), seeds, s=16, color=BLUE, zorder=3)
    axes.axvline(named["full"], color=GREY, linewidth=1, linestyle="--")
    axes.set_ylim(0, 1.1 * max(max(each["BLEU_4"]["seeds"]) for each in sweep["values"].values()))
    axes.set(xlabel=SYMBOLS[key], ylabel="BLEU-4, phantom", xticks=[named[name] for name in order])
    axes.spines[["top", "right"]].set_visible(False)
