"""Radiographs from DICOM: the pixels as a viewer would show them, black where the patient attenuates least.

Stored values go through the modality transform, the VOI transform (a look-up table before a window, the first of
several), and the polarity of the photometric interpretation. Padding is black.
"""

import warnings
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


def read_dicom(path: str | Path) -> np.ndarray:
    """(H, W) uint8 of a chest radiograph.

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
        data = pydicom.dcmread(path, force=True)
        reason = _refused(data)
        if reason:
            raise ValueError(reason)
        if "TransferSyntaxUID" not in data.file_meta:  # a bare data set, as from before 1995
            implicit, _ = data.original_encoding
            data.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
        try:
            stored = data.pixel_array
        except NotImplementedError as error:
            raise ValueError(f"no decoder for this compression ({error}): {INSTALL}") from None
        if data.PhotometricInterpretation == "PALETTE COLOR":
            stored = apply_color_lut(stored, data)
        if stored.ndim == 3:  # a secondary capture in colour
            deep = stored.dtype.itemsize > 1
            return np.asarray(Image.fromarray((stored >> 8 if deep else stored).astype(np.uint8)).convert("L"))
        return _shown(stored, data)


def _refused(data: Any) -> str | None:
    """Why this is not one chest radiograph; None where it is."""
    if "PixelData" not in data or "Rows" not in data or "Columns" not in data:
        return "no DICOM image: it holds no pixels"
    modality, part = data.get("Modality") or "", str(data.get("BodyPartExamined") or "").upper()
    if modality and modality not in MODALITIES:
        return f"modality {modality} is no projection radiograph ({', '.join(MODALITIES)})"
    if part and not any(name in part for name in CHEST):
        return f"body part {part} is not the chest"
    if int(data.get("NumberOfFrames") or 1) > 1:
        return f"{data.NumberOfFrames} frames, a radiograph has one"
    if data.Rows * data.Columns > LARGEST:
        return f"{data.Rows} x {data.Columns} pixels are too many"
    return None


def _shown(stored: np.ndarray, data: Any) -> np.ndarray:
    """Stored values (H, W) -> display values (H, W) uint8."""
    from pydicom.pixels import apply_modality_lut, apply_voi_lut

    padding = _padding(stored, data)
    values = apply_modality_lut(stored, data)
    if data.get("VOILUTSequence"):
        low, high = 0, 2 ** int(data.VOILUTSequence[0].LUTDescriptor[2]) - 1
        values = apply_voi_lut(values, data, prefer_lut=True)
    elif data.get("WindowWidth") is not None and data.get("WindowCenter") is not None:
        # What lies far outside the window tells the ends of its range.
        ends = np.array([[-1e9, 1e9]]) if "ModalityLUTSequence" not in data else np.array([[0, 65535]])
        low, high = apply_voi_lut(ends, data, prefer_lut=False)[0]
        values = apply_voi_lut(values.astype(np.float64), data, prefer_lut=False)
    else:
        kept = values[~padding]
        low, high = (kept.min(), kept.max()) if kept.size else (0, 1)
    shown = ((values.astype(np.float64) - low) / max(float(high) - float(low), 1e-9)).clip(0, 1)
    # PresentationLUTShape INVERSE goes with MONOCHROME1 in the standard: it says the same, not twice.
    if data.PhotometricInterpretation == "MONOCHROME1" or data.get("PresentationLUTShape") == "INVERSE":
        shown = 1 - shown
    shown[padding] = 0
    return np.rint(shown * 255).astype(np.uint8)


def _padding(stored: np.ndarray, data: Any) -> np.ndarray:
    """(H, W) bool: pixels that were filled in around the picture."""
    first = data.get("PixelPaddingValue")
    if first is None:
        return np.zeros(stored.shape, bool)
    last = data.get("PixelPaddingRangeLimit")
    low, high = sorted((first, first if last is None else last))
    return (stored >= low) & (stored <= high)
