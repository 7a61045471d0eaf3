"""Threads that compute: how they wait for each other, and how many a process has. Imports no PyTorch by itself."""

import os

SPINS = "500"  # some 10 µs


def wait_asleep() -> None:
    """Let threads of OpenMP sleep while they wait, but for a moment, in this process and those that it starts.

    By themselves they spin for long, which takes the cores from the very threads that they wait for as soon as another
    program computes too. Where they sleep at once, small operations take twice as long: the next follows before they
    are asleep. OpenMP reads it when it is loaded: call this before PyTorch is imported. What the user has set stands.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)


def take(threads: int | None) -> None:
    """Compute with as many threads in this process; None: as PyTorch has it, one a core or OMP_NUM_THREADS."""
    if threads is not None:
        import torch  # which costs seconds, and not every stage needs

        torch.set_num_threads(threads)
