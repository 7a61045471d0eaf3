"""What a machine lacks, in a line: memory, or processes that load data and were killed for want of it."""

_LESS = (
    "lower train.batch_size or classifier.batch_size, runtime.batch_size where nothing is learnt, or sizes as "
    "n_prototypes, model.d_model, images.crop"
)
_WORKERS = f"{_LESS}, or runtime.workers: 0 loads data in the main process"

# What PyTorch says, all of it as RuntimeError -> what it means and what to do.
_SAID = (
    ("DataLoader worker (pid", "a process that loads data has died, perhaps for want of memory", _WORKERS),
    ("DataLoader timed out", "a process that loads data has not answered", _WORKERS),
    ("shared memory(shm)", "no room in /dev/shm, through which processes share weights", "set runtime.processes=1"),
    ("out of memory", "out of memory", _LESS),
    ("can't allocate memory", "out of memory", _LESS),
    ("ALLOC_FAILED", "out of memory", _LESS),
)


def explain(error: MemoryError | RuntimeError) -> str | None:
    """The line for the user; None where the error is a mistake of ours."""
    text = " ".join(str(error).split())
    for said, means, help in _SAID:
        if said in text and not isinstance(error, MemoryError):
            return f"{means} ({text[:200]}): {help}"
    return f"out of memory ({text[-200:] or 'of the machine'}): {_LESS}" if isinstance(error, MemoryError) else None
