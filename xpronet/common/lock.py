"""One at a time: a lock that the kernel takes back when its process ends, however it ends."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def alone(path: str | Path, *, name: str, refused: str) -> Iterator[None]:
    """Hold `path` while the block runs; it stays behind, and says nothing once its process is gone.

    A record lock: no process that is forked meanwhile holds it too, so a killed run's data loaders keep nobody away.

    Args:
        name: what this process is, for those that come while it runs.
        refused: what a second one is told, before the process that is in its way.

    Raises:
        ValueError: a living process holds it; the line has its id.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+", encoding="utf-8") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            file.seek(0)
            raise ValueError(f"{refused}: {file.read().strip() or 'a process'}: wait for it, or end it first") from None
        file.truncate(0)
        file.write(f"process {os.getpid()}, {name}\n")
        file.flush()
        yield
