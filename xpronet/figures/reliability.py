"""The picture of a classifier's calibration: of studies with probability p, how many have the observation."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import binomtest

from xpronet.classifier.calibration import reliability
from xpronet.common.files import replacing
from xpronet.labels.conditions import CONDITIONS

BLUE, GREY = "#0b5394", "#9aa5b1"


def reliability_diagrams(path: str | Path, labels: np.ndarray, probabilities: np.ndarray, *, split: str) -> None:
    """A panel per observation, of labels (N, 14) 0/1 and probabilities (N, 14); bars are 95 % (Wilson) intervals."""
    figure = Figure(figsize=(12, 7.4), layout="constrained")
    panels = figure.subplots(3, 5, sharex=True, sharey=True).flat
    for axes, name, truth, given in zip(panels, CONDITIONS, labels.T, probabilities.T, strict=False):
        found = reliability(truth, given)
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=1)
        positive = np.rint(found.observed * found.studies).astype(int)
        ends = [binomtest(n, of).proportion_ci(method="wilson") for n, of in zip(positive, found.studies, strict=True)]
        errors = np.abs(np.array([(end.low, end.high) for end in ends]).T - found.observed)  # (2, b)
        axes.errorbar(found.predicted, found.observed, errors, color=BLUE, linewidth=1.2, elinewidth=0.8)
        axes.scatter(found.predicted, found.observed, s=6 + 120 * found.studies / len(truth), color=BLUE, zorder=3)
        axes.set_title(f"{name}\n{int(truth.sum())} of {len(truth):,}, ECE {found.error:.3f}", fontsize=9)
        axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
        axes.set_aspect("equal")
        axes.spines[["top", "right"]].set_visible(False)
    legend = panels[-1]
    legend.axis("off")
    legend.text(
        0,
        0.95,
        "On the line, of the studies that\nwere given a probability p a\nshare p has the observation.\n\n"
        "Above it the classifier is too\ncautious, below it too sure.\n\n"
        "Dots grow with the studies in\nthem; bars: 95 % intervals.",
        fontsize=9,
        va="top",
    )
    figure.supxlabel(f"probability given by the classifier ({len(labels):,} studies of {split})", fontsize=10)
    figure.supylabel("share that has the observation", fontsize=10)
    with replacing(path) as beside:
        figure.savefig(beside, dpi=110)
