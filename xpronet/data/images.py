"""Radiographs: read a file, pack a dataset into one memory-mapped file, cut out what the model sees.

The published transforms (row 26 of docs/paper-and-code.md) are Resize(256) + RandomCrop(224) for training and
Resize((224, 224)) for everything else. Each is a resize of the original, so the pack keeps both results: a `square` of
every image and, for the images of the train split, the `train` version whose shorter side is `resize`. What comes out
of the pack is bit for bit what the published transforms make of a grey original.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torchvision.transforms import functional as F

from xpronet.data.dicom import is_dicom, read_dicom
from xpronet.data.files import replacing

MEAN = (0.485, 0.456, 0.406)  # of ImageNet, as the published code
STD = (0.229, 0.224, 0.225)


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
            if image.mode.startswith("I;16") or image.mode == "I":
                return (np.asarray(image).astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8)  # 16 bits to 8
            return np.asarray(image.convert("L"))
    except FileNotFoundError:
        raise ValueError(f"{path}: no such image") from None
    except UnidentifiedImageError:
        raise ValueError(f"{path}: not an image that Pillow can read (PNG, JPEG or DICOM expected)") from None
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:  # truncated, broken chunk, absurd size
        raise ValueError(f"{path}: broken image: {error}") from None


def resize_shorter(image: np.ndarray, size: int) -> np.ndarray:
    """(H, W) uint8 -> shorter side `size`, Resize(size) of torchvision on a PIL image."""
    return np.asarray(F.resize(Image.fromarray(image), size))


def resize_square(image: np.ndarray, size: int) -> np.ndarray:
    """(H, W) uint8 -> (size, size), aspect ratio ignored, Resize((size, size)) of torchvision on a PIL image."""
    return np.asarray(F.resize(Image.fromarray(image), [size, size]))


def normalise(pixels: torch.Tensor) -> torch.Tensor:
    """(..., H, W) uint8 -> (..., 3, H, W) float32 with ImageNet's mean and deviation."""
    grey = (pixels.float() / 255).unsqueeze(-3)  # (..., 1, H, W)
    mean, std = (torch.tensor(values, device=pixels.device).view(3, 1, 1) for values in (MEAN, STD))
    return (grey - mean) / std


@dataclass(frozen=True)
class Packed:
    """What one image becomes in the pack."""

    square: np.ndarray  # (crop, crop) uint8
    train: np.ndarray | None = None  # (H, W) uint8, shorter side `resize`; train split only


def pack_image(image: np.ndarray, *, resize: int, crop: int, train: bool) -> Packed:
    return Packed(resize_square(image, crop), resize_shorter(image, resize) if train else None)


def write_pack(pixels_path: str | Path, index_path: str | Path, images: Iterable[Packed], *, resize: int, crop: int):
    """Write packed images one after the other and an index of where each begins; nothing is kept in memory.

    The index is a JSON object: `resize`, `crop`, and per image [offset of the square, offset, height and width of the
    train version or three zeros].
    """
    rows, offset = [], 0
    with replacing(pixels_path) as beside:
        with open(beside, "wb") as file:
            for image in images:
                row = [offset, 0, 0, 0]
                offset += file.write(np.ascontiguousarray(image.square))
                if image.train is not None:
                    row[1:] = [offset, *image.train.shape]
                    offset += file.write(np.ascontiguousarray(image.train))
                rows.append(row)
        with replacing(index_path) as index:
            index.write_text(json.dumps({"resize": resize, "crop": crop, "images": rows}) + "\n")


class ImagePack:
    """Read access to a packed image file; pages come from the file as they are touched."""

    def __init__(self, pixels_path: str | Path, index_path: str | Path):
        index = json.loads(Path(index_path).read_text())
        self.resize, self.crop = index["resize"], index["crop"]
        self._rows = np.asarray(index["images"], dtype=np.int64).reshape(-1, 4)
        self._path = pixels_path
        self._pixels = np.memmap(pixels_path, dtype=np.uint8, mode="r")

    def __len__(self) -> int:
        return len(self._rows)

    def __getstate__(self):  # a worker process maps the file again instead of receiving its content
        return {"resize": self.resize, "crop": self.crop, "_rows": self._rows, "_path": self._path}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self._pixels = np.memmap(self._path, dtype=np.uint8, mode="r")

    def square(self, position: int) -> np.ndarray:
        """(crop, crop) uint8, what the model sees outside training."""
        offset = self._rows[position, 0]
        return self._pixels[offset : offset + self.crop**2].reshape(self.crop, self.crop)

    def random_crop(self, position: int, generator: torch.Generator) -> np.ndarray:
        """(crop, crop) uint8, a random window of the train version."""
        _, offset, height, width = self._rows[position]
        assert height, f"image {position} was packed without a train version"
        image = self._pixels[offset : offset + height * width].reshape(height, width)
        top = int(torch.randint(height - self.crop + 1, (), generator=generator))
        left = int(torch.randint(width - self.crop + 1, (), generator=generator))
        return image[top : top + self.crop, left : left + self.crop]
