"""A training that starts from a trained model starts from that model: its weights, and its words by their names."""

import contextlib
import json
import logging
import shutil
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from dvc.repo import Repo
from safetensors.torch import load_file

from stages import resume, train
from tests.made import PARAMS, REPORTS, read_json, words_of_train
from tests.test_parameters import preset
from tests.test_what_the_model_reads import STILL, history, no_meteor
from xpronet.common.params import read, validate
from xpronet.common.weights import save_tensors
from xpronet.data.reports import Vocabulary
from xpronet.model import checkpoint
from xpronet.model.xpronet import ModelConfig, XProNet
from xpronet.training.params import FRESH, Training
from xpronet.training.start import WORDS, take_over

PATHS = (
    "prepared",
    "labels.csv",
    "predicted_labels.csv",
    "classifier",
    "prototypes.safetensors",
    "templates.json",
)  # that train reads
QUICK = {"train": {"epochs": 1, "lr": 0.05, "lr_visual": 0.01, "weight_decay": 0.0}, "model": STILL["model"]}


@pytest.fixture(scope="module")
def trained(origin, tmp_path_factory):
    """A folder in which a model has been trained, and what its own training says of it on validation."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "data").mkdir()
    for path in PATHS:
        there = origin.folder / "data" / path
        (shutil.copytree if there.is_dir() else shutil.copy)(there, folder / "data" / path)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(train, "running_meteor", lambda: nullcontext(no_meteor()))
        origin.run("train", **QUICK)
        (folder / "data/model").rename(folder / "start")
        (origin.own_scores,) = history()
        yield origin
    shutil.rmtree(folder)


def still(made, caplog, **changes) -> tuple[dict[str, torch.Tensor], Vocabulary]:
    """A training that moves no weight -> what it started from."""
    caplog.set_level(logging.INFO)
    frozen = {"freeze_epochs": 1, "crops": 1}  # batch norm moves its statistics otherwise
    changes["train"] = {**STILL["train"], **frozen, "start": "start", **changes.get("train", {})}
    made.run("train", **{**STILL, **changes})
    model, card = checkpoint.load("data/model")
    return model.state_dict(), card.vocabulary


def test_training_goes_on_from_the_weights_of_the_folder(trained, caplog):
    """At the first step it is that model, and validation says of it what its own training said."""
    started, _ = still(trained, caplog)
    before = load_file("start/weights.safetensors")
    assert set(started) == set(before)
    for name, tensor in started.items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=1e-20, msg=name)
    words = len(words_of_train(trained))
    assert f"starts from start: it knows {words} of the {words} words, the others start anew" in caplog.text


def test_its_score_on_validation_is_that_of_the_model(trained, caplog):
    still(trained, caplog)
    (started,), own = history(), trained.own_scores
    scores = [name for name in own if name.startswith("val_")]
    assert {name: started[name] for name in scores} == {name: own[name] for name in scores}
    assert own["val_BLEU_1"] > 0


def test_words_move_by_name_and_others_start_anew(trained, caplog):
    """Another data set has another vocabulary: ids are others, and a row of another word is worse than none."""
    started, vocabulary = still(trained, caplog, reports={**REPORTS, "min_count": 2})
    known = Vocabulary(read_json("start/model.json")["vocabulary"])
    before = load_file("start/weights.safetensors")
    new = [word for word in vocabulary.tokens if word not in known.tokens]
    assert new and f"it knows {len(known)} of the {len(vocabulary)} words" in caplog.text
    torch.manual_seed(PARAMS["seed"])
    fresh = XProNet(checkpoint.load("data/model")[0].config).state_dict()
    for name in WORDS[:3]:
        assert torch.equal(started[name][0], before[name][0])  # the end
        for id, word in enumerate(vocabulary.tokens, start=1):
            expected = fresh[name][id] if word in new else before[name][known.tokens.index(word) + 1]
            torch.testing.assert_close(started[name][id], expected, rtol=0, atol=1e-20, msg=word)
    assert torch.equal(started["prototypes"], before["prototypes"])


def test_prototypes_are_of_the_folder_or_of_this_run(trained, caplog):
    started, _ = still(trained, caplog, train={"start_prototypes": "own"})
    own = load_file("data/prototypes.safetensors")["prototypes"].flatten(0, 1)
    before = load_file("start/weights.safetensors")
    assert torch.equal(started["prototypes"], own) and not torch.equal(before["prototypes"], own)
    torch.testing.assert_close(started["memory.key.weight"], before["memory.key.weight"], rtol=0, atol=1e-20)


def test_a_saved_state_is_of_the_folder_s_content(trained, tmp_path):
    """Another model under the same name is another training."""
    trained.run("train", **{**STILL, "train": {**STILL["train"], "start": "start"}})
    params = read(train.Params)
    first = resume.states("train", params, torch.device("cpu"))
    assert first._about["start/weights.safetensors"] and first._about["xpronet/model/xpronet.py"]
    assert first._about["train.start"] == '"start"'
    card = Path("start/model.json").read_text()
    Path("start/model.json").write_text(card + " ")
    try:
        assert resume.states("train", params, torch.device("cpu")).folder != first.folder
    finally:
        Path("start/model.json").write_text(card)
    assert resume.states("train", params, torch.device("cpu")).folder == first.folder


SIZES = {"backbone": "resnet18", "d_model": 16, "d_ff": 24, "heads": 2, "layers": 1, "n_prototypes": 2, "cmpnet": True}


@pytest.mark.parametrize(
    ("sizes", "symbols", "prototypes", "line"),
    [
        ({"d_model": 512, "backbone": "resnet101"}, {}, "folder", "set model.backbone=resnet101 model.d_model=512"),
        ({"heads": 4}, {}, "own", "set model.heads=4"),
        ({"n_prototypes": 20}, {}, "folder", "set n_prototypes=20"),
        ({"cmpnet": False}, {}, "folder", "set cmpnet=false"),
        ({"n_prototypes": 20}, {}, "own", None),
        ({"n_prototypes": 20, "cmpnet": False}, {"cmpnet": False}, "folder", None),
        ({"gamma": 7, "dropout": 0.5}, {}, "folder", None),
        ({"formulation": "paper"}, {}, "own", "set formulation=paper"),  # one of the two has a linear more
        ({"formulation": "paper", "cmpnet": False}, {"cmpnet": False}, "folder", None),
    ],
)
def test_other_sizes_are_one_line_with_what_to_set(sizes, symbols, prototypes, line):
    """Before any work: stage check reads them off model.json."""
    content = preset()
    content["train"] |= {"start": "x", "start_prototypes": prototypes}
    content["model"] |= PARAMS["model"]
    content = {key: content[key] for key in Training.model_fields} | {"n_prototypes": 2, "gamma": 2} | symbols
    params = validate(Training, content)
    if line is None:
        params.check_start({"sizes": {**SIZES, **sizes}})
        return
    with pytest.raises(ValueError, match=f"^train.start = 'x': a model of other sizes: {line}$"):
        params.check_start({"sizes": {**SIZES, **sizes}})


@pytest.mark.parametrize("found", [None, [], {}, {"sizes": {"d_model": 16}}])
def test_a_card_without_sizes_is_one_line(found):
    content = preset()
    params = validate(Training, {key: content[key] for key in Training.model_fields})
    with pytest.raises(ValueError, match="its model.json does not say its sizes: not a model of this version$"):
        params.check_start(found)


@pytest.mark.parametrize("folder", ["data/model", "data/model/classifier", "./data/model", "data/../data/model"])
def test_training_does_not_start_from_what_it_writes(folder):
    content = preset()
    content["train"]["start"] = folder
    with pytest.raises(ValueError, match="train: start .*: training writes it itself; name a copy of it"):
        validate(Training, {key: content[key] for key in Training.model_fields})


def test_stage_check_looks_into_the_folder(tmp_path, monkeypatch):
    """Not hours later, when the stages before training are through."""
    from stages import check

    monkeypatch.chdir(tmp_path)
    content = preset()
    content["source"] = "."
    lines = {"none": "no such file or folder; expected xpronet/model", "start": "set n_prototypes=2 model.d_model=16"}
    for start, line in lines.items():
        content["train"]["start"] = start
        Path("params.yaml").write_text(json.dumps(content))
        Path("start").mkdir(exist_ok=True)
        Path("start/model.json").write_text(json.dumps({"sizes": {**SIZES, "heads": 8, "layers": 3, "d_ff": 256}}))
        with pytest.raises(ValueError, match=line) as error:
            check.main()
        assert "\n" not in str(error.value)


def test_prototypes_of_another_width_or_other_observations_are_one_line(trained, caplog):
    own = load_file("data/prototypes.safetensors")
    card = read_json("start/model.json")
    try:
        save_tensors({"prototypes": torch.randn(14, 2, 9)}, "data/prototypes.safetensors")
        with pytest.raises(ValueError, match="its prototypes are 520 wide, this run's own 9, .*=folder$"):
            still(trained, caplog, train={"start_prototypes": "own"})
        Path("start/model.json").write_text(json.dumps({**card, "conditions": card["conditions"][::-1]}))
        with pytest.raises(ValueError, match="^train.start = 'start': its labels are No Finding, Support Devices, .*"):
            still(trained, caplog)
    finally:
        save_tensors(own, "data/prototypes.safetensors")
        Path("start/model.json").write_text(json.dumps(card))


def test_a_model_without_prototypes_goes_on_too():
    """w/o CMPNet; and words of which none is known but the one that all have."""
    sizes = {"backbone": "resnet18", "d_model": 8, "d_ff": 8, "heads": 2, "layers": 1, "cmpnet": False}
    models = [XProNet(ModelConfig(vocab_size=size, **sizes)) for size in (3, 2)]
    words = Vocabulary(["<unk>", "b", "c"]), Vocabulary(["<unk>", "a"])
    before = models[0].word_embedding.weight.detach().clone()
    take_over(models[0], words[0], models[1], words[1], where="x")
    rows = models[0].word_embedding.weight.detach()
    assert torch.equal(rows[:2], models[1].word_embedding.weight[:2]) and torch.equal(rows[2:], before[2:])
    assert torch.equal(models[0].head.bias[:2], models[1].head.bias[:2])


def test_by_default_weights_are_drawn():
    assert all(preset(name)["train"]["start"] == FRESH for name in ("phantom", "iu_xray", "mimic_cxr"))


def test_dvc_watches_the_folder(new_project):
    """Another model under the same name is trained on from anew."""
    project = new_project("phantom", {"train": {"start": "data/start"}})
    with contextlib.chdir(project.folder), Repo(".") as repo:
        stages = {stage.name: {dep.def_path for dep in stage.deps} for stage in repo.index.stages}
    assert "data/start" in stages["train"] and FRESH not in stages["train"]
    assert not any("data/start" in deps for name, deps in stages.items() if name != "train")
