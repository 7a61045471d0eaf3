"""A file that is no checkpoint is told what it looks like, in one line, and never how to run what is in it."""

import io
import json
import os
import pickle
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save, save_file

from xpronet.common.resumable import read_array
from xpronet.common.weights import misfits, not_weights, read_weights
from xpronet.data.pack import ImagePack
from xpronet.encoders import text_encoders
from xpronet.encoders.backbones import start_weights


def saved(content, **options) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


class Evil:
    def __reduce__(self):
        return print, ("this ran",)


STATE = {"a": torch.arange(6.0).view(2, 3), "b": torch.ones(50)}
ZIPPED, PICKLED, SAFE = saved(STATE), saved(STATE, _use_new_zipfile_serialization=False), save(STATE)
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n"
DAMAGED = ZIPPED.replace(b"torch._utils", b"\xfforch._utils", 1)


def archive() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as members:
        members.writestr("chexbert.pth", ZIPPED)
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("w.pth", POINTER, "a pointer of Git LFS, which `git lfs pull` replaces"),
        ("w.safetensors", POINTER, "a pointer of Git LFS"),
        ("w.pth", b"/annex/objects/SHA256E-s42--ab.pth\n", "a pointer of git-annex, which `git annex get` replaces"),
        ("w.pth", b"\n<!DOCTYPE html><html><body>Sign in", "a web page"),
        ("w.pth", b"<HTML>404", "a web page"),
        ("w.pth", b"Repository not found", "a text that begins 'Repository not found'"),
        ("w.safetensors", '{"error": "gesperrt für alle"}'.encode(), "a text that begins"),
        ("w.pth", b"", "empty"),
        ("w.pth", b"\x00\x01\xfe" * 500, "neither PyTorch's nor safetensors' format"),
        ("w.pth", ZIPPED[:-200], f"cut: {len(ZIPPED) - 200:,} bytes of a PyTorch file without its end"),
        ("w.pth", PICKLED[:-100], "damaged"),
        ("w.pth", DAMAGED, "damaged"),
        ("w.pth", pickle.dumps({"a": 1}), "damaged"),
        ("w.pth", archive(), "an archive: unpack it"),
        ("w.pth", b"\x1f\x8b" + bytes(90), "an archive: unpack it"),
        ("w.safetensors", SAFE[:-1], f"cut: {len(SAFE) - 1:,} of {len(SAFE):,} bytes"),
        ("w.safetensors", SAFE[:40], "a safetensors file that was cut"),
        ("w.pth", saved({"a": Evil()}), r"it holds print beside tensors, numbers and containers: code"),
    ],
)
def test_what_is_no_weight_file_is_said_in_one_line(tmp_path, capfd, name, content, line):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name}: cannot be read as tensors: .*{line}") as error:
        read_weights(tmp_path / name)
    said = str(error.value) + "".join(capfd.readouterr())
    assert "\n" not in said and "weights_only" not in said and "this ran" not in said


def test_the_names_must_be_those_of_the_formats(tmp_path):
    (tmp_path / "w.pth").write_bytes(SAFE)
    with pytest.raises(ValueError, match=r"w\.pth: a file of safetensors, though its name does not end so: rename it"):
        read_weights(tmp_path / "w.pth")
    (tmp_path / "w.bin").symlink_to(".git/annex/objects/ab")
    with pytest.raises(ValueError, match=r"w\.bin: a link to a file that is not there"):
        read_weights(tmp_path / "w.bin")


@pytest.mark.parametrize(("name", "content"), [("w.pth", ZIPPED), ("w.pt", PICKLED), ("w.safetensors", SAFE)])
def test_whole_files_are_read(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert not_weights(tmp_path / name) is None
    assert {key: tensor.tolist() for key, tensor in read_weights(tmp_path / name).items()} == {
        key: tensor.tolist() for key, tensor in STATE.items()
    }


def test_a_text_encoder_s_folder_is_looked_at_too(tmp_path):
    """transformers would tell of serialisation, over several lines."""
    for name in ("config.json", "vocab.txt"):
        (tmp_path / name).write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(POINTER)
    with pytest.raises(ValueError, match=r"features\.text_encoder: .*model\.safetensors: .* a pointer of Git LFS"):
        text_encoders.load(str(tmp_path))


def test_imagenet_weights_of_a_download_that_was_cut(tmp_path, monkeypatch):
    """torch.hub keeps what it has and never looks at it again."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/resnet18-f37072fd.pth").write_bytes(ZIPPED[:-200])
    with pytest.raises(ValueError, match=r"visual_weights = .*resnet18-f37072fd\.pth: .* are broken: remove it"):
        start_weights("resnet18", "imagenet", key="model.visual_weights")


def cut(path: str) -> None:
    content = Path(path).read_bytes()
    Path(path).write_bytes(content[: len(content) * 2 // 3])


def point(path: str) -> None:
    Path(path).write_bytes(POINTER)


@pytest.mark.parametrize(
    ("path", "stage", "maker"),
    [
        ("data/prototypes.safetensors", "train", "prototypes"),
        ("data/classifier/weights.safetensors", "train", "classify"),
        ("data/prepared/images.u8", "classify", "prepare"),
        ("data/prepared/images.jsonl", "features", "prepare"),
        ("data/features/visual.npy", "prototypes", "features"),
        ("data/features/held_out.npy", "evaluate", "features"),
    ],
)
def test_a_broken_file_of_a_stage_names_the_stage_that_makes_it(made, path, stage, maker):
    """Disks fill up: what to do is in the line, and nobody reads a traceback to find it."""
    for damage in (cut, point, os.remove):
        damage(path)
        with pytest.raises(ValueError, match=rf"{path}: .*`dvc repro {maker}` makes it") as error:
            made.run(stage)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "content",
    [
        '{"resize": 40, "crop": 32}\n',
        '{"resize": "40", "crop": 32}\n[0, 0, 0, 0, 9, 9, "x"]\n',
        '{"resize": 40, "crop": 32}\n[-5, 0, 0, 0, 9, 9, "x"]\n',
    ],
)
def test_another_index_of_images_is_one_line(made, content):
    Path("data/prepared/images.jsonl").write_text(content)
    with pytest.raises(ValueError, match=r"images.jsonl: not a whole index of images; `dvc repro prepare` makes it"):
        ImagePack.of("data/prepared")


def test_another_file_in_the_place_of_the_prototypes(made):
    """Of another n_prototypes it would train, as if nothing were."""
    for tensors in (STATE, *({"prototypes": torch.zeros(shape)} for shape in ((28, 520), (13, 2, 520), (14, 5, 520)))):
        save_file(tensors, "data/prototypes.safetensors")
        with pytest.raises(ValueError, match="something else than prototypes of 14 .* x 2: `dvc repro -f prototypes`"):
            made.run("train")


def of_other_studies(features: np.ndarray) -> dict[str, np.ndarray]:
    return {
        "more": np.concatenate([features, features]),
        "fewer": features[:5],
        "a row": features[0],
        "text": features.astype(str),
    }


@pytest.mark.parametrize(
    ("name", "stage"), [("visual", "prototypes"), ("textual", "prototypes"), ("held_out", "evaluate")]
)
def test_features_of_other_studies_are_refused(made, name, stage):
    """Longer ones would be taken: row by row they would be another study's."""
    path = Path(f"data/features/{name}.npy")
    features = np.load(path)
    for found in of_other_studies(features).values():
        np.save(path, found)
        line = rf"^{path}: \S+ of shape .*, expected float32 of {len(features)} studies: .*`dvc repro -f features`"
        with pytest.raises(ValueError, match=line):
            made.run(stage)


def test_features_of_two_networks_are_refused(made):
    np.save("data/features/held_out.npy", np.load("data/features/held_out.npy")[:, :9])
    with pytest.raises(ValueError, match="^data/features: visual.npy and held_out.npy are of different networks"):
        made.run("evaluate")


def test_fewer_predictions_than_studies_name_the_stage(made):
    Path("data/predictions").mkdir()
    Path("data/predictions/val.jsonl").write_text('{"id": "val-0"}\n')
    with pytest.raises(ValueError, match=r"val\.jsonl: no report for 6 of 7 .* `dvc repro generate` makes it"):
        made.run("evaluate")
    Path("data/predictions/val.jsonl").write_text('{"id": "val-0", "pre')
    with pytest.raises(ValueError, match=r"val\.jsonl: line 1: not JSON: .*; `dvc repro generate` makes it again"):
        made.run("evaluate")


PREDICTED = {"report": "clear .", "log_prob": -1.0, "own_log_prob": -3.0}
PREDICTION = {"own_tokens": 9, "predicted": PREDICTED, "reference": PREDICTED, "none": PREDICTED}


@pytest.mark.parametrize(
    "wrong",
    [
        *({"own_tokens": 0}, {"own_tokens": None}, {"predicted": None}, {"none": ["clear ."]}),
        *({"reference": {**PREDICTED, "report": None}}, {"predicted": {**PREDICTED, "own_log_prob": "x"}}),
    ],
)
def test_predictions_of_another_form_name_the_stage(made, wrong):
    Path("data/predictions").mkdir()
    records = [{"id": id, **PREDICTION, **(wrong if id == "val-3" else {})} for id in made.ids("val")]
    Path("data/predictions/val.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in records))
    with pytest.raises(
        ValueError, match=r"val\.jsonl: val-3: no reports under .*; `dvc repro generate` makes it again"
    ):
        made.run("evaluate")


@pytest.mark.parametrize("line", ['["val-0", "clear ."]', "null", '{"report": "clear ."}', '{"id": ["val-0"]}'])
def test_predictions_without_ids_name_the_line(made, line):
    Path("data/predictions").mkdir()
    Path("data/predictions/val.jsonl").write_text(f'{{"id": "val-0"}}\n{line}\n')
    with pytest.raises(ValueError, match=r"val\.jsonl: line 2: not a study with an id; `dvc repro generate`"):
        made.run("evaluate")


def test_arrays_are_mapped(tmp_path):
    np.save(tmp_path / "a.npy", np.eye(3, dtype=np.float32))
    assert isinstance(read_array(tmp_path / "a.npy", rows=3, stage="features"), np.memmap)
    shutil.copy(tmp_path / "a.npy", tmp_path / "b.npy")
    save_file(STATE, tmp_path / "b.npy")
    with pytest.raises(ValueError, match="no whole array"):
        read_array(tmp_path / "b.npy", rows=3, stage="features")


def test_weights_under_other_names_show_both():
    """Of hundreds the first twenty problems are named: all of one kind, they would not say what the keys are called."""
    wanted = {f"layer{n:03}.weight": torch.zeros(1) for n in range(100)}
    found = misfits({f"{key}_": tensor for key, tensor in wanted.items()}, wanted)
    assert found[:2] == ["missing layer000.weight", "unknown layer000.weight_"] and len(found) == 200
