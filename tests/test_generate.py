"""`xpronet generate`: a trained model writes reports for new images, the same as the pipeline would have written."""

import copy
import csv
import json
import os
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from typer.testing import CliRunner

from tests.test_dicom import save as dicom
from tests.test_end_to_end import MINIATURE
from xpronet.app import generate, given, reporter
from xpronet.app.cli import app
from xpronet.app.given import Given
from xpronet.app.pages import NOTICE
from xpronet.app.radiograph import read_radiograph
from xpronet.app.reporter import Reporter, Views
from xpronet.app.written import read_reports
from xpronet.data.reports import Vocabulary, clean_report
from xpronet.data.studies import of_split, read_annotation
from xpronet.labels.conditions import CONDITIONS
from xpronet.model import checkpoint
from xpronet.model.xpronet import ModelConfig, XProNet
from xpronet.sources import packing

SIZES = {"backbone": "resnet18", "d_model": 32, "d_ff": 32, "layers": 1, "n_prototypes": 4, "d_prototype": 24}


@pytest.fixture(scope="module")
def project(new_project):
    """A miniature pipeline with a model of random weights, its predictions, and the phantom's images as files."""
    project = new_project("phantom", {**MINIATURE, "model_folder": "model"})
    project.stages("prepare", "label", "classify")
    studies = read_annotation(project.folder / "data/prepared/annotation.json")
    texts = [clean_report(study.report, "iu_xray") for study in of_split(studies, "train")]
    vocabulary = Vocabulary.build(texts, 2)
    torch.manual_seed(4)
    model = XProNet(ModelConfig(vocab_size=len(vocabulary), gamma=3, **SIZES))
    with torch.no_grad():
        model.prototypes.mul_(40)  # so that labels matter
        model.word_embedding.weight.mul_(3)
    card = checkpoint.ModelCard(vocabulary, CONDITIONS, "iu_xray", crop=64, beam_size=2, max_length=20)
    checkpoint.save(project.folder / "model", model, card, classifier=project.folder / "data/classifier")
    project.stages("generate")
    _, phantom = packing.phantom(**MINIATURE["phantom"], seed=1)
    for study in of_split(studies, "test"):
        for view, name in enumerate(study.image_path):
            path = project.folder / "images" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(phantom.read(study, view).pixels).save(path)
    return project


@pytest.fixture
def here(project, monkeypatch):
    monkeypatch.chdir(project.folder)
    return project


@pytest.fixture(scope="module")
def model(project):
    return Reporter.load(project.folder / "model", device="cpu")


def run(*words: str, code: int = 0):
    done = CliRunner().invoke(app, ["generate", *words])
    assert done.exit_code == code, done.output
    return done


def lines(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def predictions() -> dict[str, dict]:
    return {record["id"]: record for record in lines(Path("data/predictions/test.jsonl").read_text())}


def views_of(study: Path) -> list[Path]:
    return sorted(study.iterdir())


@pytest.mark.parametrize("labels", ["predicted", "none"])
def test_files_get_the_reports_that_the_pipeline_wrote(here, labels):
    """Decoding, shrinking, views, the classifier with its thresholds, and the search: all as the stages have it."""
    expected = predictions()
    found = lines(run("images", "--model", "model", "--labels", labels, "--json").stdout)
    assert {record["id"]: record["report"] for record in found} == {
        id: record[labels]["report"] for id, record in expected.items()
    }
    assert len({record["report"] for record in found}) > 1
    for record in found:
        assert record["log_prob"] == pytest.approx(expected[record["id"]][labels]["log_prob"], abs=2e-3)
        assert record["labels_from"] == labels
    with open("data/predicted_labels.csv", newline="") as file:
        table = {row["id"]: [name for name in CONDITIONS if row[name] == "1"] for row in csv.DictReader(file)}
    everything = list(CONDITIONS)
    assert all(r["labels"] == (table[r["id"]] if labels == "predicted" else everything) for r in found)
    assert any(len(record["images"]) == 2 for record in found)


def test_the_probabilities_are_those_that_the_labels_come_from(here):
    with open("data/predicted_probabilities.csv", newline="") as file:
        table = {row["id"]: row for row in csv.DictReader(file)}
    for record in lines(run("images", "--model", "model", "--json").stdout):
        wanted = {name: float(table[record["id"]][name]) for name in CONDITIONS}
        assert record["probabilities"] == pytest.approx(wanted, abs=2e-4)


def test_json_says_once_what_this_is_and_other_commands_read_it(here):
    run("images", "--model", "model", "--out", "out/reports.jsonl")
    found = lines(Path("out/reports.jsonl").read_text())
    assert [record.get("notice") for record in found] == [NOTICE, *[None] * (len(found) - 1)]
    assert read_reports("out/reports.jsonl") == {record["id"]: record["report"] for record in found}


def test_text_says_which_labels_and_where_they_came_from(here, tmp_path):
    study = sorted(Path("images").iterdir())[0]
    said = run(str(study), "--model", "model").stdout
    assert said.count(NOTICE) == 1 and f"\n{study.name}\n" in said
    assert "(predicted from the images by model/classifier)" in said
    said = run(str(study), "--model", "model", "--labels", "edema, Fracture", "--labels", "pleural effusion").stdout
    assert "labels: Edema, Pleural Effusion, Fracture (as given)" in said
    shutil.copytree("model", tmp_path / "bare", ignore=shutil.ignore_patterns("classifier"))
    said = run(str(study), "--model", str(tmp_path / "bare")).stdout
    assert f"labels: none: every prototype may be asked ({tmp_path}/bare has no classifier)" in said
    line = str(run(str(study), "--model", str(tmp_path / "bare"), "--labels", "predicted", code=1).exception)
    assert line.startswith("the model folder has no classifier") and "\n" not in line


def test_text_is_readable():
    assert generate.readable("the heart is large . no effusion .") == "The heart is large. No effusion."
    assert generate.readable("") == ""


def test_the_library_takes_files_and_arrays_in_one_call(here, model):
    studies = sorted(Path("images").iterdir())
    files = [views_of(study) for study in studies]
    found = model.reports(files)
    arrays = [[np.asarray(Image.open(file)) for file in each] for each in files]
    assert model.reports(arrays) == found
    expected = predictions()
    assert [report.text for report in found] == [expected[study.name]["predicted"]["report"] for study in studies]
    single = model.reports([files[0][0], arrays[0][0]], labels=["No Finding"], beam_size=1, max_length=3)
    (alone,) = model.reports([arrays[0][0]], labels="no finding", beam_size=1, max_length=3)
    assert (alone.text, alone.labels) == (single[0].text, single[0].labels)
    assert alone.log_prob == pytest.approx(single[0].log_prob, abs=1e-4)  # batches of other sizes round otherwise
    assert single[0] == single[1] and single[0].labels == ("No Finding",) and len(single[0].text.split()) <= 3
    with pytest.raises(ValueError, match=r"^a.png: one image where a list .* expected: reports\(\['a.png'\]\)$"):
        model.reports("a.png")


def test_batches_change_no_report(here, model, monkeypatch):
    studies = [views_of(study) for study in sorted(Path("images").iterdir())]
    whole = model.reports(studies)
    monkeypatch.setattr(reporter, "BATCH", 2)
    assert [report.text for report in model.reports(studies)] == [report.text for report in whole]


def test_gamma_is_of_one_call(here, model):
    """Else a page's what-if would change every later report."""
    study = model.read(views_of(sorted(Path("images").iterdir())[0]))
    (before,), (other,), (after,) = (model.write([study], gamma=gamma) for gamma in (None, 1, None))
    assert before == after and other.log_prob != before.log_prob
    with pytest.raises(ValueError, match="gamma 57 must lie between 1 and 56"):
        model.write([study], gamma=57)


class Counting:
    """A reporter that knows how many studies wait to be written at most."""

    def __init__(self, broken: int):
        self.waiting = self.most = 0
        self.broken = broken

    def read(self, images):
        if images[0] == Path(f"{self.broken}.png"):
            raise ValueError(f"{images[0]}: broken")
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        return Views(np.zeros((1, 2, 2), np.uint8))

    def write(self, studies):
        self.waiting -= len(studies)
        return [SimpleNamespace()] * len(studies)


def test_a_thousand_images_are_a_batch_in_memory_and_outlive_a_broken_one():
    counting, problems = Counting(broken=500), []
    studies = [Given(str(n), (Path(f"{n}.png"),)) for n in range(1000)]
    written = [study.id for study, _ in generate.stream(counting, studies, problems)]
    assert written == [str(n) for n in range(1000) if n != 500]
    assert counting.most == reporter.BATCH and counting.waiting == 0
    assert problems == ["study 500: 500.png: broken"]


def test_broken_images_are_listed_at_the_end_and_in_the_exit_code(here, tmp_path):
    for study in sorted(Path("images").iterdir())[:3]:
        shutil.copytree(study, tmp_path / "some" / study.name)
    (tmp_path / "some/A").mkdir()
    (tmp_path / "some/A/cut.png").write_bytes(b"\x89PNG\r\n\x1a\ncut")
    done = run(str(tmp_path / "some"), "--model", "model", "--json", "--out", str(tmp_path / "r.jsonl"), code=1)
    assert len(lines((tmp_path / "r.jsonl").read_text())) == 3
    said = done.stderr.splitlines()
    assert said[-2:-1] == ["1 of 4 studies have no report:"] and "/some/A/cut.png: not an image" in said[-1]
    line = str(run(str(tmp_path / "some/A"), "--model", "model", "--out", str(tmp_path / "no"), code=1).exception)
    assert "cut.png: not an image" in line and "\n" not in line
    assert not (tmp_path / "no").exists()


def picture(folder: Path, name: str, size: tuple[int, int] = (100, 80), mode: str = "L") -> Path:
    """Something with the greys of a radiograph."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 200, (size[1], size[0]), np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)
    return path


def test_files_folders_and_tables_are_studies(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a/p2/l.png", "a/p2/f.jpg", "a/p1/x.PNG", "a/p1/deep/y.png", "a/.hidden/z.png", "a/p1/.z.png"):
        picture(tmp_path, name)
    (tmp_path / "a/p1/notes.txt").write_text("no image")
    (tmp_path / "a/p1/IM0001").write_bytes(bytes(128) + b"DICM")  # as scanners name them
    (tmp_path / "a/table.csv").write_text("study,image,age\ns 1,p2/f.jpg,4\ns2,p1/x.PNG,5\ns 1,p2/l.png,4\n")
    found = given.studies([Path("a/p2/f.jpg"), Path("a"), Path("a/p1/deep"), Path("a/table.csv")])
    assert {study.id: [str(image) for image in study.images] for study in found} == {
        "a/p2/f.jpg": ["a/p2/f.jpg"],
        "p1": ["a/p1/IM0001", "a/p1/x.PNG"],
        "p1/deep": ["a/p1/deep/y.png"],
        "p2": ["a/p2/f.jpg", "a/p2/l.png"],
        "deep": ["a/p1/deep/y.png"],
        "s 1": ["a/p2/f.jpg", "a/p2/l.png"],
        "s2": ["a/p1/x.PNG"],
    }


def test_a_name_that_is_no_text_can_be_written(tmp_path):
    """As other systems' archives bring them; JSON is UTF-8."""
    (tmp_path / os.fsdecode(b"caf\xe9.png")).touch()
    (study,) = given.studies([tmp_path / os.fsdecode(b"caf\xe9.png")])
    assert study.id.endswith("caf\ufffd.png") and study.id.encode()


def test_more_images_than_a_study_has_views_are_studies(tmp_path, caplog):
    for n in range(given.MOST_VIEWS + 1):
        (tmp_path / f"{n}.png").touch()
    found = given.studies([tmp_path])
    assert [study.id for study in found] == [f"{n}.png" for n in range(given.MOST_VIEWS + 1)]
    assert "more than the views of a study: each is a study" in caplog.text
    (tmp_path / "0.png").unlink()
    assert len(given.studies([tmp_path])) == 1


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["x.png"], "x.png: no such file or folder"),
        (["empty"], "empty: no image in this folder: PNG, JPEG or DICOM expected"),
        (["names.csv"], "names.csv: no column image"),
        (["blank.csv"], "blank.csv: line 3: no image"),
        (["head.csv"], "head.csv: no study in this table"),
        (["one/p", "two/p"], "two studies are called p: name them in a table"),
        (["lost.csv"], "study s: gone.png: no such image"),
        (["fine.png", "--model", "nowhere"], "nowhere: no such folder: name a model folder"),
        (["fine.png", "--model", "one"], "one: no model.json in it: name a model folder"),
        (["fine.png", "--labels", "Edma"], "labels: no observation 'Edma': there are Enlarged Cardiomediastinum, "),
        (["fine.png", "--labels", ""], "labels: no observation ''"),
        (["fine.png", "--labels", "none,Edema"], "labels: no observation 'none'"),
        (["fine.png", "--gamma", "57"], "gamma 57 must lie between 1 and 56"),
        (["fine.png", "--out", "one"], "one: a folder: name the file in it"),
        (["text.png"], "text.png: not an image that Pillow can read"),
        (["empty.dcm"], "empty.dcm: no DICOM image: it holds no pixels"),
    ],
)
def test_a_mistake_is_one_line(project, tmp_path, monkeypatch, words, line):
    monkeypatch.chdir(tmp_path)
    picture(tmp_path, "fine.png"), picture(tmp_path, "one/p/a.png"), picture(tmp_path, "two/p/b.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "names.csv").write_text("study,file\na,b\n")
    (tmp_path / "blank.csv").write_text("study,image\na,b\na,\n")
    (tmp_path / "head.csv").write_text("study,image\n")
    (tmp_path / "lost.csv").write_text("study,image\ns,gone.png\n")
    (tmp_path / "text.png").write_text("a text")
    (tmp_path / "empty.dcm").write_bytes(bytes(128) + b"DICM")
    words = words if "--model" in words else [*words, "--model", str(project.folder / "model")]
    found = str(run(*words, code=1).exception)
    assert found.startswith(line) and "\n" not in found


def page(folder: Path) -> Path:
    image = Image.new("L", (200, 260), 255)
    for row in range(20, 240, 12):
        ImageDraw.Draw(image).text((15, row), "the lungs are clear and so is this text")
    grain = np.random.default_rng(0).integers(0, 9, (260, 200), np.uint8)
    Image.fromarray(np.asarray(image) - grain).save(folder / "page.png")
    return folder / "page.png"


def coloured(folder: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 50, 3), np.uint8)
    Image.fromarray(pixels).resize((200, 240)).save(folder / "photo.jpg")
    return folder / "photo.jpg"


def mask(folder: Path) -> Path:
    pixels = np.zeros((100, 100), np.uint8)
    pixels[20:80, 20:45] = pixels[20:80, 55:80] = 255
    Image.fromarray(pixels).save(folder / "mask.png")
    return folder / "mask.png"


def flat(folder: Path) -> Path:
    Image.new("L", (90, 90), 130).save(folder / "flat.png")
    return folder / "flat.png"


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (page, "of it is white: a page"),
        (coloured, "of it is coloured"),
        (mask, "2 grey values: a drawing, a mask"),
        (flat, "nearly all of it is one grey"),
        (lambda folder: picture(folder, "slit.png", (700, 30)), "no radiograph is so narrow"),
    ],
)
def test_what_is_no_radiograph_is_refused_with_the_reason(tmp_path, make, reason):
    path = make(tmp_path)
    with pytest.raises(ValueError, match=reason) as error:
        read_radiograph(path, size=64)
    assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)


def test_what_is_odd_is_flagged(tmp_path):
    """It may be one: a person decides."""
    wide, small = picture(tmp_path, "wide.png", (300, 120)), picture(tmp_path, "small.png", (60, 62))
    assert "perhaps no chest, or two views in one file" in read_radiograph(wide, size=64)[1][0]
    assert "fewer than the 64 that the model sees" in read_radiograph(small, size=64)[1][0]
    assert read_radiograph(picture(tmp_path, "rgb.jpg", mode="RGB"), size=64)[1] == ()


def test_dicom_is_read_like_pictures(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 4096, (80, 90))
    found, doubts = read_radiograph(dicom(tmp_path / "a", pixels), size=64)
    assert found.shape == (80, 90) and doubts == ()
    with pytest.raises(ValueError, match="modality MR is no projection radiograph"):
        read_radiograph(dicom(tmp_path / "b", pixels, Modality="MR"), size=64)


def test_real_radiographs_are_neither_refused_nor_flagged(shared):
    files = list((shared / "iu_xray/images").rglob("*.png"))
    assert len(files) > 30
    assert not any(read_radiograph(file, size=64)[1] for file in files)


def test_an_array_of_another_kind_is_refused(model):
    for array in (np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8)), np.zeros((0, 8), np.uint8)):
        with pytest.raises(ValueError, match=r"expected grey values \(H, W\) in uint8"):
            model.reports([array])
    with pytest.raises(ValueError, match="a study without images"):
        model.reports([[]])


@pytest.mark.parametrize(("option", "name"), [("--out", "fine.png"), ("--explain", "fine.png"), ("--out", "s.csv")])
def test_nothing_that_is_read_is_overwritten(project, tmp_path, monkeypatch, option, name):
    """A slip of the completion key would cost the radiograph."""
    monkeypatch.chdir(tmp_path)
    picture(tmp_path, "fine.png")
    Path("s.csv").write_text("study,image\na,fine.png\n")
    before = Path(name).read_bytes()
    done = run("s.csv", "--model", str(project.folder / "model"), option, f"../{tmp_path.name}/{name}", code=1)
    assert str(done.exception).endswith(f"{name}: it is read here, and would be overwritten: name another file")
    assert Path(name).read_bytes() == before


@pytest.mark.parametrize("suffix", [".csv", ".json"])
def test_text_gets_no_name_of_another_form(project, tmp_path, suffix):
    done = run(str(picture(tmp_path, "a.png")), "--out", str(tmp_path / f"out{suffix}"), code=1)
    assert "as text or as JSON lines: name a .txt or .jsonl file" in str(done.exception)


def test_a_report_without_its_end_is_said_to_be_cut(here, model):
    """The full stop that reading adds would hide it."""
    model, files = copy.deepcopy(model), [views_of(sorted(Path("images").iterdir())[0])]
    for end, cut in ((-100, True), (100, False)):
        with torch.no_grad():
            model.model.head.bias[0] = end  # never, and at once
        (report,) = model.reports(files, max_length=5)
        assert report.doubts == ("the report is cut at its greatest length",) * cut


def test_broken_weights_are_one_line(here, tmp_path):
    reporter = Reporter.load("model", device="cpu")
    study = reporter.read(views_of(sorted(Path("images").iterdir())[0]))
    with torch.no_grad():
        reporter.model.head.bias.fill_(torch.nan)
    with pytest.raises(ValueError, match="the model's log-probabilities are no numbers"):
        reporter.write([study])
    with torch.no_grad():
        reporter.classifier.network.fc.bias.fill_(torch.nan)
    with pytest.raises(ValueError, match="the classifier's probabilities are no numbers"):
        reporter.write([study])


def test_a_model_without_prototypes_asks_for_no_labels(project, tmp_path):
    """What it cannot use is neither listed as if it had been used, nor taken without a word."""
    model = XProNet(ModelConfig(vocab_size=3, cmpnet=False, **SIZES))
    card = checkpoint.ModelCard(Vocabulary(["<unk>", "clear", "lungs"]), CONDITIONS, "iu_xray", 64, 2, 5)
    checkpoint.save(tmp_path / "m", model, card, classifier=project.folder / "data/classifier")
    words = [str(picture(tmp_path, "a.png")), "--model", str(tmp_path / "m")]
    (record,) = lines(run(*words, "--json", "--explain", str(tmp_path / "why.json")).stdout)
    (study,) = json.loads((tmp_path / "why.json").read_text())["studies"]
    for written in (record, study):
        assert (written["labels_from"], written["labels"], written["probabilities"]) == ("none", [], None)
    assert lines(run(*words, "--json", "--labels", "none").stdout) == [record]
    for name, value in {"gamma": "3", "labels": "Edema"}.items():
        line = f"{name}: this model, of system xpronet, has no prototypes: leave it out"
        assert str(run(*words, f"--{name}", value, code=1).exception) == line


@pytest.mark.parametrize("cut", [[], ["--max-length", "3"], ["--gamma", "1"]], ids=str)
def test_explanations_are_of_the_reports_that_were_written(here, tmp_path, cut):
    """Whatever the search was told: the summed log-probability is the search's, and with γ 1 one prototype answers."""
    path = tmp_path / "why.json"
    written = lines(run("images", "--model", "model", "--json", "--explain", str(path), *cut).stdout)
    content = json.loads(path.read_text())
    assert content["notice"] == NOTICE
    assert [study["id"] for study in content["studies"]] == [record["id"] for record in written]
    for study, record in zip(content["studies"], written, strict=True):
        same = ("report", "labels", "labels_from", "probabilities", "images")
        assert {key: study[key] for key in same} == {key: record[key] for key in same}
        assert study["log_prob"] == pytest.approx(record["log_prob"], abs=2e-3)
        assert len(study["views"]) == len(study["images"])
        assert study["views"][0]["size"] == [96, 96]
        assert study["gamma"] == (1 if "--gamma" in cut else 3)
        assert all(np.sum(word["attention"]) == pytest.approx(1, abs=1e-3) for word in study["words"])
        if cut == ["--max-length", "3"]:
            assert len(study["words"]) == 3


def test_one_study_is_explained_in_a_picture(here, tmp_path):
    study = sorted(Path("images").iterdir())[0]
    done = run(str(study), "--model", "model", "--explain", str(tmp_path / "why.svg"))
    assert f"{tmp_path}/why.svg: explanations of 1 study" in done.output
    assert (tmp_path / "why.svg").read_text().startswith("<?xml")


@pytest.mark.parametrize(
    "name, message",
    [
        ("why.pdf", "why.pdf: name a .json, .png or .svg file"),
        ("why.png", r"why.png: a picture shows one study, and \d+ are named: take one, or a .json"),
    ],
)
def test_explanations_that_a_file_cannot_hold(here, tmp_path, name, message):
    done = run("images", "--model", "model", "--explain", str(tmp_path / name), code=1)
    assert re.search(message, str(done.exception))
    assert not any(tmp_path.iterdir())
