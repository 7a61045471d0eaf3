"""Two processes of one thread each against one process of two, on two cores.

They share the training of ResNet-101 at full size; or each trains a small model of its own, as two experiments do.
`python -m benchmarks.pair shared 2` is one side: it prints the images per second of two processes that share two
threads. `python -m benchmarks.pair alone 1` prints the steps per second of one that has one thread.
"""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.measure import at_least
from benchmarks.setting import BATCH, CONFIG, OBJECTIVE, VIEWS, model
from benchmarks.systems import batch, stepping
from benchmarks.training import PARAMS, whole_batch
from xpronet.common.params import load_yaml
from xpronet.common.processes import together
from xpronet.common.shares import Share, synchronise
from xpronet.encoders.backbones import WIDTH
from xpronet.model.xpronet import ModelConfig, XProNet
from xpronet.training.loop import optimiser, step

THREADS, STEPS = 2, 2
SMALL_STEPS, PATCHES = 40, 9  # of images of 96 pixels
PRESET = Path("presets/phantom.yaml")


def rows() -> list[dict]:
    one, two = (sides("shared", processes, 1) for processes in (1, 2))
    shared = at_least("two processes of one thread beside one of two", two, one, 0.9, "images/s")
    after, beside = sides("alone", 2, 1), sides("alone", 1, 2)
    return [shared, at_least("two small trainings at a time, one thread each", beside, after, 1, "steps/s")]


def sides(kind: str, number: int, count: int) -> float:
    """What `count` of these commands, started together, print: their sum."""
    command = [sys.executable, "-m", "benchmarks.pair", kind, str(number)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(count)]
    printed = [each.communicate()[0] for each in running]
    if any(each.returncode for each in running):
        raise RuntimeError(f"{' '.join(command)} failed")
    return sum(float(text.split()[-1]) for text in printed)


def shared(processes: int) -> float:
    """Images per second of `processes` that share THREADS; 0 of the others than the first."""
    with together(processes, torch.device("cpu"), threads=THREADS // processes) as group:
        network = model().train()
        if group.size > 1:
            synchronise(network)
        adam, share = optimiser(network, PARAMS), Share.of(group, BATCH)
        part = whole_batch(frozen=False).part(share.start, share.stop)
        seconds = timed(lambda: step(network, adam, part, OBJECTIVE, "float32", share=share), STEPS, group.wait)
        return STEPS * BATCH * VIEWS / seconds if group.first else 0


def alone(threads: int) -> float:
    """Steps per second of a model of the phantom's size from stored patch features."""
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    preset = load_yaml(PRESET)
    sizes = {name: preset["model"][name] for name in ("backbone", "d_model", "d_ff", "heads", "layers")}
    sizes |= {name: preset[name] for name in ("gamma", "n_prototypes")}
    work = stepping(
        XProNet(ModelConfig(vocab_size=CONFIG.vocab_size, **sizes)), batch(PATCHES, WIDTH[sizes["backbone"]])
    )
    return SMALL_STEPS / timed(work, SMALL_STEPS)


def timed(work: Callable[[], object], times: int, wait: Callable[[], None] = lambda: None) -> float:
    """Seconds of so many, after one that warms up."""
    work()
    wait()
    started = time.perf_counter()
    for _ in range(times):
        work()
    wait()
    return time.perf_counter() - started


if __name__ == "__main__":
    kind, number = sys.argv[1:]
    if found := {"shared": shared, "alone": alone}[kind](int(number)):
        print(found)
