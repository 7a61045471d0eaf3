"""Labels that others have published: JSON, CSV, pickles through a whitelist, and PhysioNet's tables of MIMIC-CXR."""

import io
import pickle
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xpronet.common.files import keyed, raise_all, read_json, read_table
from xpronet.data.studies import Study
from xpronet.labels.conditions import BLANK, CONDITIONS, NEGATIVE, ORDERS, POSITIVE, UNCERTAIN, Order
from xpronet.labels.table import of_studies, read_rows


def import_classes(
    path: str | Path, studies: Sequence[Study], *, order: Order = "chexbert", threshold: float | None = None
) -> np.ndarray:
    """Labeller classes (N, 14) of the studies in the order of CONDITIONS, from a .csv, .json or .pickle / .pkl file.

    Args:
        order: class order of a pickle, which does not say it.
        threshold: probability from which an observation is positive; None where the file holds CheXpert's values: 1, 0,
            -1 (uncertain) and blank (an empty cell, null or NaN).

    Raises:
        ValueError: the file is missing or of another form, studies lack labels (they are listed), or a value is none of
            these.
    """
    path = Path(path)
    if path.suffix == ".csv":
        return _classes(path, of_studies(path, read_rows(path), studies), studies, threshold)
    if path.suffix == ".json":
        content = read_json(path)
        if not isinstance(content, dict) or set(content) != {"conditions", "labels"}:
            raise ValueError(f"{path}: expected an object with conditions and labels")
        conditions, rows = content["conditions"], content["labels"]
        if not isinstance(conditions, list) or not all(isinstance(name, str) for name in conditions):
            raise ValueError(f"{path}: conditions: expected a list of the 14 names")
        if not isinstance(rows, dict):
            raise ValueError(f"{path}: labels: expected an object of id -> 14 numbers, got {type(rows).__name__}")
    elif path.suffix in (".pickle", ".pkl"):
        conditions, rows = ORDERS[order], _read_pickle(path)
    else:
        raise ValueError(f"{path}: labels come as .csv, .json or .pickle")
    if sorted(conditions) != sorted(CONDITIONS):
        raise ValueError(
            f"{path}: its conditions are not the 14 CheXpert observations: {', '.join(map(str, conditions))}"
        )
    columns = [list(conditions).index(condition) for condition in CONDITIONS]
    values = of_studies(path, rows, studies, columns=columns, by_prefix=True)
    return _classes(path, values, studies, threshold)


def _classes(path: Path, values: np.ndarray, studies: Sequence[Study], threshold: float | None) -> np.ndarray:
    """Values (N, 14) -> classes (N, 14) int64."""
    if threshold is None:
        rule, advice = "1, 0, -1 or blank", "if they are probabilities, set labels.threshold"
        meaning = [
            (values == 1, POSITIVE),
            (values == 0, NEGATIVE),
            (values == -1, UNCERTAIN),
            (np.isnan(values), BLANK),
        ]
    else:
        rule, advice = "a probability", f"labels.threshold {threshold:g} asks for values between 0 and 1"
        likely = values >= threshold
        meaning = [(likely & (values <= 1), POSITIVE), (~likely & (values >= 0), NEGATIVE)]
    where, which = zip(*meaning, strict=True)
    wrong = np.argwhere(~np.any(where, axis=0))
    if len(wrong):
        row, column = wrong[0]
        first = f"{values[row, column]:g} ({CONDITIONS[column]} of study {studies[row].id})"
        others = f", nor are {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise ValueError(f"{path}: {first} is not {rule}{others}: {advice}")
    return np.select(where, which)


def is_chexpert_table(path: str | Path) -> bool:
    """Whether a file is one of MIMIC-CXR-JPG's tables of labels, `mimic-cxr-2.0.0-chexpert.csv.gz` or `…-negbio…`."""
    return str(path).endswith((".csv", ".csv.gz")) and "mimic-cxr" in Path(path).name


def read_chexpert_table(path: str | Path, studies: Sequence[Study]) -> np.ndarray:
    """Labeller classes (N, 14) of the studies by `study_id`: 1.0, 0.0, -1.0 and blank as PhysioNet has them.

    Raises:
        ValueError: the file is missing or of another form, or studies have no row; they are listed.
    """
    meaning = {"1.0": POSITIVE, "0.0": NEGATIVE, "-1.0": UNCERTAIN, "": BLANK}
    problems = []

    def classes() -> Iterator[tuple[int, str, list[int]]]:
        for line, row in read_table(path, ("study_id", *CONDITIONS)):
            try:
                yield line, row["study_id"], [meaning[row[condition]] for condition in CONDITIONS]
            except KeyError as error:
                problems.append(f"line {line}: {error} is none of 1.0, 0.0, -1.0 and blank")

    rows = keyed(path, classes())
    missing = dict.fromkeys(study.study_id or study.id for study in studies if study.study_id not in rows)
    raise_all(path, problems + [f"no labels for study {id}" for id in missing])
    return np.array([rows[study.study_id] for study in studies]).reshape(-1, len(CONDITIONS))


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


# What damage raises in an unpickler, which reads a file as a program for a small machine.
_BROKEN = (
    pickle.UnpicklingError,
    RuntimeError,
    MemoryError,
    SystemError,
    ArithmeticError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    ImportError,
    EOFError,
)


def _read_pickle(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise ValueError(f"{path}: no such label file")
    try:
        content = _Whitelist(io.BytesIO(path.read_bytes())).load()
    except _BROKEN as error:
        raise ValueError(f"{path}: not a label pickle: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a pickled dict of id -> 14 numbers, got {type(content).__name__}")
    return content
