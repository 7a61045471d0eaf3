"""The picture of a classifier's calibration: of studies with probability p, how many have the observation."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from xpronet.data.files import replacing
from xpronet.labels.calibration import reliability
from xpronet.labels.conditions import CONDITIONS

BLUE, GREY = "#0b5394", "#9aa5b1"


def reliability_diagrams(path: str | Path, labels: np.ndarray, probabilities: np.ndarray, *, split: str) -> None:
    """A panel per observation, of labels (N, 14) 0/1 and probabilities (N, 14); bars are 95 % (Wilson) intervals."""
    figure = Figure(figsize=(12, 7.4), layout="constrained")
    panels = figure.subplots(3, 5, sharex=True, sharey=True).flat
    for axes, name, truth, given in zip(panels, CONDITIONS, labels.T, probabilities.T, strict=False):
        found = reliability(truth, given)
        low, high = _wilson(found.observed, found.studies)
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=1)
        errors = np.maximum([found.observed - low, high - found.observed], 0)
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


def _wilson(share: np.ndarray, of: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's 95 % interval of shares."""
    z = 1.96
    middle = (share + z**2 / (2 * of)) / (1 + z**2 / of)
    half = z / (1 + z**2 / of) * np.sqrt(share * (1 - share) / of + z**2 / (4 * of**2))
    return middle - half, middle + half
