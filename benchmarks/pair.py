"""Two processes of one thread each against one process of two: training steps of ResNet-101 at full size.

`python -m benchmarks.pair N` is one side: it prints the images per second of N processes that share two threads.
"""

import subprocess
import sys
import time

import torch

from benchmarks.measure import at_least
from benchmarks.setting import BATCH, OBJECTIVE, VIEWS, model
from benchmarks.training import PARAMS, whole_batch
from xpronet.common.processes import together
from xpronet.common.shares import Share, synchronise
from xpronet.training.loop import optimiser, step
from xpronet.training.params import TrainParams

THREADS, STEPS = 2, 2


def rows() -> list[dict]:
    one, two = (side(processes) for processes in (1, 2))
    return [at_least("two processes of one thread beside one of two", two, one, 0.9, "images/s")]


def side(processes: int) -> float:
    command = [sys.executable, "-m", "benchmarks.pair", str(processes)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def main(processes: int) -> None:
    with together(processes, torch.device("cpu"), threads=THREADS // processes) as group:
        network = model().train()
        if group.size > 1:
            synchronise(network)
        adam, share = optimiser(network, TrainParams(**PARAMS, precision="float32")), Share.of(group, BATCH)
        part = whole_batch(frozen=False).part(share.start, share.stop)

        def work() -> None:
            step(network, adam, part, OBJECTIVE, "float32", share=share)

        work()
        group.wait()
        started = time.perf_counter()
        for _ in range(STEPS):
            work()
        group.wait()
        if group.first:
            print(STEPS * BATCH * VIEWS / (time.perf_counter() - started))


if __name__ == "__main__":
    main(int(sys.argv[1]))
