"""One training step (forward, losses, backward, optimiser) against forward and backward of the bare ResNet-101.

And a step from a frozen extractor's stored patch features against a whole one.
"""

from collections.abc import Callable

import torch

from benchmarks.measure import alternate, at_least, at_most
from benchmarks.setting import BATCH, CONFIG, OBJECTIVE, VIEWS, labels, model, pixels, tokens
from xpronet.common.devices import autocast
from xpronet.data.dataset import Batch
from xpronet.data.pack import normalise
from xpronet.encoders.backbones import WIDTH
from xpronet.model.visual import VisualExtractor
from xpronet.training.loop import optimiser, step
from xpronet.training.params import TrainParams

PARAMS = {
    "epochs": 1,
    "batch_size": BATCH,
    "lr_visual": 1e-4,
    "lr": 1e-4,
    "optimiser": "adam",
    "weight_decay": 5e-5,
    "schedule": "steps",
    "lr_decay": 0.8,
    "lr_step": 10,
    "warmup_epochs": 0,
    "clip_norm": None,
    "nonfinite": "stop",
    "freeze_epochs": 0,
    "crops": 1,
    "val_beam_size": 3,
    "val_max_length": 60,
}
PATCHES = 7 * 7
MUST = {"float32": 1.2, "bf16": 1.3}


def rows(repeats: int = 3) -> list[dict]:
    found = [
        at_most(f"training step, {precision}", *alternate(ours(precision), bare(precision), repeats=repeats), must)
        for precision, must in MUST.items()
    ]
    frozen, whole = alternate(ours("float32", frozen=True), ours("float32"), repeats=repeats)
    return [*found, at_least("training step from stored patch features", 1 / frozen, 1 / whole, 10, "steps/s")]


def ours(precision: str, *, frozen: bool = False) -> Callable[[], None]:
    params = TrainParams(**PARAMS, precision=precision)
    network = model().train()
    network.visual.freeze(frozen)
    adam = optimiser(network, params)
    batch = Batch(
        pixels=torch.rand(BATCH, VIEWS, PATCHES, WIDTH[CONFIG.backbone]) if frozen else pixels(),
        views=torch.ones(BATCH, VIEWS, dtype=torch.bool),
        tokens=tokens(),
        labels=labels(BATCH),
        positions=torch.arange(BATCH),
    )
    return lambda: step(network, adam, batch, OBJECTIVE, precision)


def bare(precision: str) -> Callable[[], None]:
    network = VisualExtractor(CONFIG.backbone).train()
    images = normalise(pixels().flatten(0, 1)).contiguous(memory_format=torch.channels_last)

    def run() -> None:
        network.zero_grad()
        with autocast(torch.device("cpu"), precision):
            features = network(images)
        features.float().mean().backward()

    return run
