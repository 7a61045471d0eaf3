"""Errors as one line: mistakes of the user, and what a machine lacks, as memory or processes that load data."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_LESS = (
    "raise train.accumulate or set train.checkpointing=true, which keep the result; else lower train.batch_size or "
    "classifier.batch_size, runtime.batch_size where nothing is learnt, or sizes as n_prototypes, model.d_model, "
    "images.crop"
)
_MEMORY = ("out of memory", "can't allocate memory", "ALLOC_FAILED")  # as PyTorch says it
_WORKERS = f"{_LESS}, or runtime.workers: 0 loads data in the main process"

# What PyTorch says, all of it as RuntimeError -> what it means and what to do.
_SAID = (
    ("DataLoader worker (pid", "a process that loads data has died, perhaps for want of memory", _WORKERS),
    ("DataLoader timed out", "a process that loads data has not answered", _WORKERS),
    *((said, "out of memory", _LESS) for said in _MEMORY),
)


@contextmanager
def memory_for(what: str, advice: str) -> Iterator[None]:
    """Around what can ask for more memory than there is: ValueError, one line, that names it and what to change."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        text = " ".join(str(error).split())
        if not isinstance(error, MemoryError) and not any(said in text for said in _MEMORY):
            raise
        raise ValueError(f"{what}: out of memory ({text[:200] or 'of the machine'}): {advice}") from error


@contextmanager
def one_line(who: str = "") -> Iterator[None]:
    """Around a program: what a user can mend ends it with a line; XPRONET_DEBUG=1 shows where it was noticed."""
    try:
        yield
    except (ValueError, OSError, MemoryError, RuntimeError) as error:
        line = str(error) if isinstance(error, ValueError | OSError) else explain(error)
        if line is None or os.environ.get("XPRONET_DEBUG"):
            raise
        sys.exit(f"{who}{line}")


def explain(error: MemoryError | RuntimeError) -> str | None:
    """The line for the user; None where the error is a mistake of ours."""
    text = " ".join(str(error).split())
    for said, means, help in _SAID:
        if said in text and not isinstance(error, MemoryError):
            return f"{means} ({text[:200]}): {help}"
    return f"out of memory ({text[-200:] or 'of the machine'}): {_LESS}" if isinstance(error, MemoryError) else None
