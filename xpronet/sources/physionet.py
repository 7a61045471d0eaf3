"""MIMIC-CXR(-JPG) in PhysioNet's layout to studies with the official split.

mimic-cxr-2.0.0-split.csv.gz, …-metadata.csv.gz, …-chexpert.csv.gz    beside each other
files/p10/p10000032/s50414267.txt                                     reports, or mimic-cxr-reports.zip
files/p10/p10000032/s50414267/<dicom_id>.jpg                          images, or .dcm
"""

import re
import zipfile
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from xpronet.common.files import TEXT, keyed, raise_all, read_table
from xpronet.common.progress import track
from xpronet.data.studies import SPLITS, Study
from xpronet.sources.mimic import sections

PUBLISHED = {"train": 270_790, "val": 2_130, "test": 3_858}  # images with a report, in the papers' annotation
LARGEST_REPORT = 2**20  # bytes; the largest of the collection has some 10 kB
_SPLIT = {"train": "train", "validate": "val", "test": "test"}
_ID = {"dicom_id": r"[0-9a-f]{8}(-[0-9a-f]{8}){4}", "study_id": r"\d{8}", "subject_id": r"\d{8}"}


def read_studies(
    split: str | Path,
    images: str | Path,
    reports: str | Path | None = None,
    *,
    views: Literal["each", "all"],
    positions: Sequence[str] | None = None,
) -> tuple[list[Study], Counter[str]]:
    """The images whose report has findings, as studies in the order of the table, train first.

    Args:
        split: `mimic-cxr-2.0.0-split.csv` or `.csv.gz`; the metadata lie beside it.
        images: folder `files` with the images.
        reports: folder `files` with the reports or `mimic-cxr-reports.zip`; None where they lie beside the images.
        views: `each` makes a study of every image, as the published annotation; `all` of every examination.
        positions: `ViewPosition` of the images to use ("PA", "AP", "LATERAL", "LL", …); None uses all.

    Returns:
        The studies, and how many images were left out for which reason, by split.

    Raises:
        ValueError: files are missing, or rows are malformed, which are named; or no image is left.
    """
    rows = _read_split(Path(split))
    excluded: Counter[str] = Counter()
    if positions is not None:
        position = _read_positions(Path(split))
        chosen = [row for row in rows if position.get(row["dicom_id"]) in positions]
        for row in rows:
            if position.get(row["dicom_id"]) not in positions:
                excluded[f"{row['split']}: view position is none of {', '.join(positions)}"] += 1
        if not chosen:
            there = Counter(position.get(row["dicom_id"]) or "none" for row in rows)
            counts = ", ".join(f"{name}: {count}" for name, count in there.most_common())
            raise ValueError(f"mimic.positions {[*positions]}: none of {len(rows)} images has one of them ({counts})")
        rows = chosen
    examinations = defaultdict(list)
    for row in rows:
        examinations[_folder(row)].append(row)
    suffix = _suffix(Path(images), rows)
    read, problems, studies = _reader(Path(reports or images)), [], []
    for folder, members in track(examinations.items(), what="reports", unit="reports", total=len(examinations)):
        try:
            found = sections(read(f"{folder}.txt"))
        except (FileNotFoundError, KeyError):
            excluded[f"{members[0]['split']}: report file is missing"] += len(members)
            continue
        except (OSError, ValueError) as error:
            problems.append(f"{folder}.txt: {error}")
            continue
        if not found["findings"]:
            rest = next((name.replace("_", " ") for name in ("impression", "last_paragraph") if found[name]), "neither")
            excluded[f"{members[0]['split']}: no findings section (but {rest})"] += len(members)
            continue
        paths = [f"{folder}/{row['dicom_id']}{suffix}" for row in members]
        groups = [(row["dicom_id"], (path,)) for row, path in zip(members, paths, strict=True)]
        if views == "all":
            groups = [(f"s{members[0]['study_id']}", tuple(paths))]
        studies += [
            Study(
                id=id,
                split=members[0]["split"],
                report=" ".join(found["findings"].split()),
                image_path=group,
                impression=" ".join(found["impression"].split()),
                study_id=members[0]["study_id"],
                subject_id=members[0]["subject_id"],
            )
            for id, group in groups
        ]
    raise_all(reports or images, problems)
    if not studies:
        reasons = ", ".join(f"{reason}: {count}" for reason, count in sorted(excluded.items()))
        raise ValueError(
            f"{split}: none of {len(rows)} images has a report with findings in {reports or images} ({reasons})"
        )
    return sorted(studies, key=lambda study: SPLITS.index(study.split)), excluded


def _folder(row: dict[str, str]) -> str:
    return f"p{row['subject_id'][:2]}/p{row['subject_id']}/s{row['study_id']}"


def _read_split(path: Path) -> list[dict[str, str]]:
    """Rows with our names of the splits; an examination lies in one split."""
    rows, problems, seen, splits = [], [], {}, {}
    for line, row in read_table(path, (*_ID, "split")):
        wrong = [f"{name} {row[name]!r}" for name, pattern in _ID.items() if not re.fullmatch(pattern, row[name])]
        if row["split"] not in _SPLIT:
            wrong.append(f"split {row['split']!r}")
        if wrong:
            problems.append(f"line {line}: no {', no '.join(wrong)}")
            continue
        row = {**row, "split": _SPLIT[row["split"]]}
        first, same = seen.setdefault(row["dicom_id"], (line, row))
        if first != line:
            if row != same:
                problems.append(f"line {line}: image {row['dicom_id']} stands in line {first} too, with other values")
            continue
        if splits.setdefault(row["subject_id"], row["split"]) != row["split"]:
            problems.append(f"line {line}: patient {row['subject_id']} is in {splits[row['subject_id']]} too")
        rows.append(row)
    raise_all(path, problems)
    if not rows:
        raise ValueError(f"{path}: no rows")
    return rows


def _read_positions(split: Path) -> dict[str, str]:
    path = split.with_name(split.name.replace("-split.", "-metadata."))
    if path == split:
        raise ValueError(f"{split}: expected a name like mimic-cxr-2.0.0-split.csv.gz, with the metadata beside it")
    table = read_table(path, ("dicom_id", "ViewPosition"))
    return keyed(path, ((line, row["dicom_id"], row["ViewPosition"]) for line, row in table))


def _suffix(images: Path, rows: Sequence[dict[str, str]]) -> str:
    """The format of the first images that are there; packing names those that are not."""
    for row in rows[:1000]:
        for suffix in (".jpg", ".dcm", ".png"):
            if (images / _folder(row) / f"{row['dicom_id']}{suffix}").is_file():
                return suffix
    raise ValueError(f"{images}: none of the first images is there, like {_folder(rows[0])}/{rows[0]['dicom_id']}.jpg")


def _reader(reports: Path) -> Callable[[str], str]:
    """p10/p10000032/s50414267.txt -> its text, from a folder or an archive."""
    if reports.suffix.lower() != ".zip":
        if not reports.is_dir():
            raise ValueError(f"mimic.reports: {reports} is neither the folder `files` nor a .zip of the reports")

        def from_folder(name: str) -> str:
            return (reports / name).read_bytes().decode(TEXT)

        return from_folder
    try:
        archive = zipfile.ZipFile(reports)
    except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise ValueError(f"{reports}: not a whole archive: {error}") from None
    members = {}
    for info in archive.infolist():
        same = members.setdefault("/".join(info.filename.split("/")[-3:]), info)
        if same.CRC != info.CRC:
            raise ValueError(f"{reports}: {same.filename} and {info.filename} are the same report with other content")

    def from_archive(name: str) -> str:
        if members[name].file_size > LARGEST_REPORT:
            raise ValueError(f"larger than {LARGEST_REPORT} bytes")
        try:
            return archive.read(members[name]).decode(TEXT)
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:  # RuntimeError: encrypted, and others
            raise ValueError(f"broken in the archive: {str(error) or 'cut'}") from None

    return from_archive
