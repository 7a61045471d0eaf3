"""Whether a picture can be a chest radiograph at all: cheap looks at colour, grey values and shape, no more.

What no radiograph looks like is refused, what is odd is flagged. A grey photograph of something else passes.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from xpronet.app.duplicates import BLANK
from xpronet.sources.dicom import is_dicom
from xpronet.sources.images import decode

LEVELS = 32  # different grey values that a radiograph has at least; real ones of IU-Xray have 134 or more
WHITE, PAPER = 245, 0.5  # grey value from which a pixel is white, and the share of them that only paper has
COLOURED, COLOURS = 40, 0.1  # distance of a pixel's channels from which it is coloured, and the share that marks leave
LONG = 2  # times as long as wide from which a picture is odd


def read_radiograph(
    image: str | Path | np.ndarray, *, size: int, most: int | None = None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Pixels (H, W) uint8 of a file, or as they are given; and what is odd about them, in words.

    Args:
        size: side of the square that the model sees.
        most: pixels of a file, as `read_image` takes it.

    Raises:
        ValueError: the file cannot be read, or what it shows is no radiograph: the line says why.
    """
    given = isinstance(image, np.ndarray)
    if given and not (image.dtype == np.uint8 and image.ndim == 2 and image.size):
        raise ValueError(f"an image of {image.dtype} {image.shape}: expected grey values (H, W) in uint8")
    pixels = image if given else decode(image, most=most).pixels
    where = "an image" if given else image
    reason = _no_radiograph(pixels) or (None if given else _coloured(image))
    if reason:
        raise ValueError(f"{where}: no chest radiograph: {reason}")
    return pixels, tuple(f"{where}: {doubt}" for doubt in _doubts(pixels, size))


def _no_radiograph(pixels: np.ndarray) -> str | None:
    if pixels.std() < BLANK:
        return "nearly all of it is one grey"
    levels = np.count_nonzero(np.bincount(pixels.ravel(), minlength=256))
    if levels < LEVELS:
        return f"{levels} grey values: a drawing, a mask or a text"
    white = np.mean(pixels >= WHITE)
    if white > PAPER:
        return f"{white:.0%} of it is white: a page, a drawing, or a radiograph with black and white exchanged"
    return None


def _coloured(path: str | Path) -> str | None:
    if is_dicom(Path(path)):
        return None
    with Image.open(path) as image:
        if image.mode not in ("RGB", "RGBA", "P", "CMYK", "YCbCr", "LAB", "HSV"):
            return None
        image.draft("RGB", (256, 256))  # JPEG decodes small
        colours = image.convert("RGB")
    colours.thumbnail((256, 256))
    channels = np.asarray(colours, np.int16)
    share = np.mean(channels.max(axis=2) - channels.min(axis=2) > COLOURED)
    return f"{share:.0%} of it is coloured: save it in grey if it is one" if share > COLOURS else None


def _doubts(pixels: np.ndarray, size: int) -> list[str]:
    height, width = pixels.shape
    found = []
    if max(height, width) > LONG * min(height, width):
        found.append(f"{height} x {width} pixels, squared for the model: perhaps no chest, or two views in one file")
    if min(height, width) < size:
        found.append(f"{height} x {width} pixels, fewer than the {size} that the model sees")
    return found
