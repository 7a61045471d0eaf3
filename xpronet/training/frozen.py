"""Patch features of a frozen visual extractor, on disk: an epoch of training then costs no ResNet.

They are those of evaluation mode, of as many crops per image as are asked for: in epoch e a study shows crop e modulo
their number, the one that epoch of an ordinary training would show.
"""

import logging
from pathlib import Path

import numpy as np
import torch

from xpronet.common.processes import ALONE, Group
from xpronet.common.progress import track
from xpronet.common.resumable import filling
from xpronet.common.weights import fingerprint
from xpronet.data.dataset import StudyDataset, batches_of, in_order
from xpronet.model.system import System

logger = logging.getLogger(__name__)


class FrozenDataset(StudyDataset):
    """A dataset whose items have patch features (V, P, C) float32 in place of pixels."""

    def __init__(self, dataset: StudyDataset, path: Path, *, crops: int):
        vars(self).update(vars(dataset))
        self._path, self._crops = path, crops
        self._starts = np.cumsum([0, *map(len, dataset.images)])
        self._features = np.load(path, mmap_mode="r")  # (crops x images, P, C)

    def __getstate__(self):  # a worker process maps the file again instead of receiving its content
        return {name: value for name, value in vars(self).items() if name != "_features"}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self._features = np.load(self._path, mmap_mode="r")

    def views(self, epoch: int, study: int) -> np.ndarray:
        first = epoch % self._crops * self._starts[-1]
        return self._features[first + self._starts[study] : first + self._starts[study + 1]]


def freeze(
    model: System,
    dataset: StudyDataset,
    folder: str | Path,
    *,
    crops: int,
    batch_size: int,
    device: torch.device,
    workers: int = 0,
    group: Group = ALONE,
) -> FrozenDataset:
    """The dataset as the model's extractor sees it now, from a file in `folder`, which is written if it is not there.

    The file is named after what decides its content: weights, images, crops and seed. One that is there is not written
    again, so experiments that start from the same weights share it; of other weights it is removed. A killed run goes
    on where it stopped.

    Args:
        crops: per image; 1 where the dataset does not augment.
        batch_size: studies at once.
        group: its processes share the batches.
    """
    model.to(device).eval()
    path = Path(folder) / f"{_key(model, dataset, crops, batch_size)}.npy"
    for other in Path(folder).glob("*") if group.first else ():
        if path.stem not in other.name:
            other.unlink()
    if not group.told(path.exists()):
        _write(path, model, dataset, crops=crops, batch_size=batch_size, device=device, workers=workers, group=group)
    return FrozenDataset(dataset, path, crops=crops)


@torch.inference_mode()
def _write(path, model, dataset, *, crops, batch_size, device, workers, group) -> None:
    starts = np.cumsum([0, *map(len, dataset.images)])
    batches = in_order(len(dataset), batch_size)
    sample = model.visual(torch.zeros(1, 3, dataset.pack.crop, dataset.pack.crop, device=device))  # (1, P, C)
    shape = (crops * int(starts[-1]), *sample.shape[1:])
    logger.info("frozen extractor: %d crops per image, %.2f GB in %s", crops, 4e-9 * np.prod(shape), path.parent)
    what = "patch features"
    with filling([path], [shape], pieces=crops * len(batches), key=path.stem, group=group, what=what) as work:
        own = set(work.mine)
        for crop in range(crops):
            mine = [number for number in range(len(batches)) if crop * len(batches) + number in own]
            loaded = batches_of(dataset, [batches[number] for number in mine], epoch=crop, workers=workers)
            shown = track(loaded, what=f"{what}, crop {crop + 1}/{crops}", unit="batches", total=len(mine))
            for number, batch in zip(mine, shown, strict=True):
                batch = batch.to(device)
                found = model.visual(batch.images[batch.views]).float().cpu().numpy()  # (n, P, C), in order
                row = crop * starts[-1] + starts[batches[number].start]
                work.put(crop * len(batches) + number, slice(row, row + len(found)), [found])


def _key(model: System, dataset: StudyDataset, crops: int, batch_size: int) -> str:
    """Of weights, images, crops and batches."""
    seed = dataset.seed if dataset.augment else None
    sizes = (dataset.pack.resize, dataset.pack.crop)
    about = batch_size, crops, seed, sizes, dataset.images, dataset.pack.sha256, Path(__file__).read_bytes()
    return fingerprint(model.visual, *about)[:32]
