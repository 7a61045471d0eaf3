"""IU-Xray from what Indiana University distributes: the studies of the published annotation, or one's own split."""

import csv
import io
import random
import sys
import tarfile

import pytest
from PIL import Image

from xpronet.data.pack import ImagePack
from xpronet.data.studies import Study, read_annotation
from xpronet.sources.openi import read_reports, studies
from xpronet.sources.packing import Folder, pack_studies

XML = """<?xml version="1.0" encoding="utf-8"?>
<eCitation><uId id="{patient}"/><MedlineCitation><Article><Abstract>
<AbstractText Label="COMPARISON">None.</AbstractText>
<AbstractText Label="INDICATION">Cough</AbstractText>
<AbstractText Label="FINDINGS">{findings}</AbstractText>
<AbstractText Label="IMPRESSION">Nothing acute.</AbstractText>
</Abstract></Article></MedlineCitation>
<MeSH><major>Opacity/lung/base/left</major><automatic>Opacity</automatic></MeSH>
{images}
</eCitation>"""


def xml(patient="CXR7", findings="Clear lungs.", images=("CXR7_IM-0042-1001", "CXR7_IM-0042-2001")) -> str:
    images = "\n".join(f'<parentImage id="{image}"><caption>PA</caption></parentImage>' for image in images)
    return XML.format(patient=patient, findings=findings, images=images)


def archive(path, members: dict[str, str | tarfile.TarInfo]):
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                tar.addfile(content)
            else:
                info = tarfile.TarInfo(name)
                info.size = len(content.encode())
                tar.addfile(info, io.BytesIO(content.encode()))
    return path


def test_a_report_has_its_sections_terms_and_images(tmp_path):
    """The same from a folder and from an archive."""
    (tmp_path / "ecgen-radiology").mkdir()
    (tmp_path / "elsewhere.xml").write_text(xml())
    (tmp_path / "ecgen-radiology/7.xml").symlink_to(tmp_path / "elsewhere.xml")  # as DVC's cache may link it
    tgz = archive(tmp_path / "reports.tgz", {"ecgen-radiology/7.xml": xml()})
    assert read_reports(tmp_path / "ecgen-radiology") == read_reports(tgz)
    (report,) = read_reports(tgz)
    assert (report.id, report.patient) == ("CXR7_IM-0042", "CXR7")
    assert (report.findings, report.impression, report.indication) == ("Clear lungs.", "Nothing acute.", "Cough")
    assert report.mesh == ("Opacity/lung/base/left",)
    assert report.image_ids == ("CXR7_IM-0042-1001", "CXR7_IM-0042-2001")


def test_a_section_is_all_of_its_text(tmp_path):
    """What stands in italics and after it, and what stands in a second section of the name."""
    marked = xml(findings="Heart <b>normal</b>. Lungs <i>are</i> clear.").replace("Nothing acute.", "")
    again = '<AbstractText Label="Findings">No effusion.</AbstractText><AbstractText Label="IMPRESSION">Well.'
    marked = marked.replace("</Abstract>", f"{again}</AbstractText></Abstract>").replace(
        "lung/base", "<u>lung</u>/base"
    )
    (tmp_path / "7.xml").write_text(marked)
    (report,) = read_reports(tmp_path)
    assert (report.findings, report.impression) == ("Heart normal. Lungs are clear. No effusion.", "Well.")
    assert report.mesh == ("Opacity/lung/base/left",)


def test_ids_of_odd_names(tmp_path):
    """Some 136 ids have a third part, and a report without images has its patient's."""
    three = xml("CXR2372", images=("CXR2372_IM-0933-0001-0001", "CXR2372_IM-0933-0001-0002"))
    (tmp_path / "three.xml").write_text(three)
    (tmp_path / "none.xml").write_text(xml("CXR9", images=()))
    assert [report.id for report in read_reports(tmp_path)] == ["CXR9", "CXR2372_IM-0933-0001"]


def test_every_bad_report_is_named_at_once(tmp_path):
    link = tarfile.TarInfo("link.xml")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    path = archive(
        tmp_path / "reports.tgz",
        {
            "good.xml": xml(),
            "again.xml": xml(),
            "cut.xml": xml("CXR8")[:200],
            "html.xml": "<html/>",
            "bomb.xml": '<!DOCTYPE x [<!ENTITY a "aaaa">]>' + xml("CXR9"),
            "long.xml": xml("CXR10", findings="a" * 2**20),
            "words.xml": f'<?xml version="1.0" encoding="x-none"?>{xml("CXR12")}',
            "climbs.xml": xml("CXR11", images=("../../etc/passwd",)),
            "link.xml": link,
            "readme.txt": "not a report",
        },
    )
    with pytest.raises(ValueError) as error:
        read_reports(path)
    lines = str(error.value).splitlines()
    assert "8 problems" in lines[0]
    for name, reason in {
        "again.xml": "CXR7 stands in good.xml too",
        "cut.xml": "",
        "html.xml": "not an Open-i report",
        "bomb.xml": "declares entities",
        "long.xml": "larger than",
        "words.xml": "unknown encoding",
        "climbs.xml": "are no file names",
        "link.xml": "a link or device",
    }.items():
        assert any(name in line and reason in line for line in lines[1:]), name


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no such file or folder"), (b"no archive", "not a whole .tgz"), (b"\x1f\x8b\x08", "not a whole .tgz")],
)
def test_what_is_no_archive_is_one_line(tmp_path, content, message):
    path = tmp_path / "reports.tgz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        read_reports(path)
    assert "\n" not in str(error.value)


def test_a_cut_download_is_one_line(tmp_path):
    noise = random.Random(1).randbytes(5000).hex()
    path = archive(tmp_path / "reports.tgz", {f"{n}.xml": xml(f"CXR{n}", findings=noise) for n in range(20)})
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ValueError, match="not a whole .tgz"):
        read_reports(path)


def test_an_empty_folder_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="no .xml file in it"):
        read_reports(tmp_path)


@pytest.fixture
def collection(tmp_path):
    members = {}
    for n in range(40):
        images = tuple(f"CXR{n}_IM-{n:04}-{view}001" for view in range(1 + n % 4))
        members[f"{n}.xml"] = xml(f"CXR{n}", findings="" if n % 10 == 9 else f"Report {n}.", images=images)
    return read_reports(archive(tmp_path / "reports.tgz", members))


def test_a_split_of_one_s_own_is_seeded_and_by_patient(collection):
    drawn = [studies(collection, split=None, min_views=2, max_views=2, seed=seed)[0] for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    counts = {split: sum(study.split == split for study in drawn[0]) for split in ("train", "val", "test")}
    usable = [report for report in collection if report.findings and len(report.image_ids) >= 2]
    assert counts == {"train": round(0.7 * len(usable)), "val": 3, "test": len(usable) - round(0.7 * len(usable)) - 3}
    assert {len(study.image_path) for study in drawn[0]} == {2}
    one_view, _ = studies(collection, split=None, min_views=1, max_views=9, seed=1)
    assert {len(study.image_path) for study in one_view} == {1, 2, 3, 4}
    assert all(study.report for study in one_view)


@pytest.mark.parametrize("patients", range(1, 12))
def test_few_patients_are_split_so_that_none_is_empty(collection, patients):
    few = [report for report in collection if report.findings and len(report.images) >= 2][:patients]
    options = {"split": None, "min_views": 2, "max_views": 2}
    if patients < 3:
        names = ", ".join(sorted(report.patient for report in few))
        with pytest.raises(ValueError, match=f"^openi: {names} alone can be used: train, val and test need a patient"):
            studies(few, **options, seed=1)
        return
    for seed in range(5):
        found, _ = studies(few, **options, seed=seed)
        counts = [sum(study.split == split for study in found) for split in ("train", "val", "test")]
        assert min(counts) > 0 and sum(counts) == patients and counts[0] == max(counts)


def published(*ids: str, split="test", report="x") -> list[Study]:
    return [Study(id, split, report, ("0.png",)) for id in ids]


def test_a_published_split_leaves_others_out(collection):
    split = published("CXR2_IM-0002") + published("CXR1_IM-0001", split="train")
    found, left_out = studies(collection, split=split, min_views=2, max_views=2, seed=1)
    assert [(study.id, study.split) for study in found] == [("CXR1_IM-0001", "train"), ("CXR2_IM-0002", "test")]
    assert found[0].report == "Report 1."
    usable = sum(bool(report.findings) and len(report.images) > 1 for report in collection)
    assert left_out["not in openi.split"] == usable - 2


def test_what_a_published_split_names_in_vain_is_told_with_the_reason(collection):
    ids = ("CXR99_IM-0099", "CXR9_IM-0009", "CXR4_IM-0004", "CXR2_IM-7777", "CXR3_IM-0003", "CXR3_IM-0003-0001")
    with pytest.raises(ValueError) as error:
        studies(collection, split=published(*ids, report="Report 3."), min_views=2, max_views=2, seed=1)
    assert str(error.value).splitlines() == [
        "openi.split: 5 problems; openi.split=null draws a split of the reports that are there",
        "  study CXR99_IM-0099: not among the reports",
        "  study CXR9_IM-0009: its report has no findings",
        "  study CXR4_IM-0004: its report has fewer images than openi.min_views 2: 1",
        "  study CXR2_IM-7777: the report of CXR2 has other words",
        "  study CXR3_IM-0003-0001: the report of CXR3 is that of study CXR3_IM-0003 already",
    ]


def test_a_selection_that_leaves_nothing_is_one_line(collection):
    with pytest.raises(
        ValueError, match=r"openi.min_views 9: none of 40 reports can be used \(fewer than 9 images: 36, "
    ):
        studies(collection, split=None, min_views=9, max_views=9, seed=1)


def test_the_real_collection_gives_the_published_annotation(shared):
    """All 2,955 studies: ids, splits, and reports character by character."""
    reports = read_reports(shared / "iu_xray/raw/NLMCXR_reports.tgz")
    assert len(reports) == 3955
    split = read_annotation(shared / "iu_xray/annotation.json")
    published = {study.id: study for study in split}
    found, _ = studies(reports, split=split, min_views=2, max_views=2, seed=1)
    assert {study.id: (study.split, study.report) for study in found} == {
        id: (study.split, study.report) for id, study in published.items()
    }
    assert {study.id for study in studies(reports, split=None, min_views=2, max_views=2, seed=1)[0]} == set(published)


def test_the_real_files_make_a_dataset(shared, tmp_path):
    """From the archive and the folder of pictures, with a split of one's own."""
    reports = read_reports(shared / "iu_xray/raw/NLMCXR_reports.tgz")
    pictures = shared / "iu_xray/raw/NLMCXR_png"
    there = [
        study
        for study in studies(reports, split=None, min_views=2, max_views=2, seed=1)[0]
        if all((pictures / path).is_file() for path in study.image_path)
    ]
    assert len(there) == 13
    paths = tmp_path / "images.u8", tmp_path / "images.json"
    pack_studies(there, Folder(pictures), *paths, resize=64, crop=56)
    assert len(ImagePack(*paths)) == 26


def test_the_pipeline_starts_from_the_archive(new_project, tmp_path):
    """`check` and `prepare` with Open-i's reports as `source`, and a clear line where a picture is missing."""
    ids = [f"CXR{n}_IM-{n:04}" for n in range(10)]
    pictures = {id: (f"{id}-1001", f"{id}-2001") for id in ids}
    for names in pictures.values():
        for name in names:
            Image.new("L", (300, 280), 90).save(tmp_path / f"{name}.png")
    with tarfile.open(tmp_path / "NLMCXR_png.tgz", "w:gz") as tar:
        for path in tmp_path.glob("*.png"):
            tar.add(path, f"./{path.name}")
    members = {f"{id}.xml": xml(id.split("_")[0], images=names) for id, names in pictures.items()}
    project = new_project(
        "iu_xray",
        {
            "source": str(archive(tmp_path / "NLMCXR_reports.tgz", members)),
            "images": {"folder": str(tmp_path)},
            "labels": {"labeller": "rules", "chexbert_path": None},
            "features": {"text_encoder": "minilm"},
            "classifier": {"weights": "random"},
            "model": {"visual_weights": "random"},
        },
    )
    project.stages("check", "prepare")
    annotation = project.json("data/prepared/annotation.json")
    assert {split: len(annotation[split]) for split in annotation} == {"train": 7, "val": 1, "test": 2}
    packed = project.sha256("data/prepared/images.u8")
    project.configure({"images": {"folder": str(tmp_path / "NLMCXR_png.tgz")}})
    project.run(sys.executable, "-m", "stages.prepare")
    assert project.sha256("data/prepared/images.u8") == packed
    assert not (project.folder / "data/prepared/.archive.unfinished").exists()
    project.configure({})
    (tmp_path / "CXR3_IM-0003-2001.png").unlink()
    said = project.run(sys.executable, "-m", "stages.prepare", code=1)
    assert "study CXR3_IM-0003" in said and "no such image" in said and "Traceback" not in said
    project.configure({"images": {"broken": "drop", "folder": str(tmp_path)}})
    said = project.run(sys.executable, "-m", "stages.prepare")
    left_out = "1 of 20 images that cannot be read, 1 of 10 studies with fewer than 2 images that can be read"
    assert f"left out (images.broken=drop): {left_out}; metrics/details/prepare.json names them\n" in said
    details = project.json("metrics/details/prepare.json")
    assert details["left_out"] == {"studies with fewer than 2 images that can be read": 1}
    assert sum(details["images"].values()) == 18 and "CXR3_IM-0003-2001.png" in details["broken_images"][0]
    assert set(project.json("metrics/prepare.json")) == {"train_studies", "val_studies", "test_studies"}


def kaggle(folder, reports: str, projections: str):
    header = "uid,MeSH,Problems,image,indication,comparison,findings,impression\n"
    (folder / "indiana_reports.csv").write_text(header + reports)
    (folder / "indiana_projections.csv").write_text("uid,filename,projection\n" + projections)
    return folder


def test_kaggle_s_form_gives_the_same_studies(tmp_path):
    """Its file names lack the CXR of the ids; the frontal view comes first."""
    folder = kaggle(
        tmp_path,
        '10,normal,normal,PA,Cough,None.,"Clear, both lungs.",Normal.\n'
        "9,Opacity/lung;Edema,Opacity,PA,,,,Nothing.\n2,normal,normal,PA,,,Clear.,\n3,normal,normal,PA,,,Clear.,\n",
        "3,3_IM-1384-1001.dcm.png,Frontal\n10,10_IM-0002-2001.dcm.png,Lateral\n10,10_IM-0002-3001.dcm.png,Frontal\n2,2_IM-0652-1001.dcm.png,Frontal\n",
    )
    reports = read_reports(folder)
    assert reports == read_reports(folder / "indiana_reports.csv")
    assert [report.id for report in reports] == ["CXR2_IM-0652", "CXR3_IM-1384", "CXR9", "CXR10_IM-0002"]
    assert reports[3].images == ("10_IM-0002-3001.dcm.png", "10_IM-0002-2001.dcm.png")
    assert reports[3].image_ids[0] == "CXR10_IM-0002-3001"
    assert (reports[3].findings, reports[3].impression) == ("Clear, both lungs.", "Normal.")
    assert reports[2].mesh == ("Opacity/lung", "Edema")
    found, left_out = studies(reports, split=None, min_views=1, max_views=2, seed=1)
    assert {study.id for study in found} == {"CXR2_IM-0652", "CXR3_IM-1384", "CXR10_IM-0002"}
    assert left_out == {"no findings section": 1}


def test_kaggle_s_form_takes_the_published_ids_and_split(shared, tmp_path):
    """All 2,955, five of which have another id there: uid 1 by its name, four by the order of their images."""
    reports, images = [], []
    for report in read_reports(shared / "iu_xray/raw/NLMCXR_reports.tgz"):
        uid = report.patient.removeprefix("CXR")
        reports.append([uid, "", "", "", "", "", report.findings.replace("  ", " "), report.impression])
        for n, id in enumerate(report.image_ids):
            name = f"{uid}_{id[id.index('IM-') :]}.dcm.png"
            frontal = n == (len(report.image_ids) - 1 if uid in ("372", "800", "1720", "3912") else 0)
            images.append([uid, name, "Frontal" if frontal else "Lateral"])
    for name, header, rows in (
        ("reports", "uid,MeSH,Problems,image,indication,comparison,findings,impression", reports),
        ("projections", "uid,filename,projection", images),
    ):
        with open(tmp_path / f"indiana_{name}.csv", "w", newline="") as file:
            csv.writer(file).writerows([header.split(","), *rows])
    split, kaggle = read_annotation(shared / "iu_xray/annotation.json"), read_reports(tmp_path)
    ids = {report.patient: report.id for report in kaggle}
    assert len({study.id for study in split} - set(ids.values())) == 5 and ids["CXR1"] == "CXR1_IM-0001"
    found, _ = studies(kaggle, split=split, min_views=2, max_views=2, seed=1)
    assert {study.id: study.split for study in found} == {study.id: study.split for study in split}
    assert {study.id.partition("_")[0] for study in found} == {study.subject_id for study in found}


def test_bad_rows_of_kaggle_s_tables_are_all_named(tmp_path):
    folder = kaggle(
        tmp_path,
        "1,,,,,,a,\n1,,,,,,b,\nx,,,,,,c,\n",
        "1,../../x.dcm.png,Frontal\n1,a.dcm.png,Frontal\n2,a.dcm.png,Frontal\n1,a.dcm.png,Frontal\n",
    )
    with pytest.raises(ValueError) as error:
        read_reports(folder)
    for line in (
        "4 problems",
        "projections.csv: line 2",
        "projections.csv: line 4: a.dcm.png stands in line 3 too",
        "line 3: uid '1' stands in line 2 too",
        "line 4: uid 'x' is no number",
    ):
        assert line in str(error.value)
    (folder / "indiana_projections.csv").unlink()
    with pytest.raises(ValueError, match=r"indiana_projections\.csv: no such file"):
        read_reports(folder)
    (folder / "indiana_reports.csv").write_text("a,b\n1,2\n")
    (folder / "indiana_projections.csv").write_text("uid,filename,projection\n")
    with pytest.raises(ValueError, match=r"indiana_reports\.csv: no column uid, MeSH, findings"):
        read_reports(folder)
