"""Open-i (IU-Xray) as Indiana University distributes it: XML reports, a study each, to studies with a split.

The published annotation follows from it: its 2,955 studies are those with findings and two or more images, and an id is
the name of the first image without its last part.
"""

import random
import re
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from xpronet.common.files import raise_all, read_table
from xpronet.common.wording import number
from xpronet.data.studies import SPLITS, Split, Study

LARGEST_XML = 2**20  # bytes; the largest of the collection has 20 kB
KAGGLE_REPORTS, KAGGLE_PROJECTIONS = "indiana_reports.csv", "indiana_projections.csv"
KAGGLE_SECTIONS = ("findings", "impression", "indication", "comparison")
SHARES = {"train": 0.7, "val": 0.1, "test": 0.2}  # of the patients, as the published split


@dataclass(frozen=True)
class Report:
    """One Open-i report; a section that is absent or empty is an empty string."""

    id: str  # as in the published annotation, CXR2384_IM-0942; the patient's where there is no image
    patient: str  # CXR2384
    findings: str
    impression: str
    indication: str
    comparison: str
    mesh: tuple[str, ...]  # terms that a person has given; "normal" where nothing was found
    image_ids: tuple[str, ...]  # CXR2384_IM-0942-1001
    images: tuple[str, ...]  # their file names


def read_reports(path: str | Path) -> list[Report]:
    """Every report of a folder (at any depth) or of a `.tgz` of Open-i XML, in the order of the patients' numbers.

    Archives are read in place: nothing is extracted, links and oversized members are refused. Kaggle's form of the
    collection is known by its file `indiana_reports.csv`, which `path` names or holds.

    Raises:
        ValueError: no such path, not an archive, no XML in it, or reports that cannot be read, which are named.
    """
    path = Path(path)
    if path.suffix == ".csv" or (path / KAGGLE_REPORTS).is_file():
        return _in_order(_read_kaggle(path if path.suffix == ".csv" else path / KAGGLE_REPORTS))
    reports, problems, seen = [], [], {}
    for name, content in _members(path, problems):
        try:
            report = _parse(content)
        except (ValueError, LookupError, ElementTree.ParseError) as error:  # LookupError: of an unknown encoding
            problems.append(f"{name}: {error}")
            continue
        if report.patient in seen:
            problems.append(f"{name}: report {report.patient} stands in {seen[report.patient]} too")
        seen[report.patient] = name
        reports.append(report)
    raise_all(path, problems)
    if not reports:
        raise ValueError(f"{path}: no .xml file in it; expected NLMCXR_reports.tgz or its folder ecgen-radiology")
    return _in_order(reports)


def studies(
    reports: Sequence[Report], *, split: Sequence[Study] | None, min_views: int, max_views: int, seed: int
) -> tuple[list[Study], Counter[str]]:
    """The reports with findings and at least `min_views` images as studies, of which the first `max_views` are kept.

    Args:
        split: a published annotation, whose ids and splits are taken; reports that are not in it are left out. None
            draws patients 7 : 1 : 2 by `seed`.

    Returns:
        The studies, train first, and how many reports were left out for which reason.

    Raises:
        ValueError: no report can be used, or too few for three splits; or the annotation has studies that are not among
            the reports, which are listed with the reason.
    """
    usable, excluded = [], Counter()
    for report in reports:
        if not report.findings:
            excluded["no findings section"] += 1
        elif len(report.images) < min_views:
            excluded[f"fewer than {number(min_views, 'image')}"] += 1
        else:
            usable.append(report)
    if split is None:
        if not usable:
            reasons = ", ".join(f"{reason}: {count}" for reason, count in excluded.items())
            raise ValueError(f"openi.min_views {min_views}: none of {len(reports)} reports can be used ({reasons})")
        named = [(report, report.id, drawn) for report, drawn in zip(usable, _draw_split(usable, seed), strict=True)]
    else:
        named = [(report, study.id, study.split) for report, study in _published(reports, split, min_views)]
        excluded["not in openi.split"] = len(usable) - len(named)
    found = [
        Study(
            id=id,
            split=of,
            report=report.findings,
            image_path=report.images[:max_views],
            impression=report.impression,
            subject_id=report.patient,
        )
        for report, id, of in named
    ]
    return sorted(found, key=lambda study: SPLITS.index(study.split)), +excluded


def _published(reports: Sequence[Report], split: Sequence[Study], min_views: int) -> list[tuple[Report, Study]]:
    """Each published study with its report, in the order of the reports.

    They have the same id; or, where that was made of another order of the images, as in Kaggle's form, the same patient
    and the same words.
    """
    by_id, by_patient = ({getattr(report, key): report for report in reports} for key in ("id", "patient"))
    problems, found = [], {}
    for study in split:
        report = by_id.get(study.id) or by_patient.get(study.id.partition("_")[0])
        if report is None:
            problem = "not among the reports"
        elif not report.findings:
            problem = "its report has no findings"
        elif len(report.images) < min_views:
            problem = f"its report has fewer images than openi.min_views {min_views}: {len(report.images)}"
        elif report.id != study.id and _words(report.findings) != _words(study.report):
            problem = f"the report of {report.patient} has other words"
        elif report.patient in found:
            problem = f"the report of {report.patient} is that of study {found[report.patient][1].id} already"
        else:
            found[report.patient] = report, study
            continue
        problems.append(f"study {study.id}: {problem}")
    raise_all("openi.split", problems, help="openi.split=null draws a split of the reports that are there")
    return [found[report.patient] for report in reports if report.patient in found]


def _in_order(reports: list[Report]) -> list[Report]:
    return sorted(reports, key=lambda report: (len(report.patient), report.patient))


def _read_kaggle(path: Path) -> list[Report]:
    """`indiana_reports.csv` with `indiana_projections.csv` beside it: the same reports and ids, frontal views first."""
    problems: list[str] = []
    images: dict[str, list[tuple[bool, str]]] = {}
    views: dict[str, tuple[int, str, str]] = {}  # a file's line, patient and projection
    for line, row in read_table(path.with_name(KAGGLE_PROJECTIONS), ("uid", "filename", "projection")):
        if not row["uid"].isdigit() or not re.fullmatch(r"[\w-]+\.dcm\.png", row["filename"]):
            problems.append(f"{KAGGLE_PROJECTIONS}: line {line}: {row['uid']!r}, {row['filename']!r}: no uid and file")
            continue
        first, *same = views.setdefault(row["filename"], (line, row["uid"], row["projection"]))
        if first == line:
            images.setdefault(row["uid"], []).append((row["projection"] != "Frontal", row["filename"]))
        elif same != [row["uid"], row["projection"]]:
            problems.append(f"{KAGGLE_PROJECTIONS}: line {line}: {row['filename']} stands in line {first} too")
    reports, seen = [], {}
    for line, row in read_table(path, ("uid", "MeSH", *KAGGLE_SECTIONS)):
        uid = row["uid"]
        if not uid.isdigit() or uid in seen:
            wrong = f"stands in line {seen[uid]} too" if uid in seen else "is no number"
            problems.append(f"{path.name}: line {line}: uid {uid!r} {wrong}")
            continue
        seen[uid] = line
        files = tuple(name for _, name in sorted(images.get(uid, [])))
        ids = tuple(f"CXR{name.removesuffix('.dcm.png')}" for name in files)
        reports.append(
            Report(
                id=ids[0].rpartition("-")[0] if ids else f"CXR{uid}",
                patient=f"CXR{uid}",
                mesh=tuple(filter(None, row["MeSH"].split(";"))),
                image_ids=ids,
                images=files,
                **{section: row[section].strip() for section in KAGGLE_SECTIONS},
            )
        )
    raise_all(path.parent, problems)
    return reports


def _draw_split(reports: Sequence[Report], seed: int) -> list[Split]:
    """Split of each report; each split has a patient at least."""
    patients = sorted({report.patient for report in reports})
    if len(patients) < len(SPLITS):
        raise ValueError(
            f"openi: {', '.join(patients)} alone can be used: train, val and test need a patient each; "
            "lower openi.min_views, or name a split by openi.split"
        )
    random.Random(seed).shuffle(patients)
    first = min(max(round(len(patients) * SHARES["train"]), 1), len(patients) - 2)
    second = min(max(round(len(patients) * (SHARES["train"] + SHARES["val"])), first + 1), len(patients) - 1)
    of_patient = dict.fromkeys(patients[:first], "train") | dict.fromkeys(patients[first:second], "val")
    return [of_patient.get(report.patient, "test") for report in reports]


def _members(path: Path, problems: list[str]) -> Iterator[tuple[str, bytes]]:
    """(name, content) of each XML file; what is no plain file of a plausible size becomes a problem."""
    if path.is_dir():
        for file in sorted(path.rglob("*.xml")):
            if file.stat().st_size > LARGEST_XML:
                problems.append(f"{file.relative_to(path)}: larger than {LARGEST_XML} bytes")
            else:
                yield file.relative_to(path).as_posix(), file.read_bytes()
        return
    if not path.is_file():
        raise ValueError(f"{path}: no such file or folder; expected NLMCXR_reports.tgz or its folder")
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                if not member.name.endswith(".xml"):
                    continue
                if not member.isfile():
                    problems.append(f"{member.name}: a link or device, not a file")
                elif member.size > LARGEST_XML:
                    problems.append(f"{member.name}: larger than {LARGEST_XML} bytes")
                else:
                    yield member.name, archive.extractfile(member).read()
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{path}: not a whole .tgz archive: {reason}") from None


def _parse(content: bytes) -> Report:
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content:
        raise ValueError("declares entities, which Open-i's reports do not")
    root = ElementTree.fromstring(content)
    patient = root.find("uId")
    if root.tag != "eCitation" or patient is None or not patient.get("id"):
        raise ValueError("not an Open-i report: expected <eCitation> with <uId id=…>")
    sections: dict[str, list[str]] = {}
    for part in root.iter("AbstractText"):
        sections.setdefault(part.get("Label", "").strip().upper(), []).append(_text(part))
    section = {label: " ".join(filter(None, dict.fromkeys(texts))) for label, texts in sections.items()}
    images = tuple(dict.fromkeys(image.get("id", "") for image in root.iter("parentImage")))
    if not all(re.fullmatch(r"[\w-]+", image) for image in images):
        raise ValueError(f"image ids {images} are no file names")
    mesh = root.find("MeSH")
    return Report(
        id=images[0].rpartition("-")[0] if images else patient.get("id"),
        patient=patient.get("id"),
        findings=section.get("FINDINGS", ""),
        impression=section.get("IMPRESSION", ""),
        indication=section.get("INDICATION", ""),
        comparison=section.get("COMPARISON", ""),
        mesh=tuple(_text(term) for term in mesh.iter("major")) if mesh is not None else (),
        image_ids=images,
        images=tuple(f"{image}.png" for image in images),
    )


def _text(element: ElementTree.Element) -> str:
    """All of it, whatever part is marked up."""
    return "".join(element.itertext()).strip()


def _words(text: str) -> list[str]:
    """Case and punctuation aside."""
    return re.findall(r"[a-z0-9]+", text.lower())
