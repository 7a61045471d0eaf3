"""What others trained and published can be used here: checkpoints and prototype matrices, and none of their code."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from xpronet.app.cli import app
from xpronet.app.official import convert
from xpronet.classifier import network
from xpronet.data.reports import clean_report
from xpronet.labels.conditions import ALPHABETICAL, CONDITIONS
from xpronet.model import checkpoint
from xpronet.model.xpronet import ModelConfig, XProNet
from xpronet.prototypes.published import read_prototypes
from xpronet.systems.r2gencmn import R2GenCMN, R2GenCMNConfig

REPORTS = ["The heart is normal. The lungs are clear.", "The heart is large. Lungs are clear.", "Heart normal in size."]


@pytest.fixture(scope="module")
def published() -> dict[str, torch.Tensor]:
    """A small random network under the published names, with all that checkpoints of 2022 have beside it."""
    torch.manual_seed(0)
    sizes = {"d_model": 16, "d_ff": 24, "heads": 4, "layers": 2, "n_prototypes": 4, "d_prototype": 20, "gamma": 3}
    config = ModelConfig(vocab_size=11, backbone="resnet18", **sizes)
    state = {checkpoint.published_key(key): tensor for key, tensor in XProNet(config).state_dict().items()}
    memory = {key: tensor for key, tensor in state.items() if key.startswith("encoder_decoder.cmn.")}
    state |= {key.replace("decoder.cmn", "decoder.model.cmn"): tensor for key, tensor in memory.items()}
    state |= {f"encoder_decoder.model.{part}.pe": torch.zeros(1, 60, 16) for part in ("src_embed.0", "tgt_embed.1")}
    state |= {f"encoder_decoder.{m}_cls_head.{i}.weight": torch.zeros(2, 2) for m in ("img", "txt") for i in (0, 1)}
    state |= {f"encoder_decoder.{m}_dim_reduction.bias": torch.zeros(2) for m in ("img", "txt")}
    return {f"module.{key}": tensor for key, tensor in state.items()}


@pytest.fixture
def files(tmp_path, published) -> tuple[Path, Path]:
    """A checkpoint as the published trainer writes it, and an annotation."""
    path, annotation = tmp_path / "model_best.pth", tmp_path / "annotation.json"
    torch.save({"epoch": 7, "state_dict": published, "optimizer": {"state": {}}, "monitor_best": np.float64(0.5)}, path)
    train = [{"id": f"s{n}", "report": report, "image_path": ["0.png"]} for n, report in enumerate(REPORTS)]
    annotation.write_text(json.dumps({"train": train, "val": [], "test": []}))
    words = {word for report in REPORTS for word in clean_report(report, "iu_xray").split()}
    assert words == {"the", "heart", "is", "normal", "lungs", "are", "clear", "large", "in", "size", "."}
    return path, annotation


def test_a_checkpoint_of_r2gencmn_becomes_one_too(files, tmp_path):
    path, annotation = files
    sizes = {"d_model": 16, "d_ff": 24, "heads": 4, "layers": 2, "memory": 12, "top": 3}
    torch.manual_seed(0)
    theirs = R2GenCMN(R2GenCMNConfig(vocab_size=12, backbone="resnet18", **sizes)).eval()
    state = {checkpoint.published_key(key): tensor for key, tensor in theirs.state_dict().items()}
    torch.save({"state_dict": {f"module.{key}": tensor for key, tensor in state.items()}}, path)
    line = convert(path, annotation, "mimic_cxr", tmp_path / "m", gamma=3, heads=4, min_count=1)
    assert "a memory of 12 rows (top 3)" in line
    model, _ = checkpoint.load(tmp_path / "m")
    images, tokens, labels = inputs()
    assert torch.equal(model(images, tokens, labels).log_probs, theirs(images, tokens, labels).log_probs)


def inputs():
    torch.manual_seed(1)
    labels = torch.zeros(3, 14)
    labels[0, 13] = labels[1, 2] = labels[2, 4] = labels[2, 7] = 1
    return torch.randn(3, 1, 3, 64, 64), torch.tensor([[0, 3, 4, 0], [0, 5, 6, 0], [0, 2, 9, 0]]), labels


def with_words(state, count):
    """The same network with `count` words."""
    keys = ("model.tgt_embed.0.lut.weight", "logit.weight", "logit.bias")
    rows = {f"module.encoder_decoder.{key}": state[f"module.encoder_decoder.{key}"][: count + 1] for key in keys}
    return state | {
        key: torch.cat([tensor, torch.ones(count + 1 - len(tensor), *tensor.shape[1:])]) for key, tensor in rows.items()
    }


def test_a_checkpoint_becomes_a_model_folder_that_generates(files, published, tmp_path):
    path, annotation = files
    torch.save({"state_dict": with_words(published, 12), "monitor_best": np.float64(0.5)}, path)
    options = ["--annotation", str(annotation), "--dataset", "iu_xray", "--min-count", "1", "--gamma", "3"]
    result = CliRunner().invoke(app, ["import-official", str(path), str(tmp_path / "m"), *options, "--heads", "4"])
    assert result.exit_code == 0, result.output
    assert "12 words" in result.output
    model, card = checkpoint.load(tmp_path / "m")
    assert (card.conditions, card.max_length, card.crop) == (CONDITIONS, 60, 224)
    images, tokens, labels = inputs()
    expected = checkpoint.load_official(with_words(published, 12), gamma=3, heads=4)
    assert torch.equal(model(images, tokens, labels).log_probs, expected(images, tokens, labels).log_probs)
    report = card.vocabulary.decode(model.generate(images, labels, beam_size=3, max_length=5).tokens[0].tolist())
    assert set(report.split()) <= set(card.vocabulary.tokens)


def test_mimic_cxr_s_classes_come_into_our_order(files, published, tmp_path):
    """Row 19: a study asks for the same prototypes, whichever way its labels are written."""
    path, annotation = files
    torch.save(with_words(published, 12), path)  # a bare state dict will do
    convert(path, annotation, "mimic_cxr", tmp_path / "m", gamma=3, heads=4, min_count=1)
    ours, card = checkpoint.load(tmp_path / "m")
    theirs = checkpoint.load_official(with_words(published, 12), gamma=3, heads=4)
    images, tokens, labels = inputs()
    alphabetical = labels[:, [CONDITIONS.index(condition) for condition in ALPHABETICAL]]
    assert not torch.equal(labels, alphabetical)
    found, expected = ours(images, tokens, labels), theirs(images, tokens, alphabetical)
    torch.testing.assert_close(found.log_probs, expected.log_probs, rtol=0, atol=2e-5)
    assert card.style == "mimic_cxr" and card.max_length == 100


def test_a_classifier_goes_into_the_folder(files, published, tmp_path):
    """With it the folder says by itself which observations a new image has."""
    path, annotation = files
    torch.save(with_words(published, 12), path)
    how = {"gamma": 3, "heads": 4, "min_count": 1}
    network.save(tmp_path / "c", network.StudyClassifier("resnet18"), np.full(14, 0.25, np.float32))
    assert "labels by" in convert(path, annotation, "iu_xray", tmp_path / "m", classifier=tmp_path / "c", **how)
    assert network.load(tmp_path / "m/classifier")[1].tolist() == [0.25] * 14
    with pytest.raises(ValueError, match="nothing/classifier.json: no such file"):
        convert(path, annotation, "iu_xray", tmp_path / "n", classifier=tmp_path / "nothing", **how)
    assert not (tmp_path / "n").exists()


def test_another_vocabulary_is_refused_with_both_sizes(files, tmp_path):
    path, annotation = files
    with pytest.raises(ValueError, match=r"writes 11 words, but 12 occur at least 1 times .*annotation.json"):
        convert(path, annotation, "iu_xray", tmp_path / "m", gamma=3, heads=4, min_count=1)
    assert not (tmp_path / "m").exists()


def test_nothing_is_overwritten(files, tmp_path):
    (tmp_path / "thesis").mkdir()
    with pytest.raises(ValueError, match="thesis exists"):
        convert(*files, "iu_xray", tmp_path / "thesis", gamma=3, heads=4)


class Evil:
    def __reduce__(self):
        return print, ("this ran",)


@pytest.mark.parametrize("content", [b"", b"no checkpoint", Evil(), {"state_dict": {"a": Evil()}}, [1, 2]])
def test_a_broken_or_evil_checkpoint_is_one_line_and_runs_nothing(files, tmp_path, capsys, content):
    path, annotation = files
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(ValueError, match="model_best.pth") as error:
        convert(path, annotation, "iu_xray", tmp_path / "m", gamma=3, heads=4)
    assert "\n" not in str(error.value)
    assert "this ran" not in capsys.readouterr().out


def test_the_command_shows_no_traceback():
    command = ["-m", "xpronet.app.cli", "import-official", "no.pth", "--annotation", "a", "--dataset", "iu_xray", "m"]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "no.pth: no such file\n")


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (lambda state: state.pop("module.encoder_decoder.protypes"), "nothing for encoder_decoder.protypes"),
        (lambda state: state.update({"module.encoder_decoder.protypes": torch.zeros(57, 20)}), "57 prototypes cannot"),
        (lambda state: state.update({"module.encoder_decoder.logit.bias": "x"}), "logit.bias is no tensor but str"),
        (lambda state: state.pop("module.visual_extractor.model.0.weight"), "missing visual_extractor.model.0.weight"),
    ],
)
def test_damaged_state_dicts_are_named(published, damage, line):
    state = dict(published)
    damage(state)
    with pytest.raises(ValueError, match=line):
        checkpoint.load_official(state, gamma=3, heads=4)


def test_a_weight_that_stands_twice_is_refused(published):
    """With and without the prefix of parallel training: the last would win."""
    with pytest.raises(ValueError, match="keys stand twice, with and without 'module.'"):
        checkpoint.load_official(published | {"encoder_decoder.protypes": torch.zeros(56, 20)}, gamma=3, heads=4)


def test_gamma_and_heads_must_fit(published):
    with pytest.raises(ValueError, match="gamma 57 must lie between 1 and 56"):
        checkpoint.load_official(published, gamma=57, heads=4)
    with pytest.raises(ValueError, match="heads 5 must divide d_model 16"):
        checkpoint.load_official(published, gamma=3, heads=5)


@pytest.mark.parametrize(
    "broken",
    [
        lambda tensor: tensor.int(),
        lambda tensor: tensor.to(torch.complex64),
        lambda tensor: tensor.to_sparse(),
        lambda tensor: tensor.to("meta"),
    ],
)
def test_tensors_without_a_fraction_in_each_place_are_named(published, broken):
    """Copied, whole numbers would be prototypes of 0; the others are a traceback."""
    key = "module.encoder_decoder.protypes"
    with pytest.raises(
        ValueError, match=r"encoder_decoder.protypes holds torch\.\w+ \(torch\.\w+\), expected torch.fl"
    ):
        checkpoint.load_official({**published, key: broken(published[key])}, gamma=3, heads=4)


def test_published_prototypes_whole_and_in_two_parts(tmp_path):
    """Rows go by class, within a class flipped images first (row 14); MIMIC-CXR's classes are alphabetical."""
    matrix = torch.arange(14 * 4 * 3).float().view(14 * 4, 3)
    by_class = matrix.view(14, 4, 3)
    torch.save(matrix, tmp_path / "whole.pt")
    torch.save(by_class[:, :2].reshape(-1, 3).clone(), tmp_path / "flipped.pt")
    torch.save(by_class[:, 2:].reshape(-1, 3).clone(), tmp_path / "plain.pt")
    whole = read_prototypes([tmp_path / "whole.pt"], n_prototypes=4, order="chexbert")
    parts = read_prototypes([tmp_path / "flipped.pt", tmp_path / "plain.pt"], n_prototypes=4, order="chexbert")
    np.testing.assert_array_equal(whole, by_class.numpy())
    np.testing.assert_array_equal(parts, whole)
    mimic = read_prototypes([tmp_path / "whole.pt"], n_prototypes=4, order="alphabetical")
    for k, condition in enumerate(CONDITIONS):
        np.testing.assert_array_equal(mimic[k], by_class[ALPHABETICAL.index(condition)].numpy())


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (torch.zeros(280, 3), "has 280 rows, expected 14 observations x 4: set n_prototypes to 20"),
        (torch.zeros(56), "expected one matrix"),
        (torch.full((56, 3), torch.nan), "no numbers"),
    ],
)
def test_other_matrices_are_refused(tmp_path, matrix, message):
    torch.save(matrix, tmp_path / "p.pt")
    with pytest.raises(ValueError, match=message):
        read_prototypes([tmp_path / "p.pt"], n_prototypes=4, order="chexbert")


def test_the_full_model_of_the_published_layout():
    """All 784 keys have a place: 761 outputs, 20 prototypes, ResNet-101."""
    layout = json.loads((Path(__file__).parent / "golden/prototypes/state_dict_full_iu.json").read_text())
    assert layout["n_keys"] == len(layout["keys"])
    keys = {entry["key"]: tuple(entry["shape"]) for entry in layout["keys"]} | {
        key: tuple(shape) for key, shape in layout["extra_keys_in_2022_release"].items()
    }
    with torch.device("meta"):
        wanted = XProNet(ModelConfig(vocab_size=760)).state_dict()
    found = {checkpoint.our_key(key): shape for key, shape in keys.items() if checkpoint.our_key(key)}
    assert found == {key: tuple(tensor.shape) for key, tensor in wanted.items()}
    assert {checkpoint.published_key(key) for key in found} <= set(keys)
