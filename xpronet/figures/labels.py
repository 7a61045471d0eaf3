"""The picture of the observations of a split: how many studies have each, and which come together."""

from pathlib import Path

import numpy as np

from xpronet.figures.drawing import BLUE, SCALE, picture
from xpronet.labels.conditions import CONDITIONS

WRITTEN = 0.095  # smaller shares are told by their colour alone


def together(labels: np.ndarray) -> np.ndarray:
    """[i, j] (K, K): of the studies with observation i, the share that has j too; NaN where none has i.

    Args:
        labels: (N, K) 0/1.
    """
    found = np.asarray(labels, np.float64)
    studies = found.sum(axis=0)[:, None]
    return np.divide(found.T @ found, studies, out=np.full((found.shape[1],) * 2, np.nan), where=studies > 0)


def observations(path: str | Path, labels: np.ndarray, *, split: str) -> None:
    """Draw labels (N, 14) 0/1 of the studies of a split."""
    counts, shares = labels.sum(axis=0).astype(int), together(labels)
    np.fill_diagonal(shares, np.nan)
    rows = np.arange(len(CONDITIONS))
    with picture(path, 10, 6.6) as figure:
        bars, cells = figure.subplots(1, 2, width_ratios=(2, 4), sharey=True)
        bars.barh(rows, counts, 0.7, color=BLUE)
        for row, count in zip(rows, counts, strict=True):
            bars.text(count, row, f" {count:,} · {count / len(labels):.0%}", va="center", fontsize=9)
        bars.set_yticks(rows, CONDITIONS)
        bars.invert_yaxis()
        bars.set_xlim(0, max(1, counts.max()) * 1.6)
        bars.set_xlabel("studies")
        bars.locator_params(axis="x", integer=True)
        bars.set_title("Studies with each observation", loc="left")
        most = 1.0 if np.isnan(shares).all() else max(np.nanmax(shares), 0.01)
        image = cells.imshow(shares, cmap=SCALE, vmin=0, vmax=most, aspect="auto")
        for row, column in np.argwhere(shares >= WRITTEN):
            dark = shares[row, column] < 0.6 * most
            text = f"{100 * shares[row, column]:.0f}"
            cells.text(column, row, text, ha="center", va="center", fontsize=9, color="white" if dark else "black")
        cells.set_xticks(rows, CONDITIONS, rotation=90)
        cells.tick_params(axis="y", left=False)
        cells.spines[:].set_visible(False)
        cells.set_title("Of the studies with the row's, % that have the column's too", loc="left")
        figure.colorbar(image, ax=cells, format=lambda share, _: f"{share:.0%}", shrink=0.6)
        several = (labels.sum(axis=1) > 1).mean()
        figure.suptitle(
            f"Labels of {len(labels):,} {split} studies: {several:.0%} have more than one", x=0.01, ha="left"
        )
