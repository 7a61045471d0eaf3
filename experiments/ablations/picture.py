"""The picture of an ablation study beside the paper's Table 2, and of its sweeps (Figures 5 and 6)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from experiments.ablations.runs import FULL
from experiments.floors import draw_floors
from experiments.study import interval
from xpronet.figures.drawing import BLACK, BLUE, GREY, RED, SKY, picture

SYMBOLS = {"gamma": "γ, prototypes that respond", "theta": "θ, tolerance of the contrastive loss"}
SURE = 0.05  # of p over seeds


def draw(
    path: str | Path,
    result: Mapping[str, Any],
    paper: Mapping[str, Mapping[str, float]],
    paper_sweeps: Mapping[str, str],
    constants: Mapping[str, float],
    titles: Mapping[str, str],
) -> None:
    """BLEU-4 and clinical F1 of every row, the paper's BLEU-4, then the sweeps: PATH.png and PATH.svg.

    Seeds are dots over their mean, with its 95 % interval where there are several.

    Args:
        result: of `analysis.analyse`.
        paper: dataset -> row -> BLEU-4.
        paper_sweeps: parameter -> what the paper found for it.
        constants: dataset -> BLEU-4 of a constant report, where it is known.
        titles: row -> its name in the paper.
    """
    heights = (2.4, 1.8, *[2.4] * bool(result["sweeps"]))
    with picture(path, 10, 9.4 if result["sweeps"] else 6) as figure:
        grid = figure.add_gridspec(len(heights), 2, height_ratios=heights)
        for place, (metric, name) in enumerate({"BLEU_4": "BLEU-4", "micro_F1_14": "micro F1"}.items()):
            axes = figure.add_subplot(grid[0, place])
            _rows(axes, result, titles, metric, name)
            if place == 0:
                figure.legend(*axes.get_legend_handles_labels(), loc="outside lower left", ncols=3, fontsize=9)
        for place, (dataset, rows) in enumerate(paper.items()):
            axes = figure.add_subplot(grid[1, place])
            values = [rows[row] for row in titles]
            axes.barh(list(titles.values()), values, 0.6, color=GREY)
            for y, value in enumerate(values):
                axes.text(0, y, f" {value:.3f}", va="center", color="white", fontsize=9)
            if dataset in constants:
                axes.axvline(constants[dataset], color=RED, linestyle="--", linewidth=1.2)
            title = f"BLEU-4 in the paper, {dataset}:\none run each, labels of the test reports"
            _finish(axes, title, "", max(values))
        for place, (key, sweep) in enumerate(result["sweeps"].items()):
            axes = figure.add_subplot(grid[2, place])
            _sweep(axes, key, sweep)
            sure = _surely_others(sweep["against_full"], "BLEU_4", list(sweep["against_full"]))
            title = f"BLEU-4 over {SYMBOLS[key][0]}:\n{sure}\nPaper: {paper_sweeps[key]}"
            axes.set_title(title, fontsize=9, loc="left")
        several = " and their means with 95 % intervals" if len(result["seeds"]) > 1 else ""
        head = f"Ablations on the phantom, {result['steps']:,} steps each: seeds (dots){several}"
        figure.suptitle(head, x=0.01, ha="left")


def _rows(axes: Axes, result: Mapping[str, Any], titles: Mapping[str, str], metric: str, name: str) -> None:
    found, highest = [result["rows"][row][metric] for row in titles], 0.0
    axes.barh(list(titles.values()), [each["mean"] for each in found], 0.6, color=SKY)
    for y, each in enumerate(found):
        highest = max(highest, *_interval(axes, each["seeds"], y, along_x=True))
        axes.scatter(each["seeds"], [y] * len(each["seeds"]), s=14, color=BLUE, zorder=3)
    highest = max(highest, *draw_floors(axes, result["floors"], metric))
    sure = _surely_others(result["against_full"], metric, titles)
    _finish(axes, f"{name}, predicted labels:\n{sure}", "", highest)


def _interval(axes: Axes, seeds: Sequence[float], at: float, *, along_x: bool) -> tuple[float, float]:
    """Draw the interval of a mean, and say where it ends; the seed itself where there is one."""
    ends = interval(seeds)
    if ends is None:
        return seeds[0], seeds[0]
    lines, caps = (axes.hlines, "|") if along_x else (axes.vlines, "_")
    lines(at, *ends, color=BLACK, linewidth=1)
    spots = (ends, [at, at]) if along_x else ([at, at], ends)
    axes.scatter(*spots, marker=caps, s=30, color=BLACK, linewidth=1)
    return ends


def _surely_others(against: Mapping[str, Any], metric: str, titles: Mapping[str, str] | Sequence[str]) -> str:
    """What a panel shows, in words: which rows or values differ from the full model by their p over seeds."""
    found = [row for row in titles if row != FULL and (against[row][metric]["p_seeds"] or 1) < SURE]
    if all(each[metric]["p_seeds"] is None for each in against.values()):
        return "one seed tells no difference"
    if not found:
        return "none differs from the full model beyond the seeds"
    names = ", ".join(titles[row] if isinstance(titles, Mapping) else row for row in found)
    return f"{names} {'differs' if len(found) == 1 else 'differ'} beyond the seeds (p < {SURE})"


def _finish(axes: Axes, title: str, name: str, highest: float) -> None:
    axes.invert_yaxis()
    axes.set(xlim=(0, 1.15 * highest), xlabel=name)
    axes.set_title(title, fontsize=9, loc="left")
    if not axes.get_subplotspec().is_first_col():  # the rows are the first panel's
        axes.set_yticklabels([])


def _sweep(axes: Axes, key: str, sweep: Mapping[str, Any]) -> None:
    named = {name: float(sweep["full"] if name == FULL else name) for name in sweep["values"]}
    order = sorted(named, key=named.get)
    means = [sweep["values"][name]["BLEU_4"]["mean"] for name in order]
    axes.plot([named[name] for name in order], means, color=BLUE, linewidth=1.4)
    highest = 0.0
    for name in order:
        seeds = sweep["values"][name]["BLEU_4"]["seeds"]
        highest = max(highest, *_interval(axes, seeds, named[name], along_x=False), *seeds)
        axes.scatter([named[name]] * len(seeds), seeds, s=16, color=BLUE, zorder=3)
    axes.axvline(named[FULL], color=GREY, linewidth=1, linestyle="--")
    axes.annotate("preset", (named[FULL], 0), (3, 4), textcoords="offset points", fontsize=9, color="#555555")
    axes.set(xlabel=SYMBOLS[key], ylabel="BLEU-4", xticks=[named[name] for name in order], ylim=(0, 1.05 * highest))
