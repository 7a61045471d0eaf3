"""Studies as tensors: packed images, token ids and pseudo labels, padded into batches."""

import math
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset, Sampler

from xpronet.common.processes import ALONE, Group
from xpronet.common.shares import Share
from xpronet.data.pack import ImagePack, normalise
from xpronet.data.studies import Study

PATIENCE = 600  # seconds that a batch may take to load in a worker process
GRACE = 300  # seconds that a worker goes on when it is told to end: as long as a scheduler gives the main process


@dataclass
class Batch:
    pixels: torch.Tensor  # (B, V, H, W) uint8, absent views are black; or (B, V, P, C) float32 patch features
    views: torch.Tensor  # (B, V) bool, which views are there
    tokens: torch.Tensor  # (B, T) int64, padded with 0
    labels: torch.Tensor  # (B, K) float32
    positions: torch.Tensor  # (B,) int64, where the study stands in the dataset's list

    @property
    def images(self) -> torch.Tensor:
        """(B, V, 3, H, W) float32, normalised where the pixels are: a twelfth of it crosses processes and devices.

        Patch features stay as they are.
        """
        return normalise(self.pixels) if self.pixels.dtype == torch.uint8 else self.pixels

    def __getstate__(self):
        """As arrays, which leave a worker process through a pipe: tensors use /dev/shm, which is often too small."""
        return {name: tensor.numpy() for name, tensor in vars(self).items()}

    def __setstate__(self, state):
        vars(self).update({name: torch.from_numpy(array) for name, array in state.items()})

    def pin_memory(self) -> "Batch":
        """In memory that a GPU copies from by itself; what a DataLoader calls."""
        return Batch(**{name: tensor.pin_memory() for name, tensor in vars(self).items()})

    def to(self, device: torch.device | str) -> "Batch":
        """On a GPU before the copy is done: what is computed there comes after it."""
        beside = torch.device(device).type == "cuda"
        return Batch(**{name: tensor.to(device, non_blocking=beside) for name, tensor in vars(self).items()})

    def part(self, start: int, stop: int) -> "Batch":
        return Batch(**{name: tensor[start:stop] for name, tensor in vars(self).items()})

    def widened(self, views: int, length: int) -> "Batch":
        """Padded to as many views and tokens."""
        more = views - self.views.shape[1]
        pixels = F.pad(self.pixels, (*(0, 0) * (self.pixels.dim() - 2), 0, more))
        tokens = F.pad(self.tokens, (0, length - self.tokens.shape[1]))
        return Batch(pixels, F.pad(self.views, (0, more)), tokens, self.labels, self.positions)


def image_positions(studies: Sequence[Study]) -> list[list[int]]:
    """Where each study's images stand in a pack that was written in the order of `studies`."""
    positions, start = [], 0
    for study in studies:
        positions.append(list(range(start, start + len(study.image_path))))
        start += len(study.image_path)
    return positions


class StudyDataset(Dataset):
    """Items are (pixels, V of (H, W) uint8, token ids, labels (K,), position).

    With `augment`, pixels are random crops that depend on seed, epoch and study only: not on the order of the studies
    nor on the number of worker processes.
    """

    def __init__(
        self,
        pack: ImagePack,
        images: Sequence[Sequence[int]],
        *,
        tokens: Sequence[Sequence[int]] | None = None,
        labels: np.ndarray | None = None,
        augment: bool = False,
        seed: int = 0,
        ids: Sequence[str] | None = None,
    ):
        """`images`: positions in the pack per study; `tokens`: words' ids per study; `labels`: (N, K); `ids`: names.

        Raises:
            ValueError: the pack lacks images.
        """
        self.pack, self.images, self.tokens, self.labels = pack, images, tokens, labels
        self.augment, self.seed, self._ids = augment, seed, ids
        pack.require(images)

    @classmethod
    def of(cls, chosen: Sequence[Study], studies: Sequence[Study], pack: ImagePack, **options) -> "StudyDataset":
        """The chosen ones of the studies that the pack was written of; `options` as above, a row per chosen study."""
        images = dict(zip((study.id for study in studies), image_positions(studies), strict=True))
        return cls(pack, [images[study.id] for study in chosen], ids=[study.id for study in chosen], **options)

    def __len__(self) -> int:
        return len(self.images)

    def name(self, study: int) -> str:
        """How an error calls a study."""
        return f"study {self._ids[study] if self._ids else f'number {study}'}"

    def __getitem__(self, item: tuple[int, int]):
        epoch, study = item
        tokens = self.tokens[study] if self.tokens is not None else []
        labels = self.labels[study] if self.labels is not None else np.zeros(0, np.float32)
        return self.views(epoch, study), tokens, labels, study

    def views(self, epoch: int, study: int) -> Sequence[np.ndarray]:
        """V of (H, W) uint8, what the model sees of a study in an epoch: places in the file, no copies."""
        if self.augment:
            generator = torch.Generator().manual_seed(hash((self.seed, epoch, study)))
            return [self.pack.random_crop(position, generator) for position in self.images[study]]
        return [self.pack.square(position) for position in self.images[study]]


class EpochSampler(Sampler):
    """Yields (epoch, position): shuffled by seed and epoch, or in order; without the first `start` of them."""

    def __init__(self, size: int, *, shuffle: bool, seed: int = 0):
        self.size, self.shuffle, self.seed, self.epoch, self.start = size, shuffle, seed, 0, 0

    def __len__(self) -> int:
        return self.size

    def __iter__(self):
        generator = torch.Generator().manual_seed(hash((self.seed, self.epoch)))
        order = torch.randperm(self.size, generator=generator).tolist() if self.shuffle else range(self.size)
        return iter([(self.epoch, position) for position in order[self.start :]])


class ShareSampler(Sampler):
    """Of each batch of the sampler's items the share of one process; the first item in place of none."""

    def __init__(self, sampler: EpochSampler, batch_size: int, group: Group):
        self.sampler, self.batch_size, self.group = sampler, batch_size, group

    def __len__(self) -> int:
        return math.ceil(len(self.sampler) / self.batch_size)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        items = list(self.sampler)
        for first in range(0, len(items), self.batch_size):
            batch = items[first : first + self.batch_size]
            share = Share.of(self.group, len(batch))
            yield batch[share.start : share.stop] or batch[:1]


def collate(items: Sequence[tuple]) -> Batch:
    """Studies as one batch, into which their pixels are copied, once."""
    pixels, tokens, labels, positions = zip(*items, strict=True)
    count, width = max(map(len, pixels)), max(map(len, tokens))
    views = torch.zeros(len(items), count, dtype=torch.bool)
    padded = np.zeros((len(items), count, *pixels[0][0].shape), pixels[0][0].dtype)
    ids = torch.zeros(len(items), width, dtype=torch.int64)
    for row, (images, report) in enumerate(zip(pixels, tokens, strict=True)):
        views[row, : len(images)] = True
        for view, image in enumerate(images):
            padded[row, view] = image
        ids[row, : len(report)] = torch.tensor(report, dtype=torch.int64)
    batch = torch.from_numpy(padded), views, ids, torch.from_numpy(np.stack(labels)).float(), torch.tensor(positions)
    return Batch(*batch)


def loader(
    dataset: StudyDataset,
    *,
    batch_size: int,
    shuffle: bool = False,
    seed: int = 0,
    workers: int = 0,
    group: Group = ALONE,
) -> DataLoader:
    """Batches of a dataset, or of each this process's share; set `batch_sampler.sampler.epoch` before each epoch."""
    sampler = EpochSampler(len(dataset), shuffle=shuffle, seed=seed)
    if group.size == 1:
        return _Loader(dataset, workers, batch_size=batch_size, sampler=sampler)
    return _Loader(dataset, workers, batch_sampler=ShareSampler(sampler, batch_size, group))


def batches_of(
    dataset: StudyDataset, batches: Sequence[Sequence[int]], *, epoch: int = 0, workers: int = 0
) -> DataLoader:
    """The given batches of positions, in their order, as `epoch` shows them."""
    items = [[(epoch, position) for position in batch] for batch in batches]
    return _Loader(dataset, workers, batch_sampler=items)


def in_order(count: int, batch_size: int) -> list[range]:
    """Batches of the positions from 0 on; the last may be smaller."""
    return [range(first, min(first + batch_size, count)) for first in range(0, count, batch_size)]


def shared_batches(dataset: StudyDataset, *, batch_size: int, workers: int, group: Group) -> DataLoader:
    """In order; of several processes each has every so manieth of the same batches: see `in_turn`."""
    batches = in_order(len(dataset), batch_size)
    return batches_of(dataset, batches[group.rank :: group.size], workers=workers)


def in_turn(found: list, group: Group) -> list:
    """What each process has found for each of its `shared_batches` -> for each batch, in order."""
    missing = object()
    turns = zip_longest(*group.gathered(found), fillvalue=missing)
    return [each for turn in turns for each in turn if each is not missing]


class _Loader(DataLoader):
    """The one way to load batches: whatever becomes of its worker processes, the main one does not wait for ever."""

    def __init__(self, dataset: StudyDataset, workers: int, **order):
        super().__init__(
            dataset,
            collate_fn=collate,
            num_workers=workers,
            timeout=PATIENCE if workers else 0,
            worker_init_fn=_leave_signals,
            pin_memory=torch.cuda.is_initialized(),  # the network is on a GPU already
            **order,
        )

    def __iter__(self):
        try:
            if self.num_workers:  # for its queues and an event torch needs as many, and prints a traceback without
                room = [torch.multiprocessing.Semaphore() for _ in range(3 * self.num_workers + 8)]
                del room
            return super().__iter__()
        except OSError as error:  # no room for their semaphores in /dev/shm, or too many processes
            raise ValueError(
                f"runtime.workers = {self.num_workers}: the processes that load data cannot be started "
                f"({error.strerror}: /dev/shm is full, or these are too many): take fewer, or 0"
            ) from None


def _leave_signals(worker: int) -> None:
    """A scheduler sends its signal to all processes of a job: the main one decides what is still to be done.

    A worker that is told to end does so much later, as the death of one would end the step or the save of the main one;
    told twice, as the main one does at its own end, it ends at once.
    """

    def told(*_) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.alarm(GRACE)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, told)
