"""The embedded dataset: procedural chest radiographs and the reports that belong to them.

Nobody's picture and nobody's words: a clinical state is sampled (`state`), drawn (`frontal`, `lateral`, `signs`,
`devices`, `looks`) and worded (`wording`). It stands in for a real dataset wherever none may be shipped.
"""

from dataclasses import dataclass

import numpy as np

from xpronet.sources.phantom import devices, frontal, lateral, looks, signs
from xpronet.sources.phantom.drawing import Canvas
from xpronet.sources.phantom.state import PORTABLE, sample
from xpronet.sources.phantom.wording import report


@dataclass(frozen=True)
class PhantomStudy:
    """One study without its pictures: `draw` makes them from the state."""

    id: str
    split: str  # "train", "val" or "test"
    views: tuple[str, ...]  # "frontal", "lateral"
    findings: str
    impression: str
    state: dict  # see `state`


def studies(*, train: int, val: int, test: int, seed: int) -> list[PhantomStudy]:
    """The studies of the three splits, in this order: text and states only, nothing is drawn.

    Study number i is the same whatever the sizes of the splits; only its split changes.

    Raises:
        ValueError: a negative size or seed.
    """
    for name, value in (("train", train), ("val", val), ("test", test), ("seed", seed)):
        if value < 0:
            raise ValueError(f"phantom {name} is {value}: must be 0 or more")
    splits = ["train"] * train + ["val"] * val + ["test"] * test
    return [_study(index, split, seed) for index, split in enumerate(splits)]


def _study(index: int, split: str, seed: int) -> PhantomStudy:
    state = sample(seed, index)
    findings, impression = report(state)
    views = ("frontal",) if state["look"] == PORTABLE else ("frontal", "lateral")
    return PhantomStudy(f"P{index:05d}", split, views, findings, impression, state)


def draw(study: PhantomStudy, view: str, *, size: int) -> np.ndarray:
    """Draw one view of a study -> grey picture (size, size) uint8, bright where dense; the same bytes every time.

    Raises:
        ValueError: the study has no such view, or size is under 32 pixels.
    """
    if view not in study.views:
        raise ValueError(f"study {study.id} has no view {view!r}: choose one of {', '.join(study.views)}")
    if size < 32:
        raise ValueError(f"phantom picture size is {size}: must be 32 pixels or more")
    canvas = Canvas(size, **study.state["geometry"])
    density = (_frontal if view == "frontal" else _lateral)(canvas, study.state)
    upright = Canvas(size, zoom=1.0, shift=(0.0, 0.0), tilt=0.0, width=1.0)
    return looks.develop(density, study.state, view, upright.layer())


def _frontal(canvas: Canvas, state: dict) -> np.ndarray:
    """Density (S, S) of a frontal view: signs fill the air of the lungs, bone and metal add to everything."""
    shape = frontal.anatomy(state)
    lungs = frontal.lung_masks(canvas, shape)
    density, air = frontal.chest(canvas, state, shape, lungs)
    found = state["signs"]
    fill = sum((add(canvas, state, shape, lungs) for name, add in signs.FILLING.items() if name in found), 0.0)
    density += np.minimum(fill, air)
    if "Pneumothorax" in found:
        density += signs.pneumothorax(canvas, state, shape, lungs, density)
    if "Fracture" in found:
        density += signs.fracture(canvas, state, shape)
    if "Support Devices" in found:
        density += devices.frontal_devices(canvas, state, shape)
    return density


def _lateral(canvas: Canvas, state: dict) -> np.ndarray:
    """Density (S, S) of a lateral view."""
    shape = lateral.anatomy(state)
    lung = canvas.area(shape.lung, blur=0.008)
    density, air = lateral.chest(canvas, state, shape, lung)
    density += np.minimum(lung * lateral.signs(canvas, state, shape), air)
    if "Support Devices" in state["signs"]:
        density += devices.lateral_devices(canvas, state)
    return density
