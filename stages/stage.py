"""What every stage does: log, keep a second one away, and turn a user's mistake into one line."""

import fcntl
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from xpronet.common.shortage import explain


def run(main: Callable[[], None]) -> None:
    """Run a stage; set XPRONET_DEBUG=1 to see where a mistake was noticed."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    started = time.monotonic()
    try:
        with only_one():
            main()
        logging.info("done in %.0f s", time.monotonic() - started)
    except KeyboardInterrupt:
        sys.exit("interrupted; nothing half-written is left, run it again")
    except (ValueError, OSError) as error:  # a mistake of the user's
        if os.environ.get("XPRONET_DEBUG"):
            raise
        sys.exit(str(error))
    except (MemoryError, RuntimeError) as error:  # a machine that lacks something, or a mistake of ours
        line = explain(error)
        if line is None or os.environ.get("XPRONET_DEBUG"):
            raise
        sys.exit(line)


@contextmanager
def only_one() -> Iterator[None]:
    """A killed dvc leaves its stage running: refuse to start a second one in the same folder."""
    path = Path("data/.lock")
    path.parent.mkdir(exist_ok=True)
    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                "another stage is still running in this folder: end its `python -m stages.…` first"
            ) from None
        yield
