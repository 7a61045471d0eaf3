"""Files that are either whole or not there: write beside, then rename."""

import csv
import gzip
import json
import os
import shutil
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TEXT = "utf-8-sig"  # how users' files are read: Windows' programs begin them with a byte order mark


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a path beside `path` (same suffix) to write a file or folder to; it takes its place only on success."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.stem}.part{path.suffix}")
    _remove(beside)  # of a run that was killed
    try:
        yield beside
        if path.is_dir():
            shutil.rmtree(path)
        os.replace(beside, path)
    finally:
        _remove(beside)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_json(path: str | Path, content: Any) -> None:
    with replacing(path) as beside:
        beside.write_text(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def read_text(path: str | Path) -> str:
    """UTF-8, with or without the byte order mark that Windows' programs write; ValueError, one line, for others."""
    try:
        return Path(path).read_text(encoding=TEXT)
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not text in UTF-8: {error}") from None


def read_json(path: str | Path) -> Any:
    """Raise ValueError, one line, where the file is missing or is not JSON."""
    text = read_text(path)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not JSON: {error}") from None


def read_table(path: str | Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """(line number, row) of a .csv or .csv.gz, which may have other columns too.

    Raises:
        ValueError: no such file, not a table, or columns that are missing.
    """
    path = Path(path)
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", newline="", encoding=TEXT) as file:
            table = csv.DictReader(file, restval="")
            missing = [column for column in columns if column not in (table.fieldnames or ())]
            if missing:
                raise ValueError(f"{path}: no column {', '.join(missing)}")
            for row in table:
                yield table.line_num, row
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: not a whole table: {error}") from None


def raise_all(where: str | Path, problems: list[str]) -> None:
    """Raise one ValueError that names every problem of a file, a line each; do nothing where there is none."""
    if len(problems) == 1:
        raise ValueError(f"{where}: {problems[0]}")
    if problems:
        raise ValueError("\n  ".join([f"{where}: {len(problems)} problems", *problems]))
