"""A study and the `annotation.json` that lists them: the R2Gen form, with our own optional fields beside it.

    {"train": [{"id": "CXR1", "report": "The heart …", "image_path": ["CXR1/0.png", …], "split": "train"}, …],
     "val": […], "test": […]}

Ours are `impression` (a section that labellers may read) and `state` (what a phantom was drawn from). `study_id` and
`subject_id` stand in MIMIC-CXR's annotation: the examination and the patient.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal, get_args

from xpronet.common.files import raise_all, read_json, write_json

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)


@dataclass(frozen=True)
class Study:
    id: str
    split: Split
    report: str  # the text to generate: the findings section
    image_path: tuple[str, ...]  # one per view, relative to the image folder
    impression: str = ""
    study_id: str = ""  # of the examination, where several studies of ours are its images
    subject_id: str = ""  # of the patient
    state: dict[str, Any] | None = None


def read_annotation(path: str | Path) -> list[Study]:
    """Studies in the file's order, train first.

    Raises:
        ValueError: the file is missing or not JSON, or breaks a rule; an offending study has its own line.
    """
    content = read_json(path)
    if not isinstance(content, dict) or not set(SPLITS) <= set(content):
        raise ValueError(f"{path}: expected an object with the lists {', '.join(SPLITS)}")
    studies, problems, seen = [], [], defaultdict(list)
    for split in SPLITS:
        if not isinstance(content[split], list):
            raise ValueError(f"{path}: {split}: expected a list of studies")
        for position, record in enumerate(content[split]):
            found = _problems(record, split)
            problems += [f"{split}[{position}]{_name(record)}: {problem}" for problem in found]
            if not found:
                seen[record["id"]].append(split)
                studies.append(_study(record, split))
    for id, splits in seen.items():
        if len(set(splits)) > 1:
            problems.append(f"id {id!r} is in {' and '.join(sorted(set(splits)))}: a study belongs to one split")
        elif len(splits) > 1:
            problems.append(f"id {id!r} stands {len(splits)} times in {splits[0]}: ids must be unique")
    raise_all(path, problems)
    return studies


def write_annotation(path: str | Path, studies: list[Study]) -> None:
    content: dict[str, list] = {split: [] for split in SPLITS}
    for study in studies:
        record = {key: value for key, value in asdict(study).items() if value not in ("", None)}
        content[study.split].append(record)
    write_json(path, content)


def require_every_split(studies: Sequence[Study], where: str, left_out: Mapping[str, int] | None = None) -> None:
    """Raise ValueError, one line, where a split has no study: there is nothing to train, choose or test with.

    Args:
        left_out: how many were left out for which reason, for the line.
    """
    empty = [split for split in SPLITS if not of_split(studies, split)]
    if empty:
        reasons = "; ".join(f"{reason}: {count}" for reason, count in sorted((left_out or {}).items()))
        raise ValueError(
            f"{where}: no study in {' and '.join(empty)}: training, the choice of its epoch and the scores need one "
            f"each; move studies of another split there{f', or leave out fewer ({reasons})' if reasons else ''}"
        )


def of_split(studies: Sequence[Study], *splits: Split) -> list[Study]:
    """Those of one split or several, in their order."""
    return [study for study in studies if study.split in splits]


def section(study: Study, name: Literal["findings", "impression", "both"]) -> str:
    """The text of a study that a labeller reads."""
    text = {"findings": study.report, "impression": study.impression, "both": f"{study.report}\n{study.impression}"}
    return text[name].strip()


def _study(record: dict, split: Split) -> Study:
    return Study(
        id=record["id"],
        split=split,
        report=record["report"],
        image_path=tuple(record["image_path"]),
        impression=record.get("impression", ""),
        study_id=str(record.get("study_id", "")),
        subject_id=str(record.get("subject_id", "")),
        state=record.get("state"),
    )


def _name(record: Any) -> str:
    return f" ({record['id']})" if isinstance(record, dict) and isinstance(record.get("id"), str) else ""


def _problems(record: Any, split: Split) -> list[str]:
    if not isinstance(record, dict):
        return ["expected an object with id, report and image_path"]
    problems = []
    if not isinstance(record.get("id"), str) or not record["id"].strip():
        problems.append("id must be a text that is not empty")
    if not isinstance(record.get("report"), str) or not record["report"].strip():
        problems.append("report is empty: give it a text or take the study out")
    if record.get("split", split) != split:
        problems.append(f"its field split says {record['split']!r} but it stands in {split}")
    paths = record.get("image_path")
    if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
        problems.append("image_path must be a list of relative paths")
    elif any("\0" in path for path in paths):
        problems.append("image_path holds the character 0, which no file's name has")
    elif not paths:
        problems.append("image_path is empty: a study needs at least one view")
    else:
        problems += [
            f"image path {path!r} leaves the image folder" for path in paths if leaves_folder(PurePosixPath(path))
        ]
    if not isinstance(record.get("impression", ""), str):
        problems.append("impression must be a text")
    if not _is_state(record.get("state")):
        problems.append("state must be an object whose observations are a list of names, or null")
    for key in ("study_id", "subject_id"):
        if not isinstance(record.get(key, ""), str | int):
            problems.append(f"{key} must be a text or a whole number")
    return problems


def _is_state(state: Any) -> bool:
    observations = state.get("observations") if isinstance(state, dict) else None
    return state is None or isinstance(observations, list) and all(isinstance(name, str) for name in observations)


def leaves_folder(path: PurePosixPath) -> bool:
    return path.is_absolute() or ".." in path.parts
