"""The pack: the images of a dataset in one memory-mapped file, and what the model sees of them.

The published transforms (row 26 of docs/paper-and-code.md) are Resize(256) + RandomCrop(224) for training and
Resize((224, 224)) for everything else. Each is a resize of the original, so the pack keeps both results: a `square` of
every image and, for the images of the train split, the `train` version whose shorter side is `resize`. What comes out
of the pack is bit for bit what the published transforms make of a grey original.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

MEAN = (0.485, 0.456, 0.406)  # of ImageNet, as the published code
STD = (0.229, 0.224, 0.225)


def normalise(pixels: torch.Tensor) -> torch.Tensor:
    """(..., H, W) uint8 -> (..., 3, H, W) float32 with ImageNet's mean and deviation."""
    grey = (pixels.float() / 255).unsqueeze(-3)  # (..., 1, H, W)
    mean, std = (torch.tensor(values, device=pixels.device).view(3, 1, 1) for values in (MEAN, STD))
    return (grey - mean) / std


class ImagePack:
    """Read access to a packed image file; pages come from the file as they are touched.

    Raises:
        ValueError: a file is missing, cut or another one; the line names the stage that makes both.
    """

    def __init__(self, pixels_path: str | Path, index_path: str | Path):
        again = "`dvc repro prepare` makes it again"
        try:
            head, *rows = Path(index_path).read_text(encoding="utf-8").splitlines()
            self.resize, self.crop = (json.loads(head)[name] for name in ("resize", "crop"))
            rows = json.loads(f"[{','.join(rows)}]")
            self._rows = np.array([row[:4] for row in rows], dtype=np.int64).reshape(-1, 4)
            self.sizes = np.array([row[4:6] for row in rows], dtype=np.int64).reshape(-1, 2)  # (N, 2) of the originals
            self.sha256 = [row[6] for row in rows]
            size = Path(pixels_path).stat().st_size
            if not len(rows) or type(self.resize) is not int or type(self.crop) is not int or self._rows.min() < 0:
                raise ValueError("no image, or sizes and places that none has")
        except FileNotFoundError as error:
            raise ValueError(f"{error.filename}: no such file; {again}") from None
        except (ValueError, KeyError, TypeError, IndexError):
            raise ValueError(f"{index_path}: not a whole index of images; {again}") from None
        square, train, height, width = self._rows.T
        needed = max((square + self.crop**2).max(initial=0), (train + height * width).max(initial=0))
        if size < needed:
            raise ValueError(f"{pixels_path}: cut: {size:,} bytes of the {needed:,} in {index_path}; {again}")
        self._path = pixels_path
        self._pixels = np.memmap(pixels_path, dtype=np.uint8, mode="r")

    @classmethod
    def of(cls, prepared: str | Path) -> "ImagePack":
        """Of a folder that stage prepare has written."""
        return cls(Path(prepared, "images.u8"), Path(prepared, "images.jsonl"))

    def __len__(self) -> int:
        return len(self._rows)

    def __getstate__(self):  # a worker process maps the file again instead of receiving its content
        return {name: value for name, value in vars(self).items() if name != "_pixels"}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self._pixels = np.memmap(self._path, dtype=np.uint8, mode="r")

    def require(self, images: Sequence[Sequence[int]]) -> None:
        """Raise ValueError, one line, where studies, by the positions of their images, have more than the pack."""
        beyond = max((max(positions, default=-1) for positions in images), default=-1)
        if beyond >= len(self):
            raise ValueError(
                f"the pack has {len(self)} images, and the studies {beyond + 1} or more: run `dvc repro prepare`"
            )

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
