"""A model that is passed on says what it was made of, how good it is beside floors, and what it is not for."""

import re
import shutil
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from huggingface_hub import ModelCard
from typer.testing import CliRunner

from tests.test_generate import SIZES, picture
from xpronet.app import export
from xpronet.app.card import SYSTEMS, Scored, beside_floors, card
from xpronet.app.cli import app
from xpronet.app.pages import NOTICE
from xpronet.app.reporter import Reporter
from xpronet.classifier import network
from xpronet.common.files import read_json
from xpronet.common.params import load_yaml, validate
from xpronet.data.reports import Vocabulary
from xpronet.labels.conditions import CONDITIONS
from xpronet.model import checkpoint
from xpronet.model.params import SystemName
from xpronet.model.xpronet import ModelConfig, XProNet

ROOT = Path(__file__).resolve().parents[1]
FOUND = read_json(ROOT / "metrics/details/test.json")
COUNTS = {"train_studies": 1000, "val_studies": 100, "test_studies": 200}
MODEL = checkpoint.ModelCard(Vocabulary(["<unk>", "clear", "lungs"]), CONDITIONS, "iu_xray", 64, 2, 5)


def written(dataset: str = "phantom", *, system: str = "xpronet", prototypes: bool = True, **changes) -> str:
    content = {**load_yaml(ROOT / f"presets/{dataset}.yaml"), **changes}
    keys = {key: content[key] for key in Scored.model_fields}
    return card(validate(Scored, keys), MODEL, FOUND, COUNTS, system=system, prototypes=prototypes, license=None)


def test_hugging_face_reads_the_card():
    """Licence, tags, task and scores are what its pages search and show."""
    data = ModelCard(written()).data
    assert (data.license, data.pipeline_tag, data.language) == ("mit", "image-to-text", "en")
    assert "radiology" in data.tags and set(data.metrics) >= {"bleu", "meteor", "rouge"}
    found = {result.metric_name: result.metric_value for result in data.eval_results}
    assert found == {name: round(FOUND["predicted"][name], 4) for name in found} and "BLEU_4" in found


def test_the_card_has_scores_beside_floors_with_intervals():
    text = written()
    low, high = FOUND["predicted"]["intervals"]["BLEU_4"]
    floor = FOUND["floors"]["image_neighbour"]["BLEU_4"]
    (row,) = re.findall(r"^\| BLEU_4 .*$", text, re.M)
    assert f"| {FOUND['predicted']['BLEU_4']:.3f} | {low:.3f}–{high:.3f} |" in row and f"| {floor:.3f} |" in row
    assert f"under test it is {FOUND['reference']['BLEU_4']:.3f}" in text
    assert NOTICE in text and "1,000 / 100 / 200" in text and "64 x 64 pixels" in text and "No patient is in it" in text


def test_the_card_names_the_floors_that_are_not_below():
    floors = {"image_neighbour": {"BLEU_4": 0.5, "micro_F1_14": 0.1}, "constant": {"BLEU_4": 0.1, "micro_F1_14": 0.1}}
    said = beside_floors({"BLEU_4": 0.4, "micro_F1_14": 0.6}, floors)
    assert said == "Beside the floors: by BLEU_4 it is no better than image neighbour."
    assert beside_floors({"BLEU_4": 0.6, "micro_F1_14": 0.6}, floors).startswith("It is above every floor")


def test_what_is_not_known_is_not_said():
    """Of an imported checkpoint nobody here knows the labels, and real data has terms of its own."""
    own, imported = written("iu_xray"), written("iu_xray", model_folder="data/published")
    assert "labeller `chexbert`, section" in own
    assert "is not known here" in imported and "trained elsewhere" in imported and "`chexbert`" not in imported
    assert ModelCard(own).data.license == "other" and "terms of its own" in own


@pytest.mark.parametrize("name", get_args(SystemName))
def test_another_system_s_card_has_nothing_of_prototypes(name):
    text = written(system=name, prototypes=False)
    assert "It reads none for a new image." in text  # in training some learn to say them
    assert "Under predicted labels" not in text and "BLEU_4 without labels" not in text
    if name != "xpronet":
        assert "prototype" not in text and "as in XProNet" not in text and "# XProNet" not in text
        assert ModelCard(text).data.model_name == f"{SYSTEMS[name]}, phantom"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A pipeline's folder with a model, a classifier and scores, as far as they are read."""
    monkeypatch.chdir(tmp_path)
    network.save("data/classifier", network.StudyClassifier("resnet18"), np.full(14, 0.25, np.float32))
    checkpoint.save("data/model", XProNet(ModelConfig(vocab_size=3, gamma=3, **SIZES)), MODEL)
    for name in ("metrics/details/test.json", "metrics/prepare.json"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, name)
    shutil.copy(ROOT / "presets/phantom.yaml", "params.yaml")


def test_an_exported_folder_is_all_that_a_report_needs(here, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "scores", lambda: FOUND)
    done = CliRunner().invoke(app, ["export", "shared/model", "--license", "cc-by-4.0"])
    assert done.exit_code == 0, done.exception
    assert ModelCard.load(tmp_path / "shared/model/README.md").data.license == "cc-by-4.0"
    assert "cc-by-4.0" in Path("shared/model/README.md").read_text()
    shutil.rmtree("data")
    (report,) = Reporter.load("shared/model", device="cpu").reports([picture(tmp_path, "chest.png")])
    assert report.labels_from == "predicted"
    line = str(CliRunner().invoke(app, ["export", "shared/model"]).exception)
    assert line == "shared/model exists: name a new folder, or remove it first"


def test_a_model_whose_training_has_not_ended_is_not_exported(here, monkeypatch):
    """The folder's mark would be left behind, and its weights be taken for the result."""
    monkeypatch.setattr(export, "scores", lambda: FOUND)
    Path("data/model", checkpoint.UNFINISHED).touch()
    line = str(CliRunner().invoke(app, ["export", "out"]).exception)
    assert line.startswith("data/model: its training has not ended: ") and "\n" not in line
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("gone", "line"),
    [
        ("metrics/details/test.json", "metrics/details/test.json: no such file"),
        ("data/model/model.json", "data/model/model.json: no such file"),
        ("data/classifier/classifier.json", "data/classifier/classifier.json: no such file"),
        ("params.yaml", "params.yaml: no such file"),
        ("none", "export: "),  # no DVC repository
    ],
)
def test_what_is_missing_is_one_line(here, monkeypatch, gone, line):
    if gone.startswith("data"):
        monkeypatch.setattr(export, "scores", lambda: FOUND)
    Path(gone).unlink(missing_ok=True)
    found = str(CliRunner().invoke(app, ["export", "out"]).exception)
    assert found.startswith(line) and "\n" not in found
    assert not Path("out").exists()
