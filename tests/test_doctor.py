"""The doctor finds what was put into a dataset on purpose, says what it means, and its exit code can be trusted."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from xpronet.app.cli import app
from xpronet.app.duplicates import look, near_duplicates
from xpronet.data.pack import ImagePack
from xpronet.data.studies import Study, write_annotation
from xpronet.labels.table import write_labels
from xpronet.sources.packing import Folder, pack_studies
from xpronet.sources.phantom import source

ROOT = Path(__file__).resolve().parents[1]


def run(folder: Path, *options: str, code: int = 0) -> dict:
    """doctor.json of a folder, whose run must end with `code`."""
    arguments = [folder / "prepared", "--labels", folder / "labels.csv", "--params", folder / "params.yaml"]
    done = CliRunner().invoke(app, ["doctor", *map(str, arguments), "--out", str(folder / "out"), *options])
    assert done.exit_code == code, done.output
    page = json.loads((folder / "out/doctor.json").read_text())
    for finding in page["findings"]:  # the terminal says it all too, perhaps over two lines
        assert "".join(finding["what"].split()) in "".join(done.output.split())
    return page


def said(page: dict, level: str) -> list[str]:
    return [finding["what"] for finding in page["findings"] if finding["level"] == level]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """Drawn radiographs, 24 of them, and some odd ones."""
    folder = tmp_path_factory.mktemp("pictures")
    drawn = source.studies(train=24, val=1, test=1, seed=3)[:24]
    for n, study in enumerate(drawn):
        Image.fromarray(source.draw(study, study.views[0], size=128)).save(folder / f"{n}.png")
    with Image.open(folder / "0.png") as image:
        image.convert("RGB").save(folder / "copy.png")
        image.resize((200, 200)).save(folder / "near.jpg", quality=80)
        image.crop((0, 0, 128, 50)).save(folder / "wide.png")
        image.resize((40, 40)).save(folder / "small.png")
    Image.new("L", (128, 128), 77).save(folder / "blank.png")
    Image.new("L", (128, 128), 77).save(folder / "blank too.png")
    return folder


def dataset(folder: Path, pictures: Path, studies: list[Study]) -> Path:
    """A prepared folder with labels: every study has pneumonia but the second has edema."""
    (folder / "prepared").mkdir()
    paths = folder / "prepared/images.u8", folder / "prepared/images.jsonl"
    pack_studies(studies, Folder(pictures), *paths, resize=64, crop=56)
    write_annotation(folder / "prepared/annotation.json", studies)
    labels = np.zeros((len(studies), 14))
    labels[:, 6], labels[1, 4] = 1, 1
    write_labels(folder / "labels.csv", studies, labels)
    params = yaml.safe_load((ROOT / "presets/phantom.yaml").read_text())
    params["reports"] |= {"min_count": 1, "max_length": 8}
    (folder / "params.yaml").write_text(yaml.safe_dump(params | {"n_prototypes": 4}))
    return folder


def healthy() -> list[Study]:
    """A patient each."""
    splits = ["train"] * 8 + ["val"] * 4 + ["test"] * 4
    return [Study(f"S{n}", split, f"Report {n}.", (f"{n}.png",), subject_id=f"P{n}") for n, split in enumerate(splits)]


def replaced(studies: list[Study], n: int, **values) -> list[Study]:
    return [*studies[:n], dataclasses.replace(studies[n], **values), *studies[n + 1 :]]


def test_a_healthy_dataset(tmp_path, pictures):
    page = run(dataset(tmp_path, pictures, healthy()))
    assert not page["breaks"]
    assert page["splits"]["train"]["studies"] == 8 and page["splits"]["test"]["images"] == 4
    assert page["prevalence"]["train"]["Pneumonia"] == 8
    assert "no patient is in two splits" in said(page, "fine") and page["splits"]["train"]["patients"] == 8
    assert "no two studies have the same picture" in said(page, "fine")
    assert "no two studies have nearly the same picture" in said(page, "fine")
    assert not any("report" in line for line in said(page, "warns"))
    for name in ("lengths", "prevalence", "sizes"):
        with Image.open(tmp_path / f"out/{name}.png") as picture:
            assert picture.width > 400


def test_leaks_between_splits(tmp_path, pictures):
    studies = replaced(healthy(), 12, report="Report 1.", subject_id="P1", image_path=("copy.png",))
    studies = replaced(replaced(studies, 1, subject_id="P1"), 8, image_path=("near.jpg",))
    warns = "\n".join(said(run(dataset(tmp_path, pictures, studies)), "warns"))
    assert "25% of the test reports stand word for word in train" in warns
    assert "1 patient (P1) in more than one split" in warns
    assert "the same picture in different splits: 1 case (S0 = S12)" in warns
    assert "nearly the same picture in different splits: " in warns and "S0 = S8" in warns


def test_nobody_knows_whose_studies_they_are(tmp_path, pictures):
    """Without a patient no study is told to be alone; Open-i's ids name theirs, and what was drawn is its own."""
    unknown = [dataclasses.replace(study, subject_id="") for study in healthy()]
    page = run(dataset(tmp_path, pictures, unknown))
    assert "16 studies (S0, S1, S2, …) without a patient" in said(page, "note")
    assert not any("patient" in line for line in said(page, "fine"))
    assert "patients" not in page["splits"]["train"]
    opened = replaced(replaced(unknown, 0, id="CXR1_IM-0001"), 1, state={"observations": []})
    write_annotation(tmp_path / "prepared/annotation.json", opened)
    (tmp_path / "labels.csv").unlink()
    write_labels(tmp_path / "labels.csv", opened, np.ones((16, 14)))
    page = run(tmp_path)
    assert "14 studies (S2, S3, S4, …) without a patient" in said(page, "note")
    assert "no patient that is known is in two splits" in said(page, "fine")


def test_the_same_picture_twice_within_a_study(tmp_path, pictures):
    """In another file, or another format."""
    studies = replaced(replaced(healthy(), 0, image_path=("0.png", "copy.png")), 3, image_path=("3.png", "3.png"))
    page = run(dataset(tmp_path, pictures, replaced(studies, 9, image_path=("9.png", "0.png"))))
    warns = said(page, "warns")
    assert "the same picture twice within 2 studies (S0, S3)" in warns
    assert "the same picture in different splits: 1 case (S0 = S9)" in warns
    studies = replaced(healthy(), 0, image_path=("0.png", "near.jpg"))
    (tmp_path / "labels.csv").unlink()
    shutil.rmtree(tmp_path / "prepared")
    page = run(dataset(tmp_path, pictures, studies))
    assert "nearly the same picture twice within 1 study (S0)" in said(page, "warns")
    assert "no two studies have nearly the same picture" in said(page, "fine")


def test_odd_images(tmp_path, pictures):
    names = ("wide.png", "small.png", "blank.png", "blank too.png")
    studies = healthy()
    for n, name in enumerate(names, start=1):
        studies = replaced(studies, n, image_path=(name,))
    warns = "\n".join(said(run(dataset(tmp_path, pictures, studies)), "warns"))
    assert "1 image (S1) more than twice as long as wide" in warns
    assert "2 images (S1, S2) smaller than images.resize 64" in warns
    assert "2 images (S3, S4) blank" in warns
    assert "S3 = S4" not in warns  # two blanks are no duplicate


def test_reports_and_labels(tmp_path, pictures):
    studies = replaced(healthy(), 2, report="a b c d e f g h i j k XXXX")
    page = run(dataset(tmp_path, pictures, replaced(studies, 3, report="???")))
    warns = "\n".join(said(page, "warns"))
    assert page["splits"]["train"]["truncated"] == page["splits"]["train"]["marked_reports"] == 1 / 8
    assert page["splits"]["test"]["unknown_words"] == 4 / 12  # "report N .": the number is new
    assert "12% of the train reports are longer than reports.max_length 8" in warns
    assert "train: 1 report (S3) without a word after cleaning" in warns
    assert "fewer train studies than n_prototypes 4: Edema (1)" in warns
    assert "no train study has Enlarged Cardiomediastinum" in warns
    assert "validation has one class only of " in warns
    assert any(line.startswith("observations are those of ") for line in said(page, "note"))


def test_what_prepare_left_out(tmp_path, pictures, monkeypatch):
    (tmp_path / "data").mkdir()
    dataset(tmp_path / "data", pictures, healthy())
    report = tmp_path / "metrics/details/prepare.json"
    report.parent.mkdir(parents=True)
    lines = [f"study B{n}: B{n}.png: no such image" for n in range(5874)]
    report.write_text(json.dumps({"left_out": {"studies with fewer than 2 images": 7}, "broken_images": lines}))
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["doctor", "--params", "data/params.yaml"])
    assert done.exit_code == 0, done.output
    page = json.loads((tmp_path / "data/doctor/doctor.json").read_text())
    assert "prepare left out 5,874 images (B0, B1, B2, …) that cannot be read" in said(page, "warns")
    assert "prepare left out 7: studies with fewer than 2 images" in said(page, "note")


def test_what_would_break_has_exit_code_1(tmp_path, pictures):
    studies = [study for study in healthy() if study.split != "val"]
    folder = dataset(tmp_path, pictures, studies)
    assert said(run(folder, code=1), "breaks") == ["no study in val"]
    write_annotation(folder / "prepared/annotation.json", healthy())
    labels, images = said(run(folder, code=1), "breaks")
    assert "4 problems no labels for study S8" in " ".join(labels.split())
    assert images == "the annotation has 16 images and the pack 12"


def test_unknown_words_another_language_and_no_finding_alone(tmp_path, pictures):
    studies = healthy()
    for n in range(8):
        studies = replaced(studies, n, report=f"Kein Erguss {n}{n} {n}{n}{n} {n + 20}.")
    folder = dataset(tmp_path, pictures, studies)
    write_labels(folder / "labels.csv", studies, np.eye(14)[[13] * 16])
    params = yaml.safe_load((folder / "params.yaml").read_text())
    params["reports"]["min_count"] = 5
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    page = run(folder, code=1)
    breaks = "\n".join(said(page, "breaks"))
    assert "50% of the words in train occur fewer than 5 times" in "\n".join(said(page, "warns"))
    assert "100.0% of the studies have no observation but No Finding" in breaks
    assert "0.0% of the words in train are among English's commonest" in "\n".join(said(page, "warns"))


def test_probabilities_are_no_labels(tmp_path, pictures):
    """Each would count as a study that has the observation."""
    folder = dataset(tmp_path, pictures, healthy())
    write_labels(folder / "labels.csv", healthy(), np.full((16, 14), 0.01))
    assert "the labels hold other values than 0 and 1" in said(run(folder, code=1), "breaks")[0]


def test_of_an_annotation_the_text_alone_is_examined(tmp_path, pictures, monkeypatch):
    """Labels and parameters of another dataset lie around it: they are named or not used."""
    folder = dataset(tmp_path, pictures, healthy())
    (folder / "raw").mkdir()
    other = [dataclasses.replace(study, id=f"other {study.id}") for study in healthy()]
    write_annotation(folder / "raw/annotation.json", other)
    monkeypatch.chdir(folder)
    arguments = ["doctor", "raw/annotation.json", "--out", "o"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    page = json.loads(Path("o/doctor.json").read_text())
    assert page["prevalence"] == {}
    assert said(page, "note") == [
        "reports are cleaned as params.yaml says: reports.style iu_xray, reports.max_length 8",
        "no labels for raw/annotation.json: nothing is said about observations",
        "of raw/annotation.json the text alone is examined, no picture",
    ]
    done = CliRunner().invoke(app, [*arguments, "--labels", "labels.csv"])
    assert done.exit_code == 1
    (wrong,) = said(json.loads(Path("o/doctor.json").read_text()), "breaks")
    assert wrong.startswith("labels.csv: no labels for any of 16 studies")


def test_labels_that_are_not_there_yet(tmp_path, pictures, monkeypatch):
    (dataset(tmp_path, pictures, healthy()) / "labels.csv").unlink()
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["doctor", "prepared"])
    assert done.exit_code == 0, done.output
    page = json.loads(Path("data/doctor/doctor.json").read_text())
    assert "labels.csv is not there yet: nothing is said about observations" in said(page, "note")


@pytest.mark.parametrize("content", ["{}", "[]", '{"left_out": [1]}', '{"left_out": {}, "broken_images": 5}'])
def test_another_file_in_the_place_of_prepare_s(tmp_path, pictures, monkeypatch, content):
    (tmp_path / "data").mkdir()
    dataset(tmp_path / "data", pictures, healthy())
    report = tmp_path / "metrics/details/prepare.json"
    report.parent.mkdir(parents=True)
    report.write_text(content)
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["doctor", "--params", "data/params.yaml"])
    assert str(done.exception).startswith("metrics/details/prepare.json: not what stage prepare writes; `dvc repro -f")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["nowhere"], "nowhere/annotation.json: no such file; make it by `dvc repro prepare`"),
        (["nowhere", "--params", "none.yaml"], "none.yaml: no such file"),
        (["annotation.json", "--labels", "lables.csv"], "--labels lables.csv: no such file"),
        (["nowhere", "--params", "bad.yaml"], "bad.yaml: reports: Field required"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "presets/phantom.yaml", "params.yaml")
    Path("bad.yaml").write_text("n_prototypes: 1\n")
    write_annotation("annotation.json", healthy())
    done = CliRunner().invoke(app, ["doctor", *options])
    assert isinstance(done.exception, ValueError)
    assert message in str(done.exception) and "\n" not in str(done.exception)


def test_near_duplicates_are_all_pairs_within_the_distance():
    """Against comparing everything with everything."""
    random = np.random.default_rng(0)
    hashes = random.integers(0, 256, (60, 32), dtype=np.uint8)
    for row in range(0, 40, 2):  # pairs that differ in 0 to 19 bits
        bits = np.unpackbits(hashes[row])
        bits[random.choice(256, row // 2, replace=False)] ^= 1
        hashes[row + 1] = np.packbits(bits)
    distance = np.unpackbits(hashes[:, None] ^ hashes[None], axis=2).sum(axis=2)
    expected = {(a, b) for a, b in np.argwhere(distance <= 7).tolist() if a < b}
    assert set(near_duplicates(hashes)) == expected
    assert len(expected) == 8


def test_real_radiographs_are_not_taken_for_each_other(shared, tmp_path):
    """36 views of 23 patients: the hash tells apart what looks alike."""
    folder = shared / "iu_xray/raw/NLMCXR_png"
    paths = tuple(sorted(path.name for path in folder.glob("*.png")))
    pack_studies(
        [Study("S", "test", "x", paths)], Folder(folder), tmp_path / "p.u8", tmp_path / "p.jsonl", resize=256, crop=224
    )
    hashes, deviations = look(ImagePack(tmp_path / "p.u8", tmp_path / "p.jsonl"))
    assert len(paths) == 36 and deviations.min() > 20
    assert list(near_duplicates(hashes)) == []
