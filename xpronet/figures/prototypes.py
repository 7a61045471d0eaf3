"""Pictures of the prototypes: where they lie (the paper's Fig. 2), and whether they are of use."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.manifold import TSNE
from sklearn.metrics.pairwise import euclidean_distances
from threadpoolctl import threadpool_limits

from xpronet.figures.drawing import BLUE, COLOURS, GREY, ORANGE, SCALE, picture
from xpronet.labels.conditions import CONDITIONS

SEED = 1  # of the t-SNE, and of the places of dots side by side
PERPLEXITY = 30  # van der Maaten and Hinton (2008): between 5 and 50


def beside_their_own(prototypes: np.ndarray) -> float:
    """Share of the prototypes (K, N^p, D) whose nearest other one is of the same observation."""
    count, per, width = prototypes.shape
    distances = euclidean_distances(prototypes.reshape(-1, width))
    np.fill_diagonal(distances, np.inf)
    of = np.arange(count * per) // per
    return float((of[distances.argmin(axis=1)] == of).mean())


def places(prototypes: np.ndarray, start: np.ndarray | None = None) -> np.ndarray:
    """t-SNE of prototypes (K, N^p, D) -> (K, N^p, 2), the same each time; it begins at the places `start`, if given."""
    count, per, width = prototypes.shape
    perplexity = min(PERPLEXITY, (count * per - 1) / 3)
    init = "pca" if start is None else (1e-4 / start.std() * start).reshape(-1, 2).astype(np.float32)  # as sklearn's
    with threadpool_limits(1):  # whose sums are in one order
        found = TSNE(perplexity=perplexity, init=init, random_state=SEED).fit_transform(prototypes.reshape(-1, width))
    return found.reshape(count, per, 2)


def prototype_map(path: str | Path, matrices: Mapping[str, np.ndarray]) -> None:
    """A panel for each state of the prototypes, each (14, N^p, any width), by its name."""
    count, per, _ = next(iter(matrices.values())).shape
    chance = (per - 1) / (count * per - 1)
    spots = None
    with picture(path, 10, 4.9) as figure:
        panels = figure.subplots(1, len(matrices), squeeze=False)[0]
        for axes, (name, matrix) in zip(panels, matrices.items(), strict=True):
            spots = places(matrix, spots)
            for k, own in enumerate(spots):
                axes.scatter(*own.T, s=26, linewidth=0, alpha=0.85, label=CONDITIONS[k], **_look(k))
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(True)
            axes.spines[:].set_color(GREY)
            axes.set_title(f"{name}:\n{beside_their_own(matrix):.0%} beside one of their own", loc="left")
            axes.set_box_aspect(1)
        handles = panels[0].get_legend_handles_labels()
        figure.legend(*handles, loc="outside lower left", ncols=5, fontsize=9, markerscale=1.3)
        figure.suptitle(
            f"Prototypes by observation, t-SNE. Beside their own: the nearest, in full width, is of the same"
            f" observation; {chance:.0%} by chance",
            x=0.01,
            ha="left",
            fontsize=10,
        )


def none(path: str | Path, model: str) -> None:
    """The picture of a model without prototypes: it says so, as DVC expects the same files of every model."""
    with picture(path, 10, 0.8) as figure:
        figure.suptitle(f"{model} has no prototypes of observations", x=0.01, ha="left")


def _look(k: int) -> dict[str, str]:
    return {"color": COLOURS[k % len(COLOURS)], "marker": "o" if k < len(COLOURS) else "^"}


def health(path: str | Path, found: Mapping[str, Any]) -> None:
    """Draw what `health.describe` found: use by patches and by words, drift, and what the nearest studies have."""
    summary, each = found["summary"], found["each"]
    per = len(each) // len(CONDITIONS)
    more = [key for key in ("drift", "nearest_with_it") if key in each[0]]
    rows = np.arange(len(CONDITIONS))
    with picture(path, 10, 5.6) as figure:
        widths = (3, 3, *[1.6] * len(more))
        panels = figure.subplots(1, len(widths), sharey=True, width_ratios=widths)
        for axes, kind in zip(panels, ("patches", "words"), strict=False):
            image = _use(axes, each, kind, per)
            axes.set_title(f"use by {kind}", loc="left")
        panels[0].set_yticks(rows, CONDITIONS)
        _scale(figure, image, panels[:2])
        for axes, key in zip(panels[2:], more, strict=True):
            values = np.array([one[key] for one in each], float).reshape(-1, per)
            if key == "drift":
                _dots(axes, 100 * values)
                axes.set_title("moved by", loc="left")
                axes.set_xlabel("% of its length")
            else:
                axes.barh(rows, 100 * values.mean(axis=1) / len(each[0]["nearest"]), 0.6, color=BLUE)
                axes.set(xlim=(0, 100), xlabel="% of them")
                axes.set_title("nearest train\nstudies have it", loc="left")
        for axes in panels[1:]:
            axes.tick_params(axis="y", left=False)
        responded = "all" if not summary["dead"] else summary["asked"] - summary["dead"]
        title = f"Of {summary['asked']} prototypes that {summary['studies']:,} validation studies may ask"
        figure.suptitle(f"{title}, {responded} have responded", x=0.01, ha="left")


def relative_use(each: list[Mapping[str, Any]], kind: str, per: int) -> np.ndarray:
    """(14, N^p) responses as a multiple of what equal chances would make, most first; NaN where nobody might ask."""
    counts, expected = (
        np.array([one[key] for one in each], float).reshape(-1, per) for key in (kind, f"{kind}_expected")
    )
    ratios = np.divide(counts, expected, out=np.full(counts.shape, np.nan), where=expected > 0)
    return -np.sort(-ratios, axis=1)


def _use(axes: Axes, each: list[Mapping[str, Any]], kind: str, per: int):
    ratios = relative_use(each, kind, per)
    axes.set_facecolor("#dddddd")
    image = axes.imshow(ratios, cmap=SCALE, vmin=0, vmax=2, aspect="auto", interpolation="nearest")
    for row, column in np.argwhere(ratios == 0):
        axes.text(column, row, "×", ha="center", va="center", color=ORANGE, fontsize=9)
    for row in np.flatnonzero(np.isnan(ratios).all(axis=1)):
        axes.text((per - 1) / 2, row, "no study may ask", ha="center", va="center", fontsize=8)
    axes.set_xticks([0, per - 1], ["most used", "least"])
    for label, side in zip(axes.get_xticklabels(), ("left", "right"), strict=True):
        label.set_horizontalalignment(side)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return image


def _scale(figure: Figure, image, panels) -> None:
    bar = figure.colorbar(image, ax=list(panels), location="bottom", shrink=0.6, aspect=40, extend="max", pad=0.02)
    bar.set_ticks([0, 1, 2], labels=["never (×)", "as by equal chances", "twice that"])


def _dots(axes: Axes, values: np.ndarray) -> None:
    """A row of dots per observation, values (14, N^p)."""
    height = np.random.default_rng(SEED).uniform(-0.25, 0.25, values.shape)
    axes.scatter(values, np.arange(len(values))[:, None] + height, s=10, color=BLUE, linewidth=0, alpha=0.7)
    axes.set_xlim(0, max(1e-3, values.max()) * 1.1)
