"""Radiographs from DICOM: the pixels as a viewer would show them, black where the patient attenuates least.

Stored values go through the modality transform (a look-up table or slope and intercept), the VOI transform (a look-up
table before a window, the first of several), and the polarity of the photometric interpretation. Padding is black.
"""

import io
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

MODALITIES = ("CR", "DX", "DR", "RG")  # of projection radiographs
CHEST = ("CHEST", "THORAX", "LUNG")  # one of them is in BodyPartExamined, where that is given
LARGEST = 10**8  # pixels
INSTALL = "pip install 'xpronet[dicom]'"


def is_dicom(path: Path) -> bool:
    """Whether a file says that it is DICOM, by its content or, where it has no preamble, by its name."""
    with open(path, "rb") as file:
        return file.read(132)[128:] == b"DICM" or path.suffix.lower() in (".dcm", ".dicom")


class Uninflated(io.BufferedReader):
    """A file of which a few bytes never become any number: pydicom asks for all that is left only to inflate it."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:
            raise ValueError("deflated DICOM: save it without, or use `xpronet generate`")
        return super().read(size)


def read_dicom(path: str | Path, *, most: int | None = None) -> np.ndarray:
    """(H, W) uint8 of a chest radiograph.

    Args:
        most: pixels of a file that nobody vouches for: with more it is not decoded, and what is deflated is not read.

    Raises:
        ValueError: pydicom or a decoder is not installed, or the file holds something else than one chest radiograph
            (another modality or body part, several frames). A file that is not whole raises whatever pydicom and the
            decoders do: `read_image` makes one line of it.
    """
    try:
        import pydicom
        from pydicom.pixels import apply_color_lut
        from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
    except ImportError:
        raise ValueError(f"reading DICOM needs pydicom: {INSTALL}") from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd values in headers; what matters is checked below
        with open(path, "rb") if most is None else Uninflated(io.FileIO(path)) as file:
            data = pydicom.dcmread(file, force=True)
        reason = _refused(data, LARGEST if most is None else most)
        if reason:
            raise ValueError(reason)
        if "TransferSyntaxUID" not in data.file_meta:  # a bare data set, as from before 1995
            implicit, _ = data.original_encoding
            data.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
        try:
            stored = data.pixel_array
        except NotImplementedError as error:
            raise ValueError(f"no decoder for this compression ({error}): {INSTALL}") from None
        bits = data.BitsStored
        if data.PhotometricInterpretation == "PALETTE COLOR":
            stored = apply_color_lut(stored, data)
            bits = 8 * stored.dtype.itemsize
        if stored.ndim == 3:  # a secondary capture in colour
            return np.asarray(Image.fromarray((stored >> max(bits - 8, 0)).astype(np.uint8)).convert("L"))
        return _shown(stored, data)


def _refused(data: Any, most: int) -> str | None:
    """Why this is not one chest radiograph of so many pixels at most; None where it is."""
    if "PixelData" not in data or "Rows" not in data or "Columns" not in data:
        return "no DICOM image: it holds no pixels"
    modality, part = data.get("Modality") or "", str(data.get("BodyPartExamined") or "").upper()
    if modality and modality not in MODALITIES:
        return f"modality {modality} is no projection radiograph ({', '.join(MODALITIES)})"
    if part and not any(name in part for name in CHEST):
        return f"body part {part} is not the chest"
    if int(data.get("NumberOfFrames") or 1) > 1:
        return f"{data.NumberOfFrames} frames, a radiograph has one"
    return too_many(data.Rows, data.Columns, most)


def too_many(height: int, width: int, most: int) -> str | None:
    """Why a picture of this size is not decoded; None where it is."""
    return f"{height:,} x {width:,} pixels, more than {most:,}: save it smaller" if height * width > most else None


def _shown(stored: np.ndarray, data: Any) -> np.ndarray:
    """Stored values (H, W) -> display values (H, W) uint8."""
    padding = _padding(stored, data)
    values = _rescaled(stored, data)
    voi = data.VOILUTSequence[0] if data.get("VOILUTSequence") else {}
    if "LUTDescriptor" in voi and "LUTData" in voi:
        table, bits = _table(voi, data)
        shown = table(values) / (2**bits - 1)
    elif _first(data, "WindowWidth") is not None and _first(data, "WindowCenter") is not None:
        shown = _windowed(values, data)
    else:
        kept = values[~padding]
        low, high = (kept.min(), kept.max()) if kept.size else (0, 1)
        shown = (values - low) / max(high - low, 1e-9)
    shown = shown.clip(0, 1)
    # PresentationLUTShape INVERSE goes with MONOCHROME1 in the standard: it says the same, not twice.
    if data.PhotometricInterpretation == "MONOCHROME1" or data.get("PresentationLUTShape") == "INVERSE":
        shown = 1 - shown
    shown = np.rint(shown * 255)
    if (~padding).any() and np.ptp(stored[~padding]) and not np.ptp(shown[~padding]):
        raise ValueError("what it says of slope, window or look-up tables makes all pixels the same")
    shown[padding] = 0
    return shown.astype(np.uint8)


def _rescaled(stored: np.ndarray, data: Any) -> np.ndarray:
    """The modality transform (PS3.3 C.11.1): stored values (H, W) -> float64."""
    if data.get("ModalityLUTSequence"):
        return _table(data.ModalityLUTSequence[0], data)[0](stored)
    slope, intercept = _first(data, "RescaleSlope"), _first(data, "RescaleIntercept")
    if slope == 0:
        raise ValueError("RescaleSlope 0 makes all pixels the same")
    return stored * (1.0 if slope is None else slope) + (0.0 if intercept is None else intercept)


def _windowed(values: np.ndarray, data: Any) -> np.ndarray:
    """The window (PS3.3 C.11.2.1): values of the modality transform -> 0 where black, 1 where white."""
    function = str(data.get("VOILUTFunction") or "LINEAR").upper()
    center, width = _first(data, "WindowCenter"), _first(data, "WindowWidth")
    if width < 1 if function == "LINEAR" else width <= 0:
        raise ValueError(f"WindowWidth {width:g} is too small for a window of function {function}")
    if function == "SIGMOID":
        return 1 / (1 + np.exp(-4 * (values - center) / width))
    if function == "LINEAR":
        center, width = center - 0.5, width - 1
    elif function != "LINEAR_EXACT":
        raise ValueError(f"VOILUTFunction {function} is none of LINEAR, LINEAR_EXACT, SIGMOID")
    return (values - center) / width + 0.5 if width else (values > center).astype(float)


def _table(item: Any, data: Any) -> tuple[Callable[[np.ndarray], np.ndarray], int]:
    """A look-up table, and the bits of what it gives; values beyond its ends become those of its ends."""
    entries, first, bits = item.LUTDescriptor
    table = item.LUTData
    if isinstance(table, bytes):
        little = data.original_encoding[1] is not False
        narrow = len(table) < 2 * (entries or 2**16)
        table = np.frombuffer(table, np.uint8 if narrow else "<u2" if little else ">u2")
    table = np.asarray(table, np.float64)[: entries or 2**16]
    return lambda values: table[np.rint(values.astype(np.float64) - first).clip(0, len(table) - 1).astype(int)], bits


def _first(data: Any, name: str) -> float | None:
    """The first value of an element; None where it is absent or empty. ValueError where it is no finite number."""
    from pydicom.multival import MultiValue

    value = data.get(name)
    if isinstance(value, MultiValue):
        value = value[0] if value else None
    if value in (None, ""):
        return None
    if not math.isfinite(float(value)):
        raise ValueError(f"{name} {value} is no number")
    return float(value)


def _padding(stored: np.ndarray, data: Any) -> np.ndarray:
    """(H, W) bool: pixels that were filled in around the picture."""
    first = data.get("PixelPaddingValue")
    if first is None:
        return np.zeros(stored.shape, bool)
    last = data.get("PixelPaddingRangeLimit")
    low, high = sorted((first, first if last is None else last))
    return (stored >= low) & (stored <= high)
