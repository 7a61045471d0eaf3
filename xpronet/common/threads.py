"""Threads that compute: how they wait for each other, and how many a process has. Imports no PyTorch by itself."""

import os


def wait_asleep() -> None:
    """Let threads of OpenMP sleep while they wait, in this process and those that it starts.

    Otherwise they spin, which gains nothing and takes the cores from the very threads that they wait for as soon as
    another program computes too. OpenMP reads it when it is loaded: call this before PyTorch is imported. What the
    user has set stands.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def take(threads: int | None) -> None:
    """Compute with as many threads in this process; None: as PyTorch has it, one a core or OMP_NUM_THREADS."""
    if threads is not None:
        import torch  # which costs seconds, and not every stage needs

        torch.set_num_threads(threads)
