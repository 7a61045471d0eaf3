"""Open-i (IU-Xray) as Indiana University distributes it: XML reports, a study each, to studies with a split.

The published annotation follows from it: its 2,955 studies are those with findings and two or more images, and an id is
the name of the first image without its last part.
"""

import random
import re
import tarfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from xpronet.data.files import raise_all
from xpronet.data.studies import SPLITS, Split, Study

LARGEST_XML = 2**20  # bytes; the largest of the collection has 20 kB
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
    image_ids: tuple[str, ...]  # file names without .png, CXR2384_IM-0942-1001


def read_reports(path: str | Path) -> list[Report]:
    """Every report of a folder (at any depth) or of a `.tgz` of Open-i XML, in the order of the patients' numbers.

    Archives are read in place: nothing is extracted, links and oversized members are refused.

    Raises:
        ValueError: no such path, not an archive, no XML in it, or reports that cannot be read; all are named.
    """
    path = Path(path)
    reports, problems, seen = [], [], {}
    for name, content in _members(path, problems):
        try:
            report = _parse(content)
        except (ValueError, ElementTree.ParseError) as error:
            problems.append(f"{name}: {error}")
            continue
        if report.patient in seen:
            problems.append(f"{name}: report {report.patient} stands in {seen[report.patient]} too")
        seen[report.patient] = name
        reports.append(report)
    raise_all(path, problems)
    if not reports:
        raise ValueError(f"{path}: no .xml file in it; expected NLMCXR_reports.tgz or its folder ecgen-radiology")
    return sorted(reports, key=lambda report: (len(report.patient), report.patient))


def studies(
    reports: Sequence[Report], *, split: Mapping[str, Split] | None, min_views: int, max_views: int, seed: int
) -> list[Study]:
    """The reports with findings and at least `min_views` images as studies, of which the first `max_views` are kept.

    Args:
        split: split of each study id, as a published annotation has it; others are left out. None draws patients
            7 : 1 : 2 by `seed`.

    Raises:
        ValueError: the split names studies that are not there; all are listed.
    """
    usable = [report for report in reports if report.findings and len(report.image_ids) >= min_views]
    if split is None:
        split = _draw_split(usable, seed)
    absent = sorted(set(split) - {report.id for report in usable})
    raise_all("split", [f"study {id} is not among the reports with {min_views} images and findings" for id in absent])
    found = [
        Study(
            id=report.id,
            split=split[report.id],
            report=report.findings,
            image_path=tuple(f"{image}.png" for image in report.image_ids[:max_views]),
            impression=report.impression,
        )
        for report in usable
        if report.id in split
    ]
    return sorted(found, key=lambda study: SPLITS.index(study.split))


def _draw_split(reports: Sequence[Report], seed: int) -> dict[str, Split]:
    patients = sorted({report.patient for report in reports})
    random.Random(seed).shuffle(patients)
    first, second = (round(len(patients) * share) for share in (SHARES["train"], SHARES["train"] + SHARES["val"]))
    of_patient = dict.fromkeys(patients[:first], "train") | dict.fromkeys(patients[first:second], "val")
    return {report.id: of_patient.get(report.patient, "test") for report in reports}


def _members(path: Path, problems: list[str]) -> Iterator[tuple[str, bytes]]:
    """(name, content) of each XML file; what is no plain file of a plausible size becomes a problem."""
    if path.is_dir():
        for file in sorted(path.rglob("*.xml")):
            if not file.resolve().is_relative_to(path.resolve()):
                problems.append(f"{file.relative_to(path)}: leads out of the folder")
            elif file.stat().st_size > LARGEST_XML:
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
    sections = {text.get("Label", ""): (text.text or "").strip() for text in root.iter("AbstractText")}
    images = tuple(image.get("id", "") for image in root.iter("parentImage"))
    if not all(re.fullmatch(r"[\w-]+", image) for image in images):
        raise ValueError(f"image ids {images} are no file names")
    mesh = root.find("MeSH")
    return Report(
        id=images[0].rpartition("-")[0] if images else patient.get("id"),
        patient=patient.get("id"),
        findings=sections.get("FINDINGS", ""),
        impression=sections.get("IMPRESSION", ""),
        indication=sections.get("INDICATION", ""),
        comparison=sections.get("COMPARISON", ""),
        mesh=tuple((term.text or "").strip() for term in mesh.iter("major")) if mesh is not None else (),
        image_ids=images,
    )
