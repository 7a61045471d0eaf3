"""Radiographs from files, and the resizes that the pack keeps (row 26 of docs/paper-and-code.md)."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from xpronet.sources.dicom import is_dicom, read_dicom, too_many

NARROWEST = 20  # times that a picture may be as long as it is wide: packed by its shorter side it would be gigabytes
DEPTHS = (8, 10, 12, 14, 16)  # bits of the values that detectors give


@dataclass(frozen=True)
class Picture:
    """A decoded image, and what decoding it had to assume: the same words for every image alike."""

    pixels: np.ndarray  # (H, W) uint8
    note: str = ""


def read_image(path: str | Path, *, most: int | None = None) -> np.ndarray:
    """Decode a PNG, JPEG or DICOM file to (H, W) uint8, black is low attenuation as in a printed radiograph.

    The one way in which pixels reach a model, in training and afterwards.

    Args:
        most: pixels of a file that nobody vouches for: what says it has more, or is deflated DICOM, is not decoded.

    Raises:
        ValueError: the file is missing, empty, truncated, too large or not an image; or it is DICOM, but no chest
            radiograph.
    """
    return decode(path, most=most).pixels


def decode(path: str | Path, *, most: int | None = None) -> Picture:
    """`read_image`, and what it had to assume."""
    try:
        picture = Picture(read_dicom(path, most=most)) if is_dicom(Path(path)) else _read_picture(path, most)
        if not picture.pixels.size:
            raise ValueError("no pixels")
        height, width = picture.pixels.shape
        if max(height, width) > NARROWEST * min(height, width):
            raise ValueError(f"{height} x {width} pixels: no radiograph is so narrow")
        return picture
    except FileNotFoundError:
        raise ValueError(f"{path}: no such image") from None
    except UnidentifiedImageError:
        raise ValueError(f"{path}: not an image that Pillow can read (PNG, JPEG or DICOM expected)") from None
    except Exception as error:  # noqa: BLE001  # of damaged bytes decoders make errors of every class
        text = " ".join(str(error).split()) or type(error).__name__
        text = text if len(text) < 200 else f"{text[:200]}…"
        raise ValueError(f"{path}: {'' if isinstance(error, ValueError) else 'broken image: '}{text}") from None


def _read_picture(path: str | Path, most: int | None) -> Picture:
    with Image.open(path) as image:
        reason = None if most is None else too_many(image.height, image.width, most)
        if reason:
            raise ValueError(reason)
        image.draft("L", image.size)  # JPEG decodes straight to grey
        deep = any(";16" in str(tile.args) for tile in image.tile)
        ImageOps.exif_transpose(image, in_place=True)
        if image.mode.startswith("I"):
            return _to_8_bits(np.asarray(image).astype(np.int64), _significant_bits(path))
        if image.mode == "F":
            raise ValueError("its pixels are fractions, of which nobody knows the white: save it in 8 or 16 bits")
        grey = np.asarray(image.convert("L"))
    if deep and 0 < grey.max(initial=0) < 64:  # Pillow has dropped the low bytes already
        raise ValueError("colour of 16 bits with values of fewer: save it in grey, or in 8 bits")
    return Picture(grey)


def _to_8_bits(values: np.ndarray, significant: int | None) -> Picture:
    """The high bits of (H, W) int64; where a format of 16 bits holds values of a detector with fewer, of those.

    Args:
        significant: what the file says of their number; otherwise the depth of a detector that holds the largest.
    """
    values = values - min(values.min(initial=0), 0)  # signed
    largest = int(values.max(initial=0))
    depths = DEPTHS if significant is None else (significant, 16)
    depth = next((depth for depth in depths if largest < 2**depth), largest.bit_length())
    note = f"values of {depth} bits in a deeper file, shown in the whole range of grey"
    return Picture((values >> depth - 8).astype(np.uint8), note if depth < 16 and largest else "")


def _significant_bits(path: str | Path) -> int | None:
    """Chunk sBIT of a PNG file: how many of its bits hold the picture; None where it does not say."""
    with open(path, "rb") as file:
        if file.read(8) != b"\x89PNG\r\n\x1a\n":
            return None
        while len(head := file.read(8)) == 8 and head[4:] != b"IDAT":
            data = file.read(int.from_bytes(head[:4]) + 4)
            if head[4:] == b"sBIT":
                return data[0] if 8 <= data[0] <= 16 else None
    return None


def resize_shorter(image: np.ndarray, size: int) -> np.ndarray:
    """(H, W) uint8 -> shorter side `size`, as Resize(size) of torchvision, which rounds the longer one down."""
    height, width = image.shape
    shorter = min(height, width)
    return _resize(image, width * size // shorter, height * size // shorter)


def resize_square(image: np.ndarray, size: int) -> np.ndarray:
    """(H, W) uint8 -> (size, size), aspect ratio ignored, as Resize((size, size)) of torchvision."""
    return _resize(image, size, size)


def _resize(image: np.ndarray, width: int, height: int) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
