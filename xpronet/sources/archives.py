"""Pictures out of a tar archive, safely: plain files of a plausible size that somebody asked for, and nothing else."""

import shutil
import tarfile
import unicodedata
import zlib
from collections.abc import Collection
from pathlib import Path

from xpronet.common.files import FullDisk, replacing, room

LARGEST_IMAGE = 2**28  # bytes
SUFFIXES = (".tar", ".tgz", ".tar.gz")


def is_archive(path: str | Path) -> bool:
    return str(path).endswith(SUFFIXES)


def extract(archive: str | Path, wanted: Collection[str], folder: str | Path) -> None:
    """Write the wanted members (by the last parts of their names) into `folder`; those that are there already stay.

    The names written are the wanted ones, so that no member decides on a path. Links, devices and members above
    256 MB are passed over; who needs them will miss them by name. What another archive has left there goes.

    Raises:
        ValueError: no such file, or not a whole archive.
        FullDisk: no room for what is in it; what is out already stays.
    """
    _empty_unless_of(archive, Path(folder))
    left = {_spelled(name): name for name in wanted if not (Path(folder) / name).is_file()}
    depths = sorted({name.count("/") + 1 for name in left})
    try:
        with tarfile.open(archive) as members:
            for member in members if left else ():
                parts = _spelled(member.name).split("/")
                name = next((tail for depth in depths if (tail := "/".join(parts[-depth:])) in left), None)
                if name is None or not member.isfile() or member.size > LARGEST_IMAGE:
                    continue
                path = Path(folder) / left.pop(name)
                with replacing(path) as beside, room(path, member.size), open(beside, "wb") as file:
                    shutil.copyfileobj(members.extractfile(member), file)
    except FullDisk:
        raise
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        raise ValueError(f"{archive}: not a whole archive: {str(error).partition(chr(10))[0]}") from None


def _spelled(name: str) -> str:
    """One of Unicode's two spellings of an accent: archives have either."""
    return unicodedata.normalize("NFC", name)


def _empty_unless_of(archive: str | Path, folder: Path) -> None:
    """Remove the folder unless it was filled from this very file, which a note in it tells."""
    try:
        status = Path(archive).stat()
    except FileNotFoundError:
        raise ValueError(f"{archive}: no such archive") from None
    identity, note = f"{archive} {status.st_size} {status.st_mtime_ns}", folder / ".archive"
    if not (note.is_file() and note.read_text() == identity):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        note.write_text(identity)
