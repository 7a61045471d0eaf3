"""One training step (forward, losses, backward, optimiser) against forward and backward of the bare ResNet-101.

A step from a frozen extractor's stored patch features against a whole one. And what an epoch's saved states cost.
"""

import tempfile
from collections.abc import Callable
from itertools import count
from pathlib import Path

import torch

from benchmarks.measure import alternate, at_least, at_most
from benchmarks.setting import BATCH, CONFIG, OBJECTIVE, VIEWS, labels, model, pixels, tokens
from xpronet.common.course import Course
from xpronet.common.devices import autocast
from xpronet.common.params import load_yaml
from xpronet.common.states import States
from xpronet.data.dataset import Batch
from xpronet.data.pack import normalise
from xpronet.encoders.backbones import WIDTH
from xpronet.model.visual import VisualExtractor
from xpronet.training.loop import optimiser, step
from xpronet.training.params import TrainParams

PRESET = load_yaml(Path("presets/iu_xray.yaml"))["train"]
PARAMS = TrainParams(**PRESET | {"lr_visual": 1e-4, "lr": 1e-4})
PATCHES = 7 * 7
STEPS = 130  # of an epoch over the 2,069 studies of IU-Xray's train split
MINUTES = 10  # runtime.save_minutes
MUST = {"float32": 1.1, "bf16": 1.2}


def rows(repeats: int = 3) -> list[dict]:
    found = [
        at_most(f"training step, {precision}", *alternate(ours(precision), bare(precision), repeats=repeats), must)
        for precision, must in MUST.items()
    ]
    frozen, whole = alternate(ours("float32", frozen=True), ours("float32"), repeats=repeats)
    return [
        *found,
        at_least("training step from stored patch features", 1 / frozen, 1 / whole, 10, "steps/s"),
        saved_states(repeats),
    ]


def saved_states(repeats: int) -> dict:
    """One after the epoch, with the best weights so far, and one per MINUTES, against the epoch's steps."""
    network, device = model().train(), torch.device("cpu")
    adam = optimiser(network, PARAMS)
    schedule = torch.optim.lr_scheduler.LambdaLR(adam, lambda step: 1.0)
    batch, epochs = whole_batch(frozen=False), count()
    with tempfile.TemporaryDirectory() as folder, States(folder, {}, minutes=MINUTES) as states:
        course = Course(network, adam, schedule, device=device, states=states)
        saving, stepping = alternate(
            lambda: course.finish_epoch({}, next(epochs), network.state_dict()),
            lambda: step(network, adam, batch, OBJECTIVE, "float32"),
            repeats=repeats,
        )
    epoch = STEPS * stepping
    return at_most("saved states of an epoch", (1 + epoch // (60 * MINUTES)) * saving, epoch, 0.02)


def ours(precision: str, *, frozen: bool = False) -> Callable[[], None]:
    params = PARAMS.model_copy(update={"precision": precision})
    network = model().train()
    network.visual.freeze(frozen)
    adam = optimiser(network, params)
    batch = whole_batch(frozen=frozen)
    return lambda: step(network, adam, batch, OBJECTIVE, precision)


def whole_batch(*, frozen: bool) -> Batch:
    return Batch(
        pixels=torch.rand(BATCH, VIEWS, PATCHES, WIDTH[CONFIG.backbone]) if frozen else pixels(),
        views=torch.ones(BATCH, VIEWS, dtype=torch.bool),
        tokens=tokens(),
        labels=labels(BATCH),
        positions=torch.arange(BATCH),
    )


def bare(precision: str) -> Callable[[], None]:
    network = VisualExtractor(CONFIG.backbone).train()
    images = normalise(pixels().flatten(0, 1)).contiguous(memory_format=torch.channels_last)

    def run() -> None:
        network.zero_grad()
        with autocast(torch.device("cpu"), precision):
            features = network(images)
        features.float().mean().backward()

    return run
