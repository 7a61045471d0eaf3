"""Labels as our own CSV: a row per study with its id, its split and the 14 values."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xpronet.common.files import keyed, raise_all, read_table, replacing
from xpronet.data.studies import SPLITS, Study
from xpronet.labels.conditions import CONDITIONS


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
        ValueError: the file is missing or of another form, or studies lack labels between 0 and 1; all are listed.
    """
    table = read_table(path, ("id", *CONDITIONS))
    rows = keyed(path, ((line, row["id"], [row[condition] for condition in CONDITIONS]) for line, row in table))
    return of_studies(path, rows, studies)


def of_studies(
    path: str | Path, rows: Mapping[str, Any], studies: Sequence[Study], *, columns: Sequence[int] = range(14)
) -> np.ndarray:
    """Rows of 14 values by id as the labels (N, 14) float32 of studies; `columns`: where each of CONDITIONS stands.

    A study's row is found by its id or, as in the published IU-Xray files, by the first two parts of it. Errors as
    `read_labels`.
    """
    problems, values = [], np.zeros((len(studies), len(CONDITIONS)), np.float32)
    for position, study in enumerate(studies):
        row = rows.get(study.id, rows.get("-".join(study.id.split("-")[:2])))
        if row is None:
            problems.append(f"no labels for study {study.id}")
            continue
        try:
            numbers = np.asarray(list(row), dtype=np.float32)
        except (ValueError, TypeError):
            numbers = np.zeros(0)
        if isinstance(row, str) or numbers.shape != (len(CONDITIONS),):
            problems.append(f"study {study.id}: expected {len(CONDITIONS)} numbers, got {row!r}")
            continue
        values[position] = numbers[columns]
        if not ((values[position] >= 0) & (values[position] <= 1)).all():
            problems.append(f"study {study.id}: labels must lie between 0 and 1: {row!r}")
    raise_all(path, problems)
    return values


def prevalence(studies: Sequence[Study], labels: np.ndarray) -> dict[str, dict[str, int]]:
    """Studies that carry each observation, by split and name, of labels (N, 14) 0/1."""
    splits = np.array([study.split for study in studies])
    counts = {split: (labels[splits == split] > 0).sum(axis=0) for split in SPLITS}
    return {split: {name: int(n) for name, n in zip(CONDITIONS, row, strict=True)} for split, row in counts.items()}
