"""Features are the same bytes however often their extraction was interrupted and however many processes share it."""

import multiprocessing
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.models import ResNet

from tests.conftest import ended, forked, largest_file, sharing
from tests.made import PARAMS, pack_of
from xpronet.common.files import FullDisk
from xpronet.common.processes import LOST
from xpronet.common.resumable import Pieces
from xpronet.data.dataset import StudyDataset
from xpronet.data.pack import normalise
from xpronet.encoders import text_encoders
from xpronet.encoders.backbones import resnet
from xpronet.encoders.bert import BertEncoder
from xpronet.prototypes import features
from xpronet.prototypes.features import write_visual_features

VIEWS = [[0, 1], [2], [3], [4, 5], [6], [7], [8, 9]]  # images of each study


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> StudyDataset:
    images = np.random.default_rng(0).integers(0, 256, (10, 70, 80), np.uint8)
    return StudyDataset(pack_of(tmp_path_factory.mktemp("pack"), images, resize=64, crop=64, train=False), VIEWS)


def network(seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return resnet("resnet18", classes=1)


def extract(folder: Path, dataset: StudyDataset, *, seed: int = 0, **options) -> list[bytes]:
    paths = [folder / "visual.npy", folder / "flipped.npy"]
    write_visual_features(
        paths, network(seed), dataset, backbone="resnet18", batch_size=2, device=torch.device("cpu"), **options
    )
    assert {path.name for path in folder.iterdir()} == {"visual.npy", "flipped.npy"}  # and nothing unfinished
    return [path.read_bytes() for path in paths]


@pytest.fixture(scope="module")
def whole(dataset, tmp_path_factory) -> list[bytes]:
    return extract(tmp_path_factory.mktemp("whole"), dataset)


@torch.inference_mode()
def test_a_study_s_feature_is_the_mean_over_its_views(dataset, whole, tmp_path):
    extract(tmp_path, dataset)
    model = network().eval()
    model.fc = torch.nn.Identity()
    pictures = normalise(torch.from_numpy(np.stack([dataset.pack.square(n) for n in (4, 5)])))
    for name, images in (("visual", pictures), ("flipped", pictures.flip(-1))):
        found = np.load(tmp_path / f"{name}.npy")
        assert found.shape == (7, 512) and found.dtype == np.float32
        np.testing.assert_allclose(found[3], model(images).mean(dim=0), rtol=1e-4, atol=1e-5)


@pytest.fixture
def one_thread():
    """As each of two processes on two cores has."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_two_processes_write_what_one_writes(dataset, tmp_path, monkeypatch, one_thread):
    """By turns, the last of four batches alone; and what is left of a run that was killed, three of them."""
    for name in ("one", "two", "cut"):
        (tmp_path / name).mkdir()
    expected = extract(tmp_path / "one", dataset)
    interrupt(tmp_path / "cut", dataset, monkeypatch, after=1)
    for name in ("two", "cut"):

        def work(group, name=name):
            extract(tmp_path / name, dataset, group=group)

        assert sharing(work) == [0, 0]
        assert [(tmp_path / name / f"{which}.npy").read_bytes() for which in ("visual", "flipped")] == expected


def test_each_batch_is_computed_once(dataset, tmp_path, monkeypatch, one_thread):
    batches_of = features.batches_of

    def counting(dataset, batches, **options):
        with open(tmp_path / "seen", "a") as file:
            file.writelines(f"{batch.start}\n" for batch in batches)
        return batches_of(dataset, batches, **options)

    monkeypatch.setattr(features, "batches_of", counting)
    (tmp_path / "data").mkdir()
    assert sharing(lambda group: extract(tmp_path / "data", dataset, group=group)) == [0, 0]
    assert sorted((tmp_path / "seen").read_text().split()) == ["0", "2", "4", "6"]


def test_a_network_whose_weights_are_broken_is_refused(dataset, tmp_path):
    """Clusters of what is no number are found hours later, by a library that does not know where it came from."""
    broken = network()
    broken.conv1.weight.data[0] = torch.nan
    named = StudyDataset(dataset.pack, VIEWS, ids=[f"CXR{n}" for n in range(len(VIEWS))])
    with pytest.raises(ValueError, match="^features: study CXR0: no numbers: the weights of the network are broken"):
        write_visual_features(
            [tmp_path / "v.npy"], broken, named, backbone="resnet18", batch_size=2, device=torch.device("cpu")
        )


def interrupt(folder: Path, dataset: StudyDataset, monkeypatch, *, after: int, **options) -> None:
    """Extract, and die before batch `after`."""
    track = features.track

    def dying(items, **told):
        for number, item in enumerate(track(items, **told)):
            if number == after:
                raise KeyboardInterrupt
            yield item

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(features, "track", dying)
        extract(folder, dataset, **options)


def count_batches(monkeypatch) -> list[int]:
    seen, batches_of = [], features.batches_of

    def counting(dataset, batches, **options):
        seen.append(len(batches))
        return batches_of(dataset, batches, **options)

    monkeypatch.setattr(features, "batches_of", counting)
    return seen


def test_an_interrupted_extraction_continues_to_the_same_bytes(dataset, whole, tmp_path, monkeypatch):
    interrupt(tmp_path, dataset, monkeypatch, after=3)
    assert not (tmp_path / "visual.npy").exists()
    seen = count_batches(monkeypatch)
    assert extract(tmp_path, dataset) == whole
    assert seen == [1]


def test_other_weights_or_images_start_afresh(dataset, whole, tmp_path, monkeypatch):
    interrupt(tmp_path, dataset, monkeypatch, after=3, seed=1)
    seen = count_batches(monkeypatch)
    assert extract(tmp_path, dataset) == whole
    interrupt(tmp_path, dataset, monkeypatch, after=3)
    assert extract(tmp_path, StudyDataset(dataset.pack, VIEWS[::-1])) != whole
    assert seen == [4, 4, 4]


def test_a_process_that_dies_ends_all_and_keeps_what_is_done(dataset, tmp_path, monkeypatch, one_thread):
    """Else the first would wait for its share for ever."""
    track = features.track

    def dying(items, **told):
        for number, item in enumerate(track(items, **told)):
            if number == 1 and os.environ["RANK"] == "1":
                os.kill(os.getpid(), signal.SIGKILL)
            yield item

    with monkeypatch.context() as patch:
        patch.setattr(features, "track", dying)
        codes = sharing(lambda group: extract(tmp_path, dataset, group=group))
    assert codes == [LOST, -signal.SIGKILL]
    seen = count_batches(monkeypatch)
    extract(tmp_path, dataset)
    assert seen == [2]


def test_the_stage_names_the_process_that_died(made, monkeypatch, capfd):
    """`runtime.processes` starts the others, each the same command."""
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setattr(sys, "orig_argv", [sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"])

    def work():
        made.run("features", runtime={**PARAMS["runtime"], "processes": 2})

    assert ended(forked(work), within=60) == 1
    assert "process 2 of 2 has ended: killed by SIGKILL; all end\n" in capfd.readouterr().err


def test_rows_for_which_there_is_no_room_are_refused_before_the_work(tmp_path):
    """A file of holes can be made on a full disk; writing into it ends the process by a bus error, hours in."""
    with largest_file(100_000), pytest.raises(FullDisk, match=r"b\.unfinished\.npy: no room for 400,\d+ bytes"):
        Pieces([tmp_path / "a.npy", tmp_path / "b.npy"], [(10, 30), (1000, 100)], pieces=10, key="k")
    assert not list(tmp_path.iterdir())
    Pieces([tmp_path / "a.npy"], [(1000, 100)], pieces=10, key="k")
    taken = (tmp_path / ".a.unfinished.npy").stat()
    assert taken.st_blocks * 512 >= taken.st_size == 400_128


def write_pieces(path: Path) -> None:
    """All but the last of ten pieces, then die."""
    pieces = Pieces([path], [(10, 3)], pieces=10, key="k")
    (array,), done = pieces.open()
    for piece in range(9):
        array[piece] = piece
        done[piece] = 1
    os.kill(os.getpid(), signal.SIGKILL)


def test_kill_minus_nine_loses_no_piece_that_is_done(tmp_path):
    process = multiprocessing.get_context("fork").Process(target=write_pieces, args=(tmp_path / "a.npy",))
    process.start()
    process.join()
    again = Pieces([tmp_path / "a.npy"], [(10, 3)], pieces=10, key="k")
    assert again.left() == [9]
    np.testing.assert_array_equal(again.open()[0][0][:, 1], [*range(9), 0])
    assert Pieces([tmp_path / "a.npy"], [(10, 3)], pieces=10, key="other").left() == list(range(10))


def test_text_features_continue_to_what_embed_returns(tmp_path, monkeypatch):
    encoder = text_encoders.load("minilm")
    reports = [f"no acute findings {n} . " * (n % 7) for n in range(100)]
    encode, left = type(encoder)._encode, [2]

    def dying(self, ids):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        return encode(self, ids)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(type(encoder), "_encode", dying)
        encoder.write(tmp_path / "textual.npy", reports)
    left[0] = 2  # of four batches, two are done
    monkeypatch.setattr(type(encoder), "_encode", dying)
    encoder.write(tmp_path / "textual.npy", reports)
    monkeypatch.undo()
    np.testing.assert_array_equal(np.load(tmp_path / "textual.npy"), encoder.embed(reports))
    assert [path.name for path in tmp_path.iterdir()] == ["textual.npy"]


def test_two_processes_encode_what_one_encodes(tmp_path, one_thread):
    encoder = text_encoders.load("minilm")
    reports = [f"no acute findings {n} . " * (n % 7) for n in range(70)]  # three batches
    assert sharing(lambda group: encoder.write(tmp_path / "textual.npy", reports, group=group)) == [0, 0]
    np.testing.assert_array_equal(np.load(tmp_path / "textual.npy"), encoder.embed(reports))


def test_a_stage_killed_at_its_reports_keeps_the_features_of_all_images(made, monkeypatch):
    """DVC removes the results of a stage before it begins again: of images there are hundreds of thousands."""
    changes = {"model": {**PARAMS["model"], "visual_weights": "random"}}
    made.run("features", **changes)
    folder = Path("data/features")
    expected = {path.name: path.read_bytes() for path in folder.iterdir()}
    for path in folder.iterdir():
        path.unlink()

    def killed(self, ids):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(BertEncoder, "_encode", killed)
        made.run("features", **changes)
    assert all(path.name.startswith(".") for path in folder.iterdir())  # none for DVC to remove
    monkeypatch.setattr(ResNet, "forward", killed)
    made.run("features", **changes)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == expected
