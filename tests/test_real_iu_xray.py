"""Real radiographs, reports and labels go the whole way: the IU-Xray preset as one would use it, only smaller."""

import json

import pytest
import torch
from dvc.repo import Repo
from typer.testing import CliRunner

from tests.published import Tiny
from xpronet.app.cli import app
from xpronet.data.reports import Vocabulary, clean_report
from xpronet.data.studies import of_split, read_annotation
from xpronet.labels.conditions import NO_FINDING, POSITIVE
from xpronet.labels.published import import_classes

STAGES = (
    *("check", "prepare", "label", "classify", "templates"),
    *("features", "prototypes", "train", "generate", "evaluate"),
)


@pytest.fixture(scope="module")
def project(shared, new_project):
    real = shared / "iu_xray"
    project = new_project(
        "iu_xray",
        {
            "source": str(real / "annotation_subset.json"),
            "images": {"folder": str(real / "images")},
            "labels": {"labeller": "file", "file": str(real / "labels_chexbert.json"), "chexbert_path": None},
            "features": {"text_encoder": "minilm"},
            "classifier": {"backbone": "resnet18", "weights": "random", "epochs": 1, "batch_size": 4},
            "model": {"backbone": "resnet18", "visual_weights": "random"},
            "train": {"epochs": 1, "batch_size": 4, "precision": "bf16", "val_max_length": 20},
            "decode": {"max_length": 20},
            "runtime": {"device": "cpu", "workers": 0},
        },
    )
    project.stages(*STAGES)
    return project


def test_real_studies_go_from_files_to_scores(project):
    metrics = project.json("metrics/details/test.json")
    assert metrics["studies"] == 4
    for scores in (metrics["predicted"], metrics["reference"], metrics["floors"]["constant"]):
        assert 0 <= scores["BLEU_4"] <= 1
    sizes = project.json("data/model/model.json")["sizes"]
    assert (sizes["backbone"], sizes["d_model"], sizes["n_prototypes"], sizes["gamma"]) == ("resnet18", 512, 20, 15)


def test_studies_of_one_and_of_two_views_are_packed(project):
    annotation = project.json("data/prepared/annotation.json")
    views = [len(study["image_path"]) for split in annotation.values() for study in split]
    assert sorted(set(views)) == [1, 2]
    assert sum(project.json("metrics/details/prepare.json")["images"].values()) == sum(views) == 36


def test_every_published_report_and_label_is_read(shared):
    studies = read_annotation(shared / "iu_xray/annotation.json")
    assert [len(of_split(studies, split)) for split in ("train", "val", "test")] == [2069, 296, 590]
    train = [clean_report(study.report, "iu_xray") for study in of_split(studies, "train")]
    assert len(Vocabulary.build(train, min_count=3)) == 760
    labels = import_classes(shared / "iu_xray/labels_chexbert.json", studies) == POSITIVE
    published = json.loads((shared / "iu_xray/labels_chexbert.json").read_text())["labels"]
    assert labels.sum() == sum(map(sum, (published["-".join(study.id.split("-")[:2])] for study in studies)))
    assert 0.5 < labels[:, NO_FINDING].mean() < 1


def test_a_published_checkpoint_writes_reports_and_is_scored_without_training(project, shared, monkeypatch):
    """The page docs/checkpoints.md, command by command, with the published tiny model as the checkpoint."""
    monkeypatch.chdir(project.folder)
    tiny = Tiny(shared / "golden/tiny_iu")
    torch.save({"state_dict": {f"module.{key}": tensor for key, tensor in tiny.state.items()}}, "model_best.pth")

    def run(*words) -> str:
        done = CliRunner().invoke(app, [*map(str, words)])
        assert done.exit_code == 0, done.exception
        return done.stdout

    train = json.loads((shared / "golden/tiny_iu/annotation.json").read_text())["train"]
    (project.folder / "annotation.json").write_text(json.dumps({"train": train, "val": [], "test": []}))
    sizes = ("--gamma", tiny.gamma, "--heads", tiny.heads, "--min-count", tiny.meta["args"]["threshold"])
    imported = ("import-official", "model_best.pth", "data/published", "--annotation", "annotation.json")
    run(*imported, "--dataset", "iu_xray", *sizes, "--classifier", "data/classifier")
    project.configure({"model_folder": "data/published", "decode": {"beam_size": None, "max_length": None}})
    try:
        with Repo(".") as repo:
            planned = {stage.name for stage in repo.stage.collect("evaluate", with_deps=True)}
        assert planned >= {"generate", "features"} and not planned & {"train", "prototypes"}
        project.stages("generate", "evaluate")
    finally:
        project.configure({})
    metrics = project.json("metrics/details/test.json")
    assert set(metrics["predicted"]["intervals"]) >= {"BLEU_4", "micro_F1_14"}
    assert set(metrics["floors"]) >= {"constant", "image_neighbour"}
    study = project.json("data/prepared/annotation.json")["test"][0]
    with open("views.csv", "w") as file:
        views = (f"{study['id']},{shared / 'iu_xray/images' / name}" for name in study["image_path"])
        file.writelines(f"{line}\n" for line in ("study,image", *views))
    found = json.loads(run("generate", "views.csv", "--model", "data/published", "--json"))
    lines = (project.folder / "data/predictions/test.jsonl").read_text().splitlines()
    scored = {record["id"]: record for record in map(json.loads, lines)}[study["id"]]["predicted"]
    assert found["report"] == scored["report"] and found["labels_from"] == "predicted"
    assert found["log_prob"] == pytest.approx(scored["log_prob"], abs=5e-3)
