"""Labels as files: our CSV, and the import of published ones (JSON, CSV, and pickles through a whitelist)."""

import csv
import io
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from xpronet.data.files import raise_all, read_json, read_table, replacing
from xpronet.data.studies import Study
from xpronet.labels.conditions import BLANK, CONDITIONS, NEGATIVE, POSITIVE, UNCERTAIN

# MIMIC-CXR's published labels: the columns of mimic-cxr-2.0.0-chexpert.csv, No Finding moved to the end (row 19).
ALPHABETICAL = (*sorted(CONDITIONS[:-1]), CONDITIONS[-1])
ORDERS = {"chexbert": CONDITIONS, "alphabetical": ALPHABETICAL}


def in_our_order(values: np.ndarray, order: Literal["chexbert", "alphabetical"]) -> np.ndarray:
    """What was published per class along the first axis, in the order of CONDITIONS (row 19)."""
    return values[[ORDERS[order].index(condition) for condition in CONDITIONS]]


def write_labels(path: str | Path, studies: Sequence[Study], values: np.ndarray) -> None:
    """One row per study: id, split, and the (N, 14) values; whole numbers without a point, others with 6 digits."""
    with replacing(path) as beside, open(beside, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "split", *CONDITIONS])
        for study, row in zip(studies, values, strict=True):
            writer.writerow([study.id, study.split, *(f"{value:.6f}".rstrip("0").rstrip(".") for value in row)])


def read_labels(path: str | Path, studies: Sequence[Study], *, order: Literal["chexbert", "alphabetical"] = "chexbert"):
    """Labels of the studies (N, 14) float32 in the order of CONDITIONS, from a .csv, .json or .pickle / .pkl file.

    A study's row is found by its id or, as in the published IU-Xray files, by the first two parts of it. `order` is the
    class order of a pickle, which does not say it.

    Raises:
        ValueError: the file is missing or of another form, or studies lack labels between 0 and 1; all are listed.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such label file")
    if path.suffix == ".csv":
        conditions, rows = _read_csv(path)
    elif path.suffix == ".json":
        content = read_json(path)
        if not isinstance(content, dict) or set(content) != {"conditions", "labels"}:
            raise ValueError(f"{path}: expected an object with conditions and labels")
        conditions, rows = content["conditions"], content["labels"]
    elif path.suffix in (".pickle", ".pkl"):
        conditions, rows = ORDERS[order], _read_pickle(path)
    else:
        raise ValueError(f"{path}: labels come as .csv, .json or .pickle")
    if sorted(conditions) != sorted(CONDITIONS):
        raise ValueError(
            f"{path}: its conditions are not the 14 CheXpert observations: {', '.join(map(str, conditions))}"
        )
    columns = [list(conditions).index(condition) for condition in CONDITIONS]
    problems, values = [], np.zeros((len(studies), len(CONDITIONS)), np.float32)
    for position, study in enumerate(studies):
        row = rows.get(study.id, rows.get("-".join(study.id.split("-")[:2])))
        if row is None:
            problems.append(f"no labels for study {study.id}")
            continue
        try:
            values[position] = np.asarray(row, dtype=np.float32)[columns]
        except (ValueError, TypeError, IndexError):
            problems.append(f"study {study.id}: expected {len(CONDITIONS)} numbers, got {row!r}")
            continue
        if not ((values[position] >= 0) & (values[position] <= 1)).all():
            problems.append(f"study {study.id}: labels must lie between 0 and 1: {row!r}")
    raise_all(path, problems)
    return values


def is_chexpert_table(path: str | Path) -> bool:
    """Whether a file is one of MIMIC-CXR-JPG's tables of labels, `mimic-cxr-2.0.0-chexpert.csv.gz` or `…-negbio…`."""
    return str(path).endswith((".csv", ".csv.gz")) and "mimic-cxr" in Path(path).name


def read_chexpert_table(path: str | Path, studies: Sequence[Study]) -> np.ndarray:
    """Labeller classes (N, 14) of the studies by `study_id`: 1.0, 0.0, -1.0 and blank as PhysioNet has them.

    Raises:
        ValueError: the file is missing or of another form, or studies have no row; all are listed.
    """
    meaning = {"1.0": POSITIVE, "0.0": NEGATIVE, "-1.0": UNCERTAIN, "": BLANK}
    rows, problems = {}, []
    for line, row in read_table(path, ("study_id", *CONDITIONS)):
        try:
            rows[row["study_id"]] = [meaning[row[condition]] for condition in CONDITIONS]
        except KeyError as error:
            problems.append(f"line {line}: {error} is none of 1.0, 0.0, -1.0 and blank")
    missing = dict.fromkeys(study.study_id or study.id for study in studies if study.study_id not in rows)
    raise_all(path, problems + [f"no labels for study {id}" for id in missing])
    return np.array([rows[study.study_id] for study in studies]).reshape(-1, len(CONDITIONS))


def _read_csv(path: Path) -> tuple[Sequence[str], Mapping[str, Any]]:
    rows = read_table(path, ("id", *CONDITIONS))
    return CONDITIONS, {row["id"]: [row[condition] for condition in CONDITIONS] for _, row in rows}


class _Whitelist(pickle.Unpickler):
    """Dicts, lists and numbers need no class; NumPy arrays and scalars need these few. Anything else is refused."""

    ALLOWED = {
        ("collections", "OrderedDict"),
        ("_codecs", "encode"),  # how protocol 2 writes the bytes of an array
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
        *((f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
    }

    def find_class(self, module: str, name: str):
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"it wants {module}.{name}, and label files hold only numbers")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def _read_pickle(path: Path) -> Mapping[str, Any]:
    try:
        content = _Whitelist(io.BytesIO(path.read_bytes())).load()
    except (pickle.UnpicklingError, EOFError, ValueError, IndexError, KeyError, AttributeError, TypeError) as error:
        raise ValueError(f"{path}: not a label pickle: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a pickled dict of id -> 14 numbers, got {type(content).__name__}")
    return content
