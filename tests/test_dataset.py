"""What a model is shown of a study is its own, and its random windows can be had again on another machine."""

import os
import pickle
import re
import signal
import time
from multiprocessing.reduction import ForkingPickler
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from tests.conftest import ended
from tests.made import pack_of
from xpronet.common.shortage import explain
from xpronet.data import dataset as module
from xpronet.data.dataset import Batch, StudyDataset, batches_of, collate, image_positions, loader
from xpronet.data.pack import ImagePack
from xpronet.data.studies import Study

VIEWS = [[0, 1], [2], [3, 4, 5], [6], [7], [8], [9]]  # images of each study
SIDE, CROP = 40, 24  # 17 x 17 windows, more in images that are wider
TOKENS = [[0, *[n + 1] * (n + 1), 0] for n in range(len(VIEWS))]
LABELS = np.eye(len(VIEWS), 14, dtype=np.float32)


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    """Their shorter side is that of the pack's train version, which is then the image itself."""
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (SIDE, SIDE + n), dtype=np.uint8) for n in range(10)]


@pytest.fixture(scope="module")
def pack(images, tmp_path_factory) -> ImagePack:
    return pack_of(tmp_path_factory.mktemp("pack"), images, resize=SIDE, crop=CROP)


def augmented(pack: ImagePack, seed: int = 1) -> StudyDataset:
    return StudyDataset(pack, VIEWS, tokens=TOKENS, labels=LABELS, augment=True, seed=seed)


def windows(dataset: StudyDataset, images: list[np.ndarray], epoch: int) -> list[tuple[int, int]]:
    """Top and left of the window of each image, which must lie in that image."""
    found = []
    for study, positions in enumerate(VIEWS):
        pixels, *_ = dataset[epoch, study]
        assert len(pixels) == len(positions)
        for crop, position in zip(pixels, positions, strict=True):
            place = np.lib.stride_tricks.sliding_window_view(images[position], (CROP, CROP)) == crop
            (window,) = np.argwhere(place.all(axis=(2, 3)))
            found.append(tuple(window.tolist()))
    return found


def test_every_image_has_windows_of_its_own_in_every_epoch(pack, images):
    """Else augmentation shows one picture again and again, or another study's."""
    epochs = [windows(augmented(pack), images, epoch) for epoch in range(12)]
    for of_image in zip(*epochs, strict=True):
        assert len(set(of_image)) > 9
    for of_epoch in epochs:
        assert len(set(of_epoch)) > 7
    assert len({epoch[0][0] - epoch[1][0] for epoch in epochs}) > 3  # the views of one study are not cut alike
    assert {top for epoch in epochs for top, _ in epoch} == set(range(17))  # all of them, both edges too


def test_windows_depend_on_the_seed(pack, images):
    assert windows(augmented(pack), images, 3) == windows(augmented(pack), images, 3)
    both = zip(windows(augmented(pack), images, 3), windows(augmented(pack, seed=2), images, 3), strict=True)
    assert sum(one != other for one, other in both) > 7


def test_windows_depend_on_nothing_else(pack):
    """Neither on what was drawn or shown before, nor on batches and worker processes; and they draw nothing else."""
    expected = [augmented(pack)[5, study][0] for study in range(len(VIEWS))]
    state = torch.get_rng_state()
    dataset = augmented(pack)
    for study in reversed(range(len(VIEWS))):
        np.testing.assert_array_equal(dataset[5, study][0], expected[study])
    assert torch.equal(torch.get_rng_state(), state)
    for size, seed, workers in [(2, 1, 0), (3, 2, 0), (2, 3, 2)]:
        torch.manual_seed(seed)
        batches = loader(augmented(pack), batch_size=size, shuffle=True, seed=seed, workers=workers)
        batches.sampler.epoch = 5
        for batch in batches:
            for row, study in enumerate(batch.positions.tolist()):
                np.testing.assert_array_equal(batch.pixels[row][batch.views[row]], expected[study])


def test_another_process_has_the_same_windows_and_orders(pack, images):
    """The numbers were drawn once: where others come, as from hashes of text, no run can be had again."""
    assert windows(augmented(pack), images, 3)[:4] == [(6, 10), (14, 9), (2, 10), (12, 16)]
    assert [order[:4] for order in orders(2, shuffle=True, seed=3)] == [[33, 20, 39, 6], [17, 25, 11, 1]]


def test_without_augmentation_every_epoch_shows_the_whole_image(pack):
    dataset = StudyDataset(pack, VIEWS)
    for epoch in (0, 1):
        for study, positions in enumerate(VIEWS):
            np.testing.assert_array_equal(dataset[epoch, study][0], [pack.square(position) for position in positions])


def orders(epochs: int, **options) -> list[list[int]]:
    """The order of 40 studies in each epoch."""
    batches = loader([None] * 40, batch_size=7, **options)
    found = []
    for epoch in range(epochs):
        batches.sampler.epoch = epoch
        items = list(batches.sampler)
        assert {told for told, _ in items} == {epoch} and len(batches) == 6
        found.append([position for _, position in items])
    return found


def test_each_epoch_has_every_study_in_a_new_order():
    shuffled = orders(5, shuffle=True, seed=3)
    assert all(sorted(order) == list(range(40)) for order in shuffled)
    assert len({tuple(order) for order in [*shuffled, range(40)]}) == 6
    assert orders(5, shuffle=True, seed=3) == shuffled
    assert not {tuple(order) for order in orders(5, shuffle=True, seed=4)} & {tuple(order) for order in shuffled}


def test_without_shuffling_studies_come_in_the_order_of_the_list():
    """Scores and reports are written beside the studies in that order."""
    assert orders(2, seed=3) == [list(range(40))] * 2


@pytest.mark.parametrize("workers", [0, 2])
def test_a_batch_holds_each_study_s_own_images_words_and_labels(pack, workers):
    seen = []
    dataset = StudyDataset(pack, VIEWS, tokens=TOKENS, labels=LABELS)
    for batch in loader(dataset, batch_size=3, shuffle=True, seed=1, workers=workers):
        for row, study in enumerate(batch.positions.tolist()):
            seen.append(study)
            squares = [pack.square(position) for position in VIEWS[study]]
            np.testing.assert_array_equal(batch.pixels[row][batch.views[row]], squares)
            words = batch.tokens[row].tolist()
            assert words == TOKENS[study] + [0] * (len(words) - len(TOKENS[study]))
            assert batch.labels[row].tolist() == LABELS[study].tolist()
    assert sorted(seen) == list(range(len(VIEWS)))


def test_batches_are_the_same_whatever_the_number_of_workers(pack):
    """All of them, in order, crops and padding too: `runtime.workers` changes no result."""
    found = []
    for workers in (0, 1, 2):
        batches = loader(augmented(pack), batch_size=2, shuffle=True, seed=1, workers=workers)
        batches.sampler.epoch = 5
        found.append([{name: tensor.tolist() for name, tensor in vars(batch).items()} for batch in batches])
    assert found[0] == found[1] == found[2] and len(found[0]) == 4


def test_pixels_are_copied_once_from_the_file_into_the_batch(pack):
    for dataset in (augmented(pack), StudyDataset(pack, VIEWS)):
        items = [dataset[0, study] for study in range(len(VIEWS))]
        assert all(np.shares_memory(view, pack._pixels) for pixels, *_ in items for view in pixels)
        assert not np.shares_memory(collate(items).pixels.numpy(), pack._pixels)


def test_a_gpu_copies_from_pinned_memory_while_the_program_goes_on(pack, monkeypatch):
    """Only a GPU: elsewhere nobody would wait for the end of the copy."""
    assert not loader(StudyDataset(pack, VIEWS), batch_size=1).pin_memory
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    assert loader(StudyDataset(pack, VIEWS), batch_size=1).pin_memory
    tensors = [Mock() for _ in range(5)]
    Batch(*tensors).pin_memory().to("cuda:0")
    Batch(*tensors).to("cpu")
    for tensor in tensors:
        tensor.pin_memory().to.assert_called_once_with("cuda:0", non_blocking=True)
        tensor.to.assert_called_once_with("cpu", non_blocking=False)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU: torch.cuda.is_available() is false")
@pytest.mark.parametrize("workers", [0, 2])
def test_batches_reach_a_gpu_as_they_are(pack, workers):
    torch.cuda.init()
    expected = [StudyDataset(pack, VIEWS).views(0, study) for study in range(len(VIEWS))]
    for batch in loader(StudyDataset(pack, VIEWS, tokens=TOKENS, labels=LABELS), batch_size=3, workers=workers):
        assert batch.pixels.is_pinned() and batch.tokens.is_pinned()
        there = batch.to("cuda")
        for row, study in enumerate(there.positions.tolist()):
            np.testing.assert_array_equal(there.pixels[row][there.views[row]].cpu(), expected[study])


def test_batches_that_are_given_stay_as_they_are(pack):
    """Features are written to the rows of these studies."""
    chosen = [[4, 0], [2], [6, 1, 3]]
    found = list(batches_of(StudyDataset(pack, VIEWS), chosen))
    assert [batch.positions.tolist() for batch in found] == chosen
    np.testing.assert_array_equal(found[0].pixels[1], [pack.square(0), pack.square(1)])


def test_a_batch_by_hand():
    """Absent views are black and marked absent, words are padded with 0: nothing else can tell them apart."""
    two, one = np.full((2, 1, 2), 255, np.uint8), np.array([[[51, 0]]], np.uint8)
    batch = collate([(one, [0, 7, 0], np.array([0, 1], np.float32), 5), (two, [0, 8, 9, 0], np.array([1, 0]), 2)])
    assert batch.pixels.tolist() == [[[[51, 0]], [[0, 0]]], [[[255, 255]], [[255, 255]]]]
    assert batch.views.tolist() == [[True, False], [True, True]]
    assert batch.tokens.tolist() == [[0, 7, 0, 0], [0, 8, 9, 0]]
    assert batch.labels.tolist() == [[0, 1], [1, 0]]
    assert batch.positions.tolist() == [5, 2]
    types = (torch.uint8, torch.bool, torch.int64, torch.float32, torch.int64)
    assert tuple(tensor.dtype for tensor in vars(batch).values()) == types
    assert batch.images.shape == (2, 2, 3, 1, 2)
    expected = [(0.2 - mean) / std for mean, std in ((0.485, 0.229), (0.456, 0.224), (0.406, 0.225))]
    assert batch.images[0, 0, :, 0, 0].tolist() == pytest.approx(expected)


def test_without_words_and_labels_a_batch_has_none(pack):
    """Studies that are to be described have images only."""
    (batch,) = loader(StudyDataset(pack, VIEWS[:2]), batch_size=2)
    assert (batch.tokens.shape, batch.labels.shape) == ((2, 0), (2, 0))


def test_a_batch_moves_to_its_device_as_a_whole():
    batch = Batch(*(torch.zeros(1) for _ in range(5))).to("meta")
    assert {tensor.device.type for tensor in vars(batch).values()} == {"meta"}


def test_images_of_a_pack_are_counted_over_all_views():
    studies = [Study(str(count), "train", "x", ("a.png",) * count) for count in (2, 1, 3, 1)]
    assert image_positions(studies) == [[0, 1], [2], [3, 4, 5], [6]]


def test_a_batch_comes_from_a_worker_without_shared_memory(pack):
    """A container has 64 MB of it: a worker that finds no room there drops the batch, and training waits for ever."""
    (batch,) = loader(StudyDataset(pack, VIEWS, tokens=TOKENS, labels=LABELS), batch_size=len(VIEWS))
    sent = bytes(ForkingPickler.dumps(batch))
    assert len(sent) > batch.pixels.nbytes  # the pixels are in it, not a handle to them
    found = pickle.loads(sent)
    for name, tensor in vars(batch).items():
        assert torch.equal(getattr(found, name), tensor) and getattr(found, name).dtype == tensor.dtype, name


class Failing(StudyDataset):
    """Does `fail` in place of the third study."""

    def __init__(self, pack: ImagePack, fail):
        super().__init__(pack, VIEWS)
        self.fail = fail

    def __getitem__(self, item: tuple[int, int]):
        if item[1] == 2:
            self.fail()
        return super().__getitem__(item)


def lacks_memory():
    raise MemoryError("Unable to allocate 7 GiB")


@pytest.mark.parametrize(
    ("fail", "line"),
    [
        (
            lambda: os.kill(os.getpid(), signal.SIGKILL),
            "a process that loads data has died, perhaps for want of memory",
        ),
        (lambda: time.sleep(3), "a process that loads data has not answered"),
        (lacks_memory, "out of memory .*Unable to allocate 7 GiB"),
    ],
)
def test_a_worker_that_dies_or_starves_or_hangs_is_one_line(pack, monkeypatch, fail, line):
    """Not a traceback, and not a night of waiting."""
    monkeypatch.setattr(module, "PATIENCE", 1)
    with pytest.raises((RuntimeError, MemoryError)) as error:
        list(loader(Failing(pack, fail), batch_size=1, workers=1))
    assert re.search(rf"^{line}.*: raise train.accumulate or .*; else lower train.batch_size", explain(error.value))
    assert "\n" not in explain(error.value)


@pytest.mark.parametrize(("where", "name"), [(DataLoader, "__iter__"), (torch.multiprocessing, "Semaphore")])
def test_workers_that_cannot_start_are_one_line_with_the_key(pack, monkeypatch, where, name):
    def start(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(where, name, start)
    with pytest.raises(ValueError, match=r"^runtime.workers = 2: .* cannot be started \(No space left on device: /dev"):
        list(loader(StudyDataset(pack, VIEWS), batch_size=1, workers=2))


@pytest.mark.parametrize(
    ("grace", "told", "by"), [(1, [signal.SIGTERM], signal.SIGALRM), (60, [signal.SIGTERM] * 2, signal.SIGTERM)]
)
def test_a_worker_that_is_told_to_end_does_so_a_little_later_and_told_twice_at_once(monkeypatch, grace, told, by):
    """At once it would take the step along that the main process may finish; never, and who ends it waits for ever.

    The main process tells it twice: a loader that hangs would keep it from ending for the whole of the grace.
    """
    monkeypatch.setattr(module, "GRACE", grace)
    child = os.fork()
    if not child:
        module._leave_signals(0)
        for each in (signal.SIGINT, *told):
            os.kill(os.getpid(), each)
        while True:
            time.sleep(0.01)
    assert ended(child, within=30) == -by
