"""Radiographs: read a file, pack a dataset into one memory-mapped file, cut out what the model sees.

The published transforms (row 26 of docs/paper-and-code.md) are Resize(256) + RandomCrop(224) for training and
Resize((224, 224)) for everything else. Each is a resize of the original, so the pack keeps both results: a `square` of
every image and, for the images of the train split, the `train` version whose shorter side is `resize`. What comes out
of the pack is bit for bit what the published transforms make of a grey original.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    train: np.ndarray | None  # (H, W) uint8, shorter side `resize`; train split only
    size: tuple[int, int]  # height and width of the original
    sha256: str  # of the original's size and pixels: the same picture in another file or format has the same


def pack_image(image: np.ndarray, *, resize: int, crop: int, train: bool) -> Packed:
    content = hashlib.sha256(f"{image.shape}".encode() + image.tobytes())
    return Packed(
        resize_square(image, crop), resize_shorter(image, resize) if train else None, image.shape, content.hexdigest()
    )


class PackWriter:
    """Writes a pack beside its place and moves it there at the end; what a killed run has written is continued.

    The index is text: a JSON object with `resize` and `crop`, then a JSON list per image: offset of the square; offset,
    height and width of the train version or three zeros; height, width and SHA-256 of the original. The unfinished
    index has a `key` in its first line, a stamp at the end of each list, and a text in place of the list where an image
    is broken.
    """

    def __init__(self, pixels: str | Path, index: str | Path, *, resize: int, crop: int, key: str):
        """`key`: whatever decides what is written; the unfinished work of another key is thrown away."""
        self._pixels, self._index = Path(pixels), Path(index)
        self._head = {"resize": resize, "crop": crop}
        self._key, self._offset = {**self._head, "key": key}, 0
        self.rows: list[list | str] = []

    def __enter__(self) -> "PackWriter":
        self._part, self._journal = (
            place.with_name(f".{place.stem}.unfinished{place.suffix}") for place in (self._pixels, self._index)
        )
        self._part.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(self._part, "ab", buffering=0)
        self._log = None
        return self

    def __exit__(self, *error) -> None:
        self._file.close()
        if self._log:
            self._log.close()

    def resume(self, stamp: Callable[[int], Any], *, keep_broken: bool) -> int:
        """How many images of an unfinished run stay: those before the first whose stamp has changed or that is broken.

        Args:
            stamp: position of an image -> what changes when the file does.
            keep_broken: broken images are not tried again.
        """
        lines = self._journal.read_text(encoding="utf-8").splitlines() if self._journal.exists() else []
        if lines and _line(lines[0]) == self._key:
            for position, line in enumerate(lines[1:]):
                row = _line(line)
                if isinstance(row, str) and keep_broken:
                    self.rows.append(row)
                    continue
                if not isinstance(row, list) or row[-1] != stamp(position):
                    break
                end = row[1] + row[2] * row[3] if row[1] else row[0] + self._head["crop"] ** 2
                if end > self._file.tell():
                    break
                self.rows.append(row)
                self._offset = end
        self._file.truncate(self._offset)
        with replacing(self._journal) as beside:
            beside.write_text("".join(f"{json.dumps(line)}\n" for line in (self._key, *self.rows)), encoding="utf-8")
        self._log = open(self._journal, "a", encoding="utf-8", buffering=1)  # noqa: SIM115
        return len(self.rows)

    def add(self, image: Packed | str, stamp: Any = None) -> None:
        """The next image, or why it is broken. Pixels are written at once, before the journal says so."""
        row = image
        if isinstance(image, Packed):
            row = [self._offset, 0, 0, 0, *image.size, image.sha256, stamp]
            self._write(image.square)
            if image.train is not None:
                row[1:4] = [self._offset, *image.train.shape]
                self._write(image.train)
        self._log.write(f"{json.dumps(row)}\n")
        self.rows.append(row)

    def _write(self, pixels: np.ndarray) -> None:
        self._offset += pixels.size
        rest = memoryview(np.ascontiguousarray(pixels)).cast("B")
        while rest:
            rest = rest[self._file.write(rest) :]

    def finish(self) -> None:
        """Move both files to their places; broken images are left out."""
        with replacing(self._index) as beside, open(beside, "w", encoding="utf-8") as file:
            for line in (self._head, *(row[:-1] for row in self.rows if isinstance(row, list))):
                file.write(f"{json.dumps(line)}\n")
        os.replace(self._part, self._pixels)
        self._journal.unlink()


def _line(text: str) -> Any:
    """A line of an unfinished index; None where the run was killed within it."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return None


def write_pack(pixels: str | Path, index: str | Path, images: Iterable[Packed], *, resize: int, crop: int) -> None:
    """Write a pack of images that are at hand."""
    with PackWriter(pixels, index, resize=resize, crop=crop, key="") as writer:
        writer.resume(lambda position: "never", keep_broken=False)
        for image in images:
            writer.add(image)
        writer.finish()


class ImagePack:
    """Read access to a packed image file; pages come from the file as they are touched."""

    def __init__(self, pixels_path: str | Path, index_path: str | Path):
        head, *rows = Path(index_path).read_text(encoding="utf-8").splitlines()
        self.resize, self.crop = (json.loads(head)[name] for name in ("resize", "crop"))
        rows = json.loads(f"[{','.join(rows)}]")
        self._rows = np.array([row[:4] for row in rows], dtype=np.int64).reshape(-1, 4)
        self.sizes = np.array([row[4:6] for row in rows], dtype=np.int64).reshape(-1, 2)  # (N, 2) of the originals
        self.sha256 = [row[6] for row in rows]
        self._path = pixels_path
        self._pixels = np.memmap(pixels_path, dtype=np.uint8, mode="r")

    def __len__(self) -> int:
        return len(self._rows)

    def __getstate__(self):  # a worker process maps the file again instead of receiving its content
        return {name: value for name, value in vars(self).items() if name != "_pixels"}

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
