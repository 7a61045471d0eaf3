"""What pictures share: colours for the colour-blind, letters to read at half size, and the same bytes each time."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from xpronet.common.files import replacing

# Okabe and Ito (2008), "Color universal design", without the yellow, which is faint on white.
BLUE, ORANGE, GREEN, RED, SKY, PINK, BLACK = COLOURS = (
    *("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#000000"),
)
GREY = "#8a939c"
SCALE = "cividis"  # of heat maps
DPI = 110  # 1,100 pixels for the 10 inches of most: a page of them needs no scrolling sideways
STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 10,
    "axes.titlesize": 10,
    "figure.titlesize": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "svg.hashsalt": "xpronet",  # of the names within the file, which are drawn anew without it
}


@contextmanager
def picture(path: str | Path, width: float, height: float) -> Iterator[Figure]:
    """A figure of so many inches to draw in; in the end it is written to PATH.png and PATH.svg."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure
        for suffix, undated in ((".png", {"Software": None}), (".svg", {"Date": None, "Creator": None})):
            with replacing(f"{path}{suffix}") as beside:
                figure.savefig(beside, dpi=DPI, metadata=undated)
            figure.set_layout_engine("none")  # it is laid out: once is enough
