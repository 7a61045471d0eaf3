"""Pictures of a dataset: lengths of reports, studies per observation, sizes of images."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from xpronet.common.files import replacing
from xpronet.common.wording import number

COLOURS = {"train": "#9aa5b1", "val": "#e0a030", "test": "#0b5394"}


def lengths(path: str | Path, tokens: Mapping[str, np.ndarray], max_length: int) -> None:
    """Share of reports per length, by split; (N,) tokens each."""
    figure = Figure(figsize=(7, 3.2), layout="constrained")
    axes = figure.subplots()
    longest = max(int(values.max()) for values in tokens.values())
    bins = np.linspace(0, longest + 1, min(longest + 1, 40) + 1)
    for split, values in tokens.items():
        shares = np.full(len(values), 100 / len(values))
        axes.hist(
            values,
            bins,
            weights=shares,
            histtype="step",
            color=COLOURS[split],
            label=f"{split} ({len(values):,})",
            linewidth=1.6,
        )
    axes.axvline(max_length, color="#cc3333", linestyle="--", linewidth=1, label=f"max_length {max_length}")
    axes.set(xlabel="tokens of a report, with its start and end", ylabel="% of the split")
    _finish(figure, axes, path, title="Lengths of the cleaned reports, before they are cut")


def prevalence(path: str | Path, counts: Mapping[str, Mapping[str, int]], n_prototypes: int) -> None:
    """Studies per observation, by split, on a logarithmic axis."""
    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.subplots()
    names = list(next(iter(counts.values())))
    rows = np.arange(len(names))
    for place, (split, found) in enumerate(counts.items()):
        axes.barh(rows + (place - 1) * 0.27, [found[name] for name in names], 0.27, color=COLOURS[split], label=split)
    axes.axvline(n_prototypes, color="#cc3333", linestyle="--", linewidth=1, label=f"n_prototypes {n_prototypes}")
    axes.set_yticks(rows, names)
    axes.invert_yaxis()
    axes.set_xscale("symlog", linthresh=1)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlim(left=0)
    axes.set(xlabel="studies (logarithmic)")
    _finish(figure, axes, path, title="Studies with each observation")


def sizes(path: str | Path, originals: np.ndarray) -> None:
    """Height and width (N, 2) of the original images, and how many have each."""
    figure = Figure(figsize=(5, 4), layout="constrained")
    axes = figure.subplots()
    distinct, count = np.unique(originals, axis=0, return_counts=True)
    axes.scatter(
        distinct[:, 1], distinct[:, 0], s=8 + 120 * count / count.max(), color="#0b5394", alpha=0.5, linewidth=0
    )
    limit = originals.max() * 1.08
    axes.plot([0, limit], [0, limit], color="#9aa5b1", linewidth=1)
    axes.set(
        xlabel="width, pixels",
        ylabel="height, pixels",
        xlim=(0, limit),
        ylim=(0, limit),
    )
    axes.set_aspect("equal")
    title = f"{number(len(originals), 'image')}, {number(len(distinct), 'size')}"
    _finish(figure, axes, path, title=title, legend=False)


def _finish(figure: Figure, axes, path: str | Path, *, title: str, legend: bool = True) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, x=0.01, ha="left", fontsize=12)
    if legend:
        axes.legend(frameon=False, fontsize=9, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=4)
    with replacing(path) as beside:
        figure.savefig(beside, dpi=130)
