"""What every stage does: log, keep a second one away, and turn a user's mistake into one line."""

import logging
import os
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from xpronet.common.lock import alone
from xpronet.common.shortage import explain


def run(main: Callable[[], None], *, together: bool = False) -> None:
    """Run a stage; set XPRONET_DEBUG=1 to see where a mistake was noticed.

    Args:
        together: whether several processes, as a launcher starts them, can be one run of this stage.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    started = time.monotonic()
    rank, others = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1)) - 1
    if others and not together:
        sys.exit(f"{_command()} is for one process, and is one of {others + 1} here: start it without a launcher")
    who = f"process {rank + 1} of {others + 1}: " if others else ""
    try:
        with nullcontext() if rank else only_one():
            main()
        logging.info("done in %.0f s", time.monotonic() - started)
    except KeyboardInterrupt:
        sys.exit("interrupted; nothing half-written is left, run it again")
    except (ValueError, OSError) as error:  # a mistake of the user's
        if os.environ.get("XPRONET_DEBUG"):
            raise
        sys.exit(f"{who}{error}")
    except (MemoryError, RuntimeError) as error:  # a machine that lacks something, or a mistake of ours
        line = explain(error)
        if line is None or os.environ.get("XPRONET_DEBUG"):
            raise
        sys.exit(f"{who}{line}")


def only_one() -> AbstractContextManager[None]:
    """A killed dvc leaves its stage running: refuse to start a second one in the same folder.

    Raises:
        ValueError: a stage runs; the line has the process's id.
    """
    return alone(
        "data/.lock",
        name=_command(),
        refused="another stage is still running in this folder",
    )


def _command() -> str:
    return f"`python -m stages.{Path(sys.argv[0]).stem}`"
