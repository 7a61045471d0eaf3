"""Pictures of a classifier of observations: its calibration, and its ROC curves."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from scipy.stats import binomtest
from sklearn.metrics import roc_curve

from xpronet.classifier.calibration import auroc, macro_auroc, reliability
from xpronet.figures.drawing import BLUE, GREY, ORANGE, picture
from xpronet.labels.conditions import CONDITIONS

STYLES = {"val": {"color": ORANGE, "linestyle": (0, (3, 1.5))}, "test": {"color": BLUE}}


def reliability_diagrams(path: str | Path, labels: np.ndarray, probabilities: np.ndarray, *, split: str) -> None:
    """A panel per observation, of labels (N, 14) 0/1 and probabilities (N, 14); bars are 95 % (Wilson) intervals."""
    all_found = [reliability(*each) for each in zip(labels.T, probabilities.T, strict=True)]
    off = np.mean([found.error for found in all_found])
    title = f"The classifier's probabilities are off by {off:.2f} on average (ECE), {len(labels):,} {split} studies"
    with _panels(path, title, "probability given by the classifier", "share that has the observation") as panels:
        legend = next(panels)
        for axes, name, truth, found in zip(panels, CONDITIONS, labels.T, all_found, strict=True):
            positive = np.rint(found.observed * found.studies).astype(int)
            ends = [
                binomtest(n, of).proportion_ci(method="wilson") for n, of in zip(positive, found.studies, strict=True)
            ]
            bars = np.abs(np.array([(end.low, end.high) for end in ends]).T - found.observed)  # (2, b)
            axes.errorbar(found.predicted, found.observed, bars, fmt="none", ecolor=BLUE, elinewidth=1)
            sizes = 6 + 120 * found.studies / len(truth)
            axes.scatter(found.predicted, found.observed, s=sizes, color=BLUE, zorder=3, clip_on=False)
            axes.set_title(f"{name}\n{int(truth.sum())} have it, ECE {found.error:.2f}", fontsize=9)
        legend.text(
            0,
            1,
            "On the grey line a share p\nof the studies that were\ngiven p has it; above it the\n"
            "classifier is too cautious,\nbelow it too sure.\n\n"
            "Dots grow with the studies\nin them. Bars: 95 %.",
            fontsize=9,
            va="top",
        )


def roc_curves(path: str | Path, splits: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """A panel per observation, a curve per split in which some studies have it and some have not.

    Args:
        splits: name -> labels (N, 14) 0/1 and probabilities (N, 14).
    """
    areas = {split: auroc(*each) for split, each in splits.items()}
    means = ", ".join(f"{macro_auroc(*each):.2f} on {split}" for split, each in splits.items())
    title = f"Studies in the order of the classifier's probabilities: mean AUROC {means}"
    with _panels(
        path, title, "false alarms: share of the studies without it", "found: share of the studies with it"
    ) as panels:
        legend = next(panels)
        for k, (axes, name) in enumerate(zip(panels, CONDITIONS, strict=True)):
            for split, (labels, probabilities) in splits.items():
                if name in areas[split]:
                    wrong, right, _ = roc_curve(labels[:, k], probabilities[:, k])
                    axes.plot(wrong, right, linewidth=1.6, clip_on=False, **STYLES[split])
            found = " / ".join(f"{areas[split][name]:.2f}" if name in areas[split] else "–" for split in splits)
            axes.set_title(f"{name}\n{found}", fontsize=9)
        for split, (labels, _) in splits.items():
            legend.plot([], [], label=f"{split}, {len(labels):,} studies", **STYLES[split])
        legend.plot([], [], color=GREY, linewidth=1, label="chance")
        legend.legend(loc="upper left", bbox_to_anchor=(-0.1, 1.05), fontsize=9)
        above = f"Above each: AUROC on\n{' / '.join(splits)}; – where all\nor none have it."
        legend.text(0, 0.45, above, fontsize=9, va="top")


@contextmanager
def _panels(path: str | Path, title: str, x: str, y: str) -> Iterator[Iterator[Axes]]:
    """The axes of the legend, then 14 unit squares with their diagonal."""
    with picture(path, 10, 7) as figure:
        *squares, legend = figure.subplots(3, 5, sharex=True, sharey=True).flat
        for axes in squares:
            axes.plot([0, 1], [0, 1], color=GREY, linewidth=1)
            axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
            axes.set_aspect("equal")
        legend.axis("off")
        figure.suptitle(title, x=0.01, ha="left")
        figure.supxlabel(x, fontsize=10)
        figure.supylabel(y, fontsize=10)
        yield iter([legend, *squares])
