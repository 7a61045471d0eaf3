"""Files that are either whole or not there: write beside, then rename."""

import csv
import errno
import gzip
import json
import math
import os
import re
import shutil
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

Value = TypeVar("Value")
LISTED = 20  # problems that a message names
TEXT = "utf-8-sig"  # how users' files are read: Windows' programs begin them with a byte order mark

_SURROGATE = re.compile(r"[\ud800-\udfff]")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class FullDisk(OSError):
    """No room for a file, and what was done stays: its text is for the user."""

    def __init__(self, path: str | Path, size: int | None, reason: str):
        """`size`: bytes that were wanted; None where nobody knows."""
        free = shutil.disk_usage(next(folder for folder in Path(path).absolute().parents if folder.is_dir())).free
        wanted = "" if size is None else f" for {size:,} bytes"
        super().__init__(f"{path}: no room{wanted}, {free:,} are free ({reason}): make room there, and run again")
        self.size, self.reason = size, reason


@contextmanager
def room(path: str | Path, size: int | None = None) -> Iterator[None]:
    """Around what writes `path`: raise FullDisk, with the bytes that were wanted, where the disk or a quota is full."""
    try:
        yield
    except FullDisk as error:  # of a part of it
        raise FullDisk(path, size or error.size, error.reason) from None
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise FullDisk(path, size, error.strerror) from None


def reserve(path: str | Path) -> None:
    """Take the space of a file of holes, as a memory-mapped one begins: a full disk would be a bus error later.

    Raises:
        FullDisk: there is not as much space.
    """
    size = Path(path).stat().st_size
    with room(path, size), open(path, "r+b") as file:
        if hasattr(os, "posix_fallocate"):  # macOS has none
            os.posix_fallocate(file.fileno(), 0, size)
        elif shutil.disk_usage(path).free < size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a path beside `path` (same suffix) to write a file or folder to; it takes its place only on success.

    Raises:
        ValueError: a file would take the place of a folder, whatever is in that, or its folder is none, or is not ours.
        FullDisk: the disk is full; nothing of the new file is left, and the old one stays.
    """
    path = Path(path)
    if not path.name:
        raise ValueError(f"{path}: a folder, in whose place nothing is written: name a file")
    beside = path.with_name(f".{path.stem}.part{path.suffix}")
    with room(path):
        with _named(path, path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
        _remove(beside)  # of a run that was killed
        try:
            with _named(path, beside):
                yield beside
            if path.is_dir():
                if not beside.is_dir():
                    raise ValueError(f"{path}: a folder, in whose place no file is written: name another, or remove it")
                shutil.rmtree(path)
            os.replace(beside, path)
        finally:
            _remove(beside)


@contextmanager
def _named(path: Path, place: Path) -> Iterator[None]:
    """Around what writes `path` at `place`: an error names the former, which the user knows, in one line."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL or not _within(error.filename, place):
            raise
        no_folder = isinstance(error, FileExistsError | NotADirectoryError)
        why = "a file stands where its folder would be" if no_folder else f"cannot be written there ({error.strerror})"
        raise ValueError(f"{path}: {why}: name another folder") from None


def _within(name: str | None, place: Path) -> bool:
    return isinstance(name, str) and (Path(name).is_relative_to(place) or place.is_relative_to(name))


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_json(path: str | Path, content: Any) -> None:
    """Raise ValueError, one line, where a number is not finite: JSON has no such numbers."""
    for key, value in _numbers(content):
        if not math.isfinite(value):
            raise ValueError(f"{path}: {key or 'content'} = {value}: no number that JSON has")
    text = f"{json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)}\n".encode()
    with replacing(path) as beside, room(path, len(text)):
        beside.write_bytes(text)


def _numbers(content: Any, key: str = "") -> Iterator[tuple[str, float]]:
    """(where it stands, as `test.BLEU_4` or `epochs.0.loss`, value) of each float."""
    if isinstance(content, float):
        yield key, content
    elif isinstance(content, dict | list | tuple):
        for name, value in content.items() if isinstance(content, dict) else enumerate(content):
            yield from _numbers(value, f"{key}.{name}".lstrip("."))


def read_text(path: str | Path) -> str:
    """UTF-8, with or without the byte order mark that Windows' programs write; ValueError, one line, for others."""
    try:
        return Path(path).read_text(encoding=TEXT)
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise ValueError(f"{path}: a folder: name the file in it") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: {_not_utf8(error)}") from None


def _not_utf8(error: UnicodeDecodeError) -> str:
    """What is wrong and what to do; the line is that of the part of the file which was read at a time."""
    return f"not text in UTF-8 ({error.reason}, byte {error.object[error.start]:#04x}): save it as UTF-8"


def read_json(path: str | Path) -> Any:
    """Raise ValueError, one line, where the file is missing, is not JSON, or says two things under one key."""
    text = read_text(path)
    try:
        return parse_json(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not JSON: {error}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def parse_json(text: str) -> Any:
    """Raise ValueError, one line, where the text is not JSON (JSONDecodeError) or says two things under one key.

    Or where it is nested beyond reason, or writes half of a character (`\\ud800`), which no file could hold again.
    """
    try:
        found = json.loads(text, object_pairs_hook=lambda pairs: _object(pairs, text))
    except RecursionError:
        raise ValueError("lists or objects within each other, beyond reason") from None
    half = re.search(r"\\ud[89a-f]", text, re.IGNORECASE) and _SURROGATE.search(json.dumps(found, ensure_ascii=False))
    if half:
        raise ValueError(f"half of a character, \\u{ord(half[0]):x}, without its other half: take it out")
    return found


def _object(pairs: list[tuple[str, Any]], text: str) -> dict[str, Any]:
    found = dict(pairs)
    for key, value in pairs if len(found) < len(pairs) else ():
        if value != found[key]:
            name = re.escape(json.dumps(key, ensure_ascii=False))
            lines = [text.count("\n", 0, match.start()) + 1 for match in re.finditer(rf"{name}\s*:", text)]
            where = f" in lines {lines[0]} and {lines[1]}" if len(lines) == 2 and "\n" in text else ""
            raise ValueError(f"{key!r} stands twice{where}, as {_short(value)} and as {_short(found[key])}: keep one")
    return found


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:60]}…"


def json_lines(text: str, where: str | Path) -> Iterator[tuple[int, Any]]:
    """(line number, record) of JSON lines; ValueError, one line, where one is not JSON. A text may hold U+2028."""
    for number, line in enumerate(text.rstrip("\n").split("\n"), start=1):
        try:
            yield number, parse_json(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{where}: line {number}: not JSON: {error}") from None
        except ValueError as error:
            raise ValueError(f"{where}: line {number}: {error}") from None


def keyed(where: str | Path, entries: Iterable[tuple[int, str, Value]]) -> dict[str, Value]:
    """(line, key, value) as a dict; a key may stand twice with the same value.

    Raises:
        ValueError: keys with two values, which are named with their lines.
    """
    found: dict[str, Value] = {}
    lines, problems = {}, []
    for line, key, value in entries:
        if found.setdefault(key, value) != value:
            problems.append(f"{key} stands in lines {lines[key]} and {line}, with different values: keep one")
        lines.setdefault(key, line)
    raise_all(where, problems)
    return found


def read_table(
    path: str | Path, columns: Sequence[str], *, one_of: Sequence[str] = ()
) -> Iterator[tuple[int, dict[str, str]]]:
    """(line number, row) of a .csv or .csv.gz, which may have other columns too.

    Args:
        one_of: names of one more column; the first that is there is meant.

    Raises:
        ValueError: no such file, not a table, columns that are missing or stand twice, or rows of another width.
    """
    path = Path(path)
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", newline="", encoding=TEXT) as file:
            table = csv.DictReader(file, strict=True)  # a quote that nothing closes would swallow the rest
            names = list(table.fieldnames or ())
            if one_of:
                columns = [*columns, next((name for name in one_of if name in names), " or ".join(one_of))]
            for count, what in ((0, "no column"), (2, "twice the column")):
                wrong = [column for column in columns if min(names.count(column), 2) == count]
                if wrong:
                    raise ValueError(f"{path}: {what} {', '.join(wrong)}{_columns(names)}")
            for row in table:
                if None in row or None in row.values():
                    raise ValueError(
                        f"{path}: line {table.line_num}: more or fewer cells than the {len(names)} columns"
                    )
                yield table.line_num, row
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: {_not_utf8(error)}") from None
    except (OSError, EOFError, zlib.error, csv.Error) as error:
        raise ValueError(f"{path}: not a whole table: {error}") from None


def _columns(names: Sequence[str]) -> str:
    if len(names) > 1:
        return f": there are {_short(', '.join(names))}"
    return f": its first line is {_short(names[0])}, without commas" if names else ": it is empty"


def raise_all(where: str | Path, problems: list[str], *, help: str = "") -> None:
    """Raise one ValueError that names the problems of a file, a line each; do nothing where there is none.

    Of many the first `LISTED` are named, and how many others there are; `help`: what to do.
    """
    if len(problems) == 1:
        raise ValueError(f"{where}: {problems[0]}{help and f'; {help}'}")
    if problems:
        head = f"{where}: {len(problems):,} problems{help and f'; {help}'}"
        others = len(problems) - LISTED
        more = [f"and {others:,} more"] if others > 0 else []
        raise ValueError("\n  ".join([head, *problems[:LISTED], *more]))
