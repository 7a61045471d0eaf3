"""A training step beside another program of as many threads, which does the same, against the step alone.

Threads that wait asleep leave their core to those that work (xpronet/common/threads.py). What it is when they spin for
long, as PyTorch has it by itself: `GOMP_SPINCOUNT=300000 python -m benchmarks beside`.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.measure import alternate, at_most
from xpronet.encoders.backbones import resnet

ROOT = Path(__file__).resolve().parents[1]
IMAGES, SIZE = 16, 96


def rows(repeats: int = 15) -> list[dict]:
    run, threads = step(), torch.get_num_threads()
    other = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.beside", str(threads)], cwd=ROOT, stdout=subprocess.PIPE
    )
    try:
        other.stdout.readline()  # it has begun

        def beside() -> None:
            os.kill(other.pid, signal.SIGCONT)
            run()
            os.kill(other.pid, signal.SIGSTOP)

        times = alternate(beside, run, repeats=repeats)
    finally:
        other.kill()
        other.wait()
    return [at_most(f"ResNet-18 step beside {threads} other threads", *times, 2)]


def step() -> Callable[[], None]:
    network, images = resnet("resnet18", classes=14), torch.rand(IMAGES, 3, SIZE, SIZE)
    adam = torch.optim.Adam(network.parameters())

    def run() -> None:
        adam.zero_grad()
        network(images).square().mean().backward()
        adam.step()

    return run


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[1]))
    again = step()
    again()
    print("begun", flush=True)
    while True:
        again()
