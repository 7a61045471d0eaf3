"""Labels as our own CSV: a row per study with its id, its split and the 14 values."""

import csv
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xpronet.common.files import keyed, raise_all, read_table, replacing
from xpronet.data.studies import SPLITS, Study
from xpronet.labels.conditions import CONDITIONS

logger = logging.getLogger(__name__)


def write_labels(path: str | Path, studies: Sequence[Study], values: np.ndarray) -> None:
    """One row per study: id, split, and the (N, 14) values; whole numbers without a point, others with 6 digits."""
    with replacing(path) as beside, open(beside, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "split", *CONDITIONS])
        for study, row in zip(studies, values, strict=True):
            writer.writerow([study.id, study.split, *(f"{value:.6f}".rstrip("0").rstrip(".") for value in row)])


def read_labels(path: str | Path, studies: Sequence[Study]) -> np.ndarray:
    """Labels of the studies (N, 14) float32 in the order of CONDITIONS, from a .csv.

    Raises:
        ValueError: the file is missing or of another form, or studies lack labels between 0 and 1; they are listed.
    """
    values = of_studies(path, read_rows(path), studies)
    wrong = ~((values >= 0) & (values <= 1)).all(axis=1)
    raise_all(path, [f"study {studies[row].id}: labels must lie between 0 and 1" for row in np.flatnonzero(wrong)])
    return values.astype(np.float32)


def read_rows(path: str | Path) -> dict[str, list[str]]:
    """The 14 cells of each id in the order of CONDITIONS, blank ones as "nan"; errors as `read_labels`."""
    table = read_table(path, ("id", *CONDITIONS))
    return keyed(path, ((line, row["id"], [row[name].strip() or "nan" for name in CONDITIONS]) for line, row in table))


def of_studies(
    path: str | Path,
    rows: Mapping[str, Any],
    studies: Sequence[Study],
    *,
    columns: Sequence[int] = range(14),
    by_prefix: bool = False,
) -> np.ndarray:
    """Rows of 14 values by id as values (N, 14) float64 of studies, NaN where one is blank.

    Args:
        columns: where each of CONDITIONS stands.
        by_prefix: a study without a row takes that of the first two parts of its id, as the published IU-Xray labels
            want it; a line in the log counts them.

    Raises:
        ValueError: studies without a row, or rows that are not 14 numbers; they are listed.
    """
    missing, problems, found, values = [], [], [], np.zeros((len(studies), len(CONDITIONS)))
    for position, study in enumerate(studies):
        row, prefix = rows.get(study.id), "-".join(study.id.split("-")[:2])
        if row is None and by_prefix and prefix in rows:
            row = rows[prefix]
            found.append(study.id)
        if row is None:
            missing.append(f"no labels for study {study.id}")
            continue
        try:
            numbers = np.asarray(list(row), dtype=np.float64)
        except (ValueError, TypeError, OverflowError):
            numbers = np.zeros(0)
        if isinstance(row, str) or numbers.shape != (len(CONDITIONS),):
            problems.append(f"study {study.id}: expected {len(CONDITIONS)} numbers, got {row!r}")
            continue
        values[position] = numbers[columns]
    if len(missing) == len(studies) > 1:
        raise ValueError(
            f"{path}: no labels for any of {len(studies)} studies, {studies[0].id} first: is it of this dataset?"
        )
    raise_all(path, missing + problems)
    if found:
        logger.info(
            "%s: %d of %d studies take the labels of the first two parts of their id, %s first",
            *(path, len(found), len(studies), found[0]),
        )
    return values


def prevalence(studies: Sequence[Study], labels: np.ndarray) -> dict[str, dict[str, int]]:
    """Studies that carry each observation, by split and name, of labels (N, 14) 0/1."""
    splits = np.array([study.split for study in studies])
    counts = {split: (labels[splits == split] > 0).sum(axis=0) for split in SPLITS}
    return {split: {name: int(n) for name, n in zip(CONDITIONS, row, strict=True)} for split, row in counts.items()}
