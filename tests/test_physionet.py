"""MIMIC-CXR from PhysioNet's layout: every image is a study or has a reason why not. All text here is invented."""

import csv
import gzip
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from xpronet.data.studies import Study, read_annotation, write_annotation
from xpronet.labels.conditions import ALPHABETICAL, BLANK, CONDITIONS, NEGATIVE, POSITIVE, UNCERTAIN
from xpronet.labels.published import read_chexpert_table
from xpronet.sources.physionet import read_studies

TITLE = "                                 FINAL REPORT\n "
FINDINGS = f"{TITLE}FINDINGS: \n \n The lungs\n are clear.\n \n IMPRESSION: \n \n Normal.\n"
ONLY_IMPRESSION = f"{TITLE}IMPRESSION: \n \n Normal.\n"
NEITHER = f"{TITLE}\n \n The lungs are clear.\n"


def dicom_id(n: int) -> str:
    return "-".join([f"{n:08x}"] * 5)


class Tree:
    """A folder as PhysioNet offers it, of invented studies."""

    def __init__(self, folder: Path):
        self.folder, self.files, self.rows, self.labels = folder, folder / "files", [], {}

    def add(self, subject: int, study: int, images: list[str], split="train", report: str | None = FINDINGS) -> None:
        """`images`: a view position each."""
        subject_id, study_id = f"{10_000_000 + subject}", f"{50_000_000 + study}"
        folder = self.files / f"p{subject_id[:2]}/p{subject_id}/s{study_id}"
        folder.mkdir(parents=True, exist_ok=True)
        if report is not None:
            folder.with_suffix(".txt").write_text(report)
        for position in images:
            id = dicom_id(len(self.rows))
            Image.fromarray(np.full((80, 70), len(self.rows) * 10, np.uint8)).save(folder / f"{id}.jpg")
            self.rows.append(
                {"dicom_id": id, "study_id": study_id, "subject_id": subject_id, "split": split, "position": position}
            )
        self.labels[study_id] = {"subject_id": subject_id, "Edema": "1.0", "Pneumonia": "-1.0", "Fracture": "0.0"}

    def write(self) -> Path:
        split = self.table("split", ["dicom_id", "study_id", "subject_id", "split"], self.rows)
        metadata = [{**row, "ViewPosition": row["position"]} for row in self.rows]
        self.table("metadata", ["dicom_id", "subject_id", "study_id", "ViewPosition"], metadata)
        labels = [{"study_id": study, **row} for study, row in self.labels.items()]
        self.table("chexpert", ["subject_id", "study_id", *ALPHABETICAL], labels)
        return split

    def table(self, name: str, columns: list[str], rows: list[dict]) -> Path:
        path = self.folder / f"mimic-cxr-2.0.0-{name}.csv.gz"
        with gzip.open(path, "wt", newline="") as file:
            writer = csv.DictWriter(file, columns, extrasaction="ignore", restval="")
            writer.writeheader()
            writer.writerows(rows)
        return path


@pytest.fixture
def tree(tmp_path) -> Tree:
    tree = Tree(tmp_path)
    tree.add(1, 1, ["PA", "LATERAL"])
    tree.add(1, 2, ["AP"], report=ONLY_IMPRESSION)
    tree.add(2, 3, ["AP", "AP"], split="test")
    tree.add(3, 4, ["PA"], split="validate")
    tree.add(4, 5, ["PA"], report=None)
    tree.add(5, 6, ["PA"], report=NEITHER)
    return tree


def test_each_image_with_findings_is_a_study(tree):
    """As in the published annotation; what is left out is counted by split and reason."""
    studies, left_out = read_studies(tree.write(), tree.files, views="each")
    assert [(study.id, study.split) for study in studies] == [
        (dicom_id(0), "train"),
        (dicom_id(1), "train"),
        (dicom_id(5), "val"),
        (dicom_id(3), "test"),
        (dicom_id(4), "test"),
    ]
    first = studies[0]
    assert (first.report, first.impression) == ("The lungs are clear.", "Normal.")
    assert first.image_path == (f"p10/p10000001/s50000001/{dicom_id(0)}.jpg",)
    assert (first.study_id, first.subject_id) == ("50000001", "10000001")
    assert left_out == {
        "train: no findings section (but impression)": 1,
        "train: report file is missing": 1,
        "train: no findings section (but last paragraph)": 1,
    }
    assert len(studies) + left_out.total() == len(tree.rows)


def test_all_views_of_an_examination(tree):
    studies, _ = read_studies(tree.write(), tree.files, views="all")
    assert [(study.id, len(study.image_path)) for study in studies] == [
        ("s50000001", 2),
        ("s50000004", 1),
        ("s50000003", 2),
    ]


def test_chosen_view_positions(tree):
    studies, left_out = read_studies(tree.write(), tree.files, views="all", positions=["PA"])
    assert [len(study.image_path) for study in studies] == [1, 1]
    assert left_out["train: view position is none of PA"] == 2
    assert left_out["test: view position is none of PA"] == 2


@pytest.mark.parametrize("positions", [["LL"], []])
@pytest.mark.parametrize("views", ["each", "all"])
def test_positions_that_no_image_has_are_one_line(tree, positions, views):
    with pytest.raises(ValueError) as error:
        read_studies(tree.write(), tree.files, views=views, positions=positions)
    assert str(error.value) == (
        f"mimic.positions {positions}: none of 8 images has one of them (PA: 4, AP: 3, LATERAL: 1)"
    )


def test_reports_from_the_archive(tree, tmp_path):
    """mimic-cxr-reports.zip as it is downloaded."""
    split = tree.write()
    expected = read_studies(split, tree.files, views="each")
    with zipfile.ZipFile(tmp_path / "mimic-cxr-reports.zip", "w") as archive:
        for path in sorted(tree.files.rglob("*.txt")):
            archive.writestr(f"files/{path.relative_to(tree.files).as_posix()}", path.read_text())
            path.unlink()
    assert read_studies(split, tree.files, tmp_path / "mimic-cxr-reports.zip", views="each") == expected
    (tmp_path / "cut.zip").write_bytes((tmp_path / "mimic-cxr-reports.zip").read_bytes()[:500])
    with pytest.raises(ValueError, match=r"cut\.zip: not a whole archive"):
        read_studies(split, tree.files, tmp_path / "cut.zip", views="each")


def test_reports_that_are_neither_a_folder_nor_an_archive(tree):
    """Looked for below a file, each of 227,835 reports would have a line."""
    split = tree.write()
    for wrong in (split, split.with_name("nowhere")):
        with pytest.raises(ValueError, match=f"^mimic.reports: {wrong} is neither the folder `files` nor a .zip"):
            read_studies(split, tree.files, wrong, views="each")


@pytest.mark.parametrize(("place", "value"), [(6, 1), (6, 0x20), (8, 99), (4, 99)])
def test_an_archive_that_cannot_be_read_is_a_line(tree, tmp_path, place, value):
    """Encrypted, patched, of an unknown compression, of a version to come: zipfile has errors of other classes."""
    split, path = tree.write(), tmp_path / "REPORTS.ZIP"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("files/p10/p10000001/s50000001.txt", FINDINGS)
    content = bytearray(path.read_bytes())
    for start in (0, content.find(b"PK\1\2") + 2):  # of the member, and of its row in the directory
        content[start + place] = value
    path.write_bytes(content)
    with pytest.raises(
        ValueError, match=r"REPORTS\.ZIP: (not a whole|p10/p10000001/s50000001.txt: broken in the) arch"
    ):
        read_studies(split, tree.files, path, views="each")


def test_malformed_rows_are_all_named(tree):
    """A path is made of the ids, so an id is digits and nothing else."""
    tree.rows[1]["subject_id"] = "../../etc"
    tree.rows[2]["split"] = "dev"
    tree.rows[3]["dicom_id"] = tree.rows[0]["dicom_id"]
    tree.rows[4] |= {"subject_id": tree.rows[0]["subject_id"]}
    with pytest.raises(ValueError) as error:
        read_studies(tree.write(), tree.files, views="each")
    for line in (
        "4 problems",
        "line 3: no subject_id '../../etc'",
        "line 4: no split 'dev'",
        f"line 5: image {dicom_id(0)} stands in line 2 too, with other values",
        "line 6: patient 10000001 is in train too",
    ):
        assert line in str(error.value)


def test_equal_rows_pass_and_others_are_named(tree, tmp_path):
    """The last of two rows would decide which label or view position an image has."""
    expected = read_studies(tree.write(), tree.files, views="each", positions=["PA"])
    tree.rows.append(tree.rows[0])
    assert read_studies(tree.write(), tree.files, views="each", positions=["PA"]) == expected
    rows = [{**tree.rows[0], "ViewPosition": view} for view in ("PA", "AP")]
    tree.table("metadata", ["dicom_id", "ViewPosition"], rows)
    with pytest.raises(ValueError, match=rf"metadata\.csv\.gz: {dicom_id(0)} stands in lines 2 and 3"):
        read_studies(tmp_path / "mimic-cxr-2.0.0-split.csv.gz", tree.files, views="each", positions=["PA"])
    rows = [{"study_id": "50000001", "Edema": value} for value in ("1.0", "0.0")]
    labels = tree.table("chexpert", ["study_id", *ALPHABETICAL], rows)
    with pytest.raises(ValueError, match=r"chexpert\.csv\.gz: 50000001 stands in lines 2 and 3"):
        read_chexpert_table(labels, [])
    with zipfile.ZipFile(tmp_path / "reports.zip", "w") as archive:
        for place, text in (("files", FINDINGS), ("old", NEITHER)):
            archive.writestr(f"{place}/p10/p10000001/s50000001.txt", text)
    with pytest.raises(ValueError, match=r"reports\.zip: files/p10/.* and old/p10/.* are the same report"):
        read_studies(tmp_path / "mimic-cxr-2.0.0-split.csv.gz", tree.files, tmp_path / "reports.zip", views="each")


def test_missing_tables_images_and_reports_are_a_line_each(tree, tmp_path):
    split = tree.write()
    with pytest.raises(ValueError, match=r"none\.csv: no such file"):
        read_studies(tmp_path / "none.csv", tree.files, views="each")
    with pytest.raises(ValueError, match=r"none of the first images is there, like p10/p10000001/s50000001/"):
        read_studies(split, tmp_path / "nowhere", tree.files, views="each")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="none of 8 images has a report with findings"):
        read_studies(split, tree.files, tmp_path / "empty", views="each")
    split.with_name("mimic-cxr-2.0.0-metadata.csv.gz").write_bytes(b"\x1f\x8bgarbage")
    with pytest.raises(ValueError, match=r"metadata\.csv\.gz: not a whole table"):
        read_studies(split, tree.files, views="each", positions=["PA"])


def test_labels_of_an_examination_reach_each_of_its_images(tree):
    studies, _ = read_studies(tree.write(), tree.files, views="each")
    classes = read_chexpert_table(tree.folder / "mimic-cxr-2.0.0-chexpert.csv.gz", studies)
    expected = dict.fromkeys(CONDITIONS, BLANK) | {"Edema": POSITIVE, "Pneumonia": UNCERTAIN, "Fracture": NEGATIVE}
    assert (classes == list(expected.values())).all() and len(classes) == len(studies)


def test_labels_that_are_missing_or_odd_are_named(tree):
    studies, _ = read_studies(tree.write(), tree.files, views="each")
    del tree.labels["50000004"]
    tree.labels["50000003"]["Edema"] = "2.0"
    tree.write()
    with pytest.raises(ValueError) as error:
        read_chexpert_table(tree.folder / "mimic-cxr-2.0.0-chexpert.csv.gz", studies)
    assert "line 4: '2.0' is none of 1.0, 0.0, -1.0 and blank" in str(error.value)
    assert f"no labels for study {'50000004'}" in str(error.value)


def test_an_annotation_keeps_examination_and_patient(tmp_path):
    """R2Gen's MIMIC-CXR annotation writes them as numbers."""
    studies = [
        Study(s, s, "x", ("a.png",), study_id="50000001", subject_id="10000001") for s in ("train", "val", "test")
    ]
    write_annotation(tmp_path / "a.json", studies)
    assert read_annotation(tmp_path / "a.json") == studies
    text = (tmp_path / "a.json").read_text().replace('"50000001"', "50000001")
    (tmp_path / "a.json").write_text(text)
    assert read_annotation(tmp_path / "a.json") == studies


def test_the_pipeline_starts_from_the_tables(new_project, tmp_path):
    """`check`, `prepare` and `label` with MIMIC-CXR's own files, and the counts beside the published ones."""
    tree = Tree(tmp_path)
    for n in range(6):
        tree.add(n, n, ["PA"], split=("train", "validate", "test")[n % 3])
    split = tree.write()
    project = new_project(
        "mimic_cxr",
        {
            "source": str(split),
            "images": {"folder": str(tree.files)},
            "labels": {
                "labeller": "file",
                "file": str(tmp_path / "mimic-cxr-2.0.0-chexpert.csv.gz"),
                "chexbert_path": None,
            },
            "features": {"text_encoder": "minilm"},
            "classifier": {"weights": "random"},
            "model": {"visual_weights": "random"},
        },
    )
    assert "train: 2 images; the published annotation has 270790" in project.stages("check", "prepare", "label")
    assert project.json("metrics/details/prepare.json")["images"] == {"train": 2, "val": 2, "test": 2}
    header, row, *_ = (project.folder / "data/labels.csv").read_text().splitlines()
    positive = [name for name, value in zip(header.split(","), row.split(","), strict=True) if value == "1"]
    assert positive == ["Edema", "Pneumonia"]
    project.configure({"source": str(tmp_path)})
    assert "which DVC would read whole" in project.run(sys.executable, "-m", "stages.check", code=1)
