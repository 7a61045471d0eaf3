"""The whole pipeline on a miniature phantom, as a stranger runs it: from nothing to a metrics table."""

import contextlib
import copy
import json
import shutil
import sys
from contextlib import nullcontext

import pytest
import yaml
from dvc.repo import Repo
from pycocoevalcap.rouge.rouge import Rouge
from typer.testing import CliRunner

from tests.conftest import ROOT
from xpronet.app.cli import app
from xpronet.data.reports import clean_report
from xpronet.model import checkpoint

MINIATURE = {
    "gamma": 3,
    "n_prototypes": 4,
    "phantom": {"train": 24, "val": 6, "test": 6, "size": 96},
    "images": {"resize": 72, "crop": 64},
    "reports": {"min_count": 2, "max_length": 40},
    "classifier": {"epochs": 1, "batch_size": 8},
    "model": {"d_model": 32, "d_ff": 32, "layers": 1},
    "train": {"epochs": 2, "batch_size": 8, "val_beam_size": 2, "val_max_length": 20},
    "decode": {"beam_size": 2, "max_length": 20},
    "runtime": {"device": "cpu", "workers": 0, "batch_size": 4},
}
SCORES = {"BLEU_1", "BLEU_2", "BLEU_3", "BLEU_4", "METEOR", "ROUGE_L", "CIDEr"}


@pytest.fixture(scope="module")
def project(new_project):
    project = new_project("phantom", MINIATURE)
    project.run("dvc", "repro")
    return project


FLOORS = ("constant", "label_constant", "label_neighbour", "image_neighbour")


def test_every_study_has_scores_under_both_kinds_of_labels_and_a_floor(project):
    for split in ("val", "test"):
        metrics = project.json(f"metrics/details/{split}.json")
        for scores in (
            *(metrics[source] for source in ("predicted", "reference", "none")),
            *(metrics["floors"][floor] for floor in FLOORS),
        ):
            assert set(scores) >= SCORES
            assert all(0 <= scores[name] <= (10 if name == "CIDEr" else 1) for name in SCORES)
        assert metrics["studies"] == 6
        assert all(1 < metrics[source]["cross_entropy"] < 9 for source in ("predicted", "reference", "none"))  # nats
        assert metrics["ceiling"]["against"] == "the drawn state" and metrics["ceiling"]["micro_F1_14"] > 0.5
        assert set(metrics["classifier"]) >= {"macro_AUROC", "macro_AUPRC", "macro_F1", "macro_ECE"}
        lines = (project.folder / f"data/predictions/{split}.jsonl").read_text().splitlines()
        ids = {study["id"] for study in project.json("data/prepared/annotation.json")[split]}
        assert {json.loads(line)["id"] for line in lines} == ids
    assert project.json("metrics/labels.json")["drawn_macro_F1_14"] > 0.5
    history = (project.folder / "metrics/history.tsv").read_text().splitlines()
    assert len(history) == 1 + MINIATURE["train"]["epochs"]


def test_the_model_folder_is_whole(project):
    model, card = checkpoint.load(project.folder / "data/model")
    assert model.config.gamma == MINIATURE["gamma"]
    assert card.max_length == MINIATURE["train"]["val_max_length"]


def test_nothing_runs_twice(project):
    assert "Data and pipelines are up to date" in project.run("dvc", "repro")
    shutil.rmtree(project.folder / "xpronet/sources/phantom/__pycache__", ignore_errors=True)
    assert project.changed() == set()


def test_a_model_is_exported_with_its_own_scores_only(project, tmp_path, monkeypatch):
    """A card with those of another model would be believed."""
    monkeypatch.chdir(project.folder)
    assert CliRunner().invoke(app, ["export", str(tmp_path / "model")]).exit_code == 0
    score = project.json("metrics/details/test.json")["predicted"]["BLEU_4"]
    assert f"| BLEU_4 | {score:.3f} |" in (tmp_path / "model/README.md").read_text()
    project.configure({"gamma": 4})
    try:
        line = str(CliRunner().invoke(app, ["export", str(tmp_path / "other")]).exception)
    finally:
        project.configure({})
    assert "for train changed since: `dvc repro evaluate` first" in line and not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("changes", "stages"),
    [
        ({"gamma": 4}, {"train"}),
        ({"theta": 1.75}, {"train"}),
        ({"imlcs": False}, {"train"}),
        ({"cmpnet": False}, {"train"}),
        ({"prototype_init": "random"}, {"prototypes"}),
        ({"seed": 2}, {"classify", "prototypes", "train"}),
        ({"phantom": {"seed": 2}}, {"prepare"}),
        ({"train": {"val_beam_size": 1}}, {"train"}),
        ({"decode": {"beam_size": 1}}, {"generate"}),
        ({"features": {"flips": "separate"}}, {"prototypes"}),
        ({"runtime": {"workers": 1, "batch_size": 7}}, set()),
    ],
)
def test_a_parameter_reruns_what_reads_it_and_what_follows(project, changes, stages):
    project.configure(changes)
    try:
        assert project.changed() == stages
    finally:
        project.configure({})


def test_scores_are_against_the_whole_reports(project):
    """Row 23: the published code cuts references at max_length, here 20 tokens, and blanks rare words."""
    studies = project.json("data/prepared/annotation.json")["test"]
    lines = (project.folder / "data/predictions/test.jsonl").read_text().splitlines()
    generated = {record["id"]: record["predicted"]["report"] for record in map(json.loads, lines)}
    references = {study["id"]: [clean_report(study["report"], "iu_xray")] for study in studies}
    assert max(len(text.split()) for (text,) in references.values()) > MINIATURE["decode"]["max_length"]
    rouge, _ = Rouge().compute_score(references, {id: [generated[id]] for id in references})
    assert project.json("metrics/test.json")["ROUGE_L"] == pytest.approx(rouge)


def test_nothing_of_a_test_report_reaches_the_model(project):
    """Row 20: with every test report another, and every validation and test label wrong, all upstream is the same."""
    paths = [
        *("data/classifier/weights.safetensors", "data/classifier/classifier.json", "data/predicted_labels.csv"),
        *("data/features/textual.npy", "data/prototypes.safetensors", "data/model/weights.safetensors"),
        *("data/model/model.json", "data/templates.json", "metrics/history.tsv", "metrics/train.json"),
    ]
    inputs = (
        *("data/prepared/annotation.json", "data/labels.csv", "data/label_probabilities.csv"),
        *("metrics/labels.json", "metrics/details/labels.json", "metrics/details/templates.json"),
    )
    kept = {name: (project.folder / name).read_bytes() for name in inputs}

    def own_labels() -> list[str]:
        return [line for line in (project.folder / "data/labels.csv").read_text().splitlines() if ",test," not in line]

    before, labels = [project.sha256(path) for path in paths], own_labels()
    annotation = project.json("data/prepared/annotation.json")
    for number, study in enumerate(annotation["test"]):
        study |= {"report": f"Poison {number}. Large pneumothorax.", "impression": "Poison.", "state": None}
    (project.folder / "data/prepared/annotation.json").write_text(json.dumps(annotation))
    try:
        project.run(sys.executable, "-m", "stages.label")
        assert own_labels() == labels
        lines = [line.split(",", 2) for line in (project.folder / "data/labels.csv").read_text().splitlines()]
        wrong = str.maketrans("01", "10")
        poisoned = [[id, split, row.translate(wrong) if split == "test" else row] for id, split, row in lines]
        (project.folder / "data/labels.csv").write_text("\n".join(",".join(line) for line in poisoned) + "\n")
        project.stages("templates", "classify", "features", "prototypes", "train")
        assert [project.sha256(path) for path in paths] == before
    finally:
        for name, content in kept.items():
            (project.folder / name).write_bytes(content)


def test_the_same_parameters_give_the_same_bytes(project):
    """Prototypes and model too: the test above has made them anew."""
    before = project.sha256("data/predictions/test.jsonl")
    project.run(sys.executable, "-m", "stages.generate")
    assert project.sha256("data/predictions/test.jsonl") == before


def test_a_wrong_parameter_stops_the_run_before_any_work(project):
    project.configure({"gamma": 5})
    try:
        output = project.run("dvc", "repro", code=255)
        assert "gamma 5 must not exceed n_prototypes 4" in output
        assert "Traceback" not in output
        assert "Running stage 'train'" not in output
    finally:
        project.configure({})


def test_a_dataset_that_is_not_there_is_a_clear_line(project):
    project.configure({"dataset": "iu_xray", "source": "data/raw/none.json", "images": {"folder": "data/raw/none"}})
    try:
        output = project.run("dvc", "repro", code=255)
        assert "source = 'data/raw/none.json': no such file or folder" in output
        assert (project.folder / "data/prepared/annotation.json").is_file()  # nothing was deleted
    finally:
        project.configure({})


def test_a_revision_is_compared_with_the_folder(project, jar, monkeypatch):
    """An experiment is a git revision by name: `xpronet compare` takes its reports out of DVC's cache."""
    monkeypatch.chdir(project.folder)
    monkeypatch.setattr("xpronet.app.sides.running_meteor", lambda: nullcontext(jar))

    def line(*sides: str) -> str:
        done = CliRunner().invoke(app, ["compare", *sides])
        assert (done.exit_code == 0) == (done.exception is None), done.output
        return str(done.exception or "")

    project.run("git", "add", "--all")
    project.run("git", "-c", "user.name=n", "-c", "user.email=e", "commit", "--quiet", "-m", "Run the pipeline")
    project.run("git", "tag", "full-1")
    assert line("workspace", "full-1") == ""
    (same,) = project.json("data/comparison.json")["comparisons"]
    for metric in SCORES:
        row, score = same["metrics"][metric], project.json("metrics/test.json")[metric]
        assert row["a"] == row["b"] == pytest.approx(score) and row["p"] == 1
    raw = (project.folder / "data/prepared/annotation.json").read_bytes()
    annotation = json.loads(raw)
    annotation["test"][0]["report"] = "Another report under the same id."
    (project.folder / "data/prepared/annotation.json").write_text(json.dumps(annotation))
    other = line("workspace", "full-1")
    (project.folder / "data/prepared/annotation.json").write_bytes(raw)
    assert "workspace and full-1 share 5 of 6 and 6 studies of test" in other and "\n" not in other
    missing = line("workspace", "no-such-experiment")
    assert "no-such-experiment: no file of reports (.jsonl, .csv)" in missing and "\n" not in missing


def test_a_run_reaches_a_clone_through_a_remote(project, tmp_path):
    """A colleague has every result of a run without computing it, and his DVC finds nothing to do."""
    outs = [
        out for stage in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].values() for out in stage["outs"]
    ]
    paths = [path for out in outs for path in ([out] if (project.folder / out).is_file() else files(project, out))]
    project.run("dvc", "remote", "add", "--default", "store", str(tmp_path / "store"))
    project.run("dvc", "push", "--quiet")
    project.run("git", "add", "--all")
    project.run("git", "-c", "user.name=n", "-c", "user.email=e", "commit", "--quiet", "-m", "Name the remote")
    project.run("git", "clone", "--quiet", ".", str(tmp_path / "clone"))
    clone = copy.copy(project)
    clone.folder = tmp_path / "clone"
    assert not any((clone.folder / path).exists() for path in paths)
    clone.run("dvc", "pull", "--quiet")
    assert [clone.sha256(path) for path in paths] == [project.sha256(path) for path in paths] and len(paths) > 20
    with contextlib.chdir(clone.folder), Repo() as repo:
        assert repo.status() == {}


def files(project, folder: str) -> list[str]:
    return [str(path.relative_to(project.folder)) for path in (project.folder / folder).rglob("*") if path.is_file()]
