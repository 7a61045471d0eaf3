"""Radiographs from files, and the resizes that the pack keeps (row 26 of docs/paper-and-code.md)."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from xpronet.sources.dicom import is_dicom, read_dicom


def read_image(path: str | Path) -> np.ndarray:
    """Decode a PNG, JPEG or DICOM file to (H, W) uint8, black is low attenuation as in a printed radiograph.

    The one way in which pixels reach a model, in training and afterwards.

    Raises:
        ValueError: the file is missing, empty, truncated or not an image; or it is DICOM, but no chest radiograph.
    """
    try:
        if is_dicom(Path(path)):
            return read_dicom(path)
        with Image.open(path) as image:
            image.draft("L", image.size)  # JPEG decodes straight to grey
            ImageOps.exif_transpose(image, in_place=True)
            if image.mode.startswith("I;16") or image.mode == "I":
                return (np.asarray(image).astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8)  # 16 bits to 8
            return np.asarray(image.convert("L"))
    except FileNotFoundError:
        raise ValueError(f"{path}: no such image") from None
    except UnidentifiedImageError:
        raise ValueError(f"{path}: not an image that Pillow can read (PNG, JPEG or DICOM expected)") from None
    except Exception as error:  # noqa: BLE001  # of damaged bytes decoders make errors of every class
        text = " ".join(str(error).split()) or type(error).__name__
        text = text if len(text) < 200 else f"{text[:200]}…"
        raise ValueError(f"{path}: {'' if isinstance(error, ValueError) else 'broken image: '}{text}") from None


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
