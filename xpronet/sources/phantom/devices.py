"""Support devices on both views: metal and plastic, brighter than bone."""

import numpy as np

from xpronet.sources.phantom.drawing import Canvas, Layer, stream
from xpronet.sources.phantom.frontal import SIDES, Frontal
from xpronet.sources.phantom.state import device_side


def frontal_devices(canvas: Canvas, state: dict, shape: Frontal) -> np.ndarray:
    """Density (S, S) of the devices of a frontal view."""
    sign, rng = state["signs"]["Support Devices"], stream(state, "devices")
    layer = canvas.layer()
    for kind in sign["kinds"]:
        _FRONTAL[kind](layer, rng, shape, SIDES[device_side(state, kind)])
    return 0.62 * layer.array(blur=0.003)


def lateral_devices(canvas: Canvas, state: dict) -> np.ndarray:
    """Density (S, S) of the devices of a lateral view, whose front is on the left."""
    layer = canvas.layer()
    for kind in state["signs"]["Support Devices"]["kinds"]:
        for points, width in _LATERAL[kind]:
            layer.line(points, width, 0.95, smooth=True)
        if kind == "pacemaker":
            layer.area([(-0.66, -0.5), (-0.57, -0.5), (-0.55, -0.28), (-0.64, -0.28)])
        if kind == "sternotomy":
            for y in np.linspace(-0.4, 0.2, 5):
                layer.disc(-0.6 - 0.05 * (y + 0.4), y, 0.026, 1.0, ring=0.012)
            layer.disc(-0.18, 0.1, 0.075, 1.0, ring=0.026)
    return 0.62 * layer.array(blur=0.003)


def _pacemaker(layer: Layer, rng: np.random.Generator, shape: Frontal, s: int) -> None:
    x, y = s * 0.52, -0.5
    box = [(x - 0.1, y - 0.08), (x + 0.08, y - 0.1), (x + 0.11, y), (x + 0.07, y + 0.1), (x - 0.09, y + 0.09)]
    layer.area(box)
    vein = [(x - s * 0.08, y - 0.07), (s * 0.3, -0.64), (s * 0.08, -0.58), (-0.09, -0.35), (-0.1, -0.05)]
    layer.line([*vein, (-0.02, 0.24), (0.18, 0.3)], 0.02, 0.95, smooth=True)
    layer.line([*vein, (-0.13, 0.1), (-0.05, 0.07)], 0.02, 0.95, smooth=True)


def _endotracheal(layer: Layer, rng: np.random.Generator, shape: Frontal, s: int) -> None:
    x = shape.midline
    layer.line([(x, -1.2), (x, -0.42)], 0.062, 0.55)
    layer.line([(x + 0.026, -1.2), (x + 0.026, -0.4)], 0.016, 1.0)
    layer.line([(x - 0.026, -1.2), (x - 0.026, -0.45)], 0.016, 1.0)


def _central(layer: Layer, rng: np.random.Generator, shape: Frontal, s: int) -> None:
    neck = [(s * 0.34, -1.1), (s * 0.25, -0.9), (s * 0.16, -0.7)]
    end = [(-0.09, -0.45), (-0.11, -0.25), (-0.11, 0.02)]
    layer.line([*neck, *end], 0.024, 0.9, smooth=True)
    layer.disc(s * 0.34, -0.98, 0.04, 0.9)


def _nasogastric(layer: Layer, rng: np.random.Generator, shape: Frontal, s: int) -> None:
    x, low = shape.midline, shape.dome["left"]
    path = [(x + 0.015, -1.2), (x + 0.02, -0.4), (x + 0.03, 0.2), (0.1, low), (0.24, low + 0.16), (0.42, low + 0.2)]
    layer.line(path, 0.026, 0.95, smooth=True)
    layer.line([(0.36, low + 0.2), (0.46, low + 0.2)], 0.045, 1.0)


def _chest(layer: Layer, rng: np.random.Generator, shape: Frontal, s: int) -> None:
    path = [(s * 1.0, 0.3), (s * 0.78, 0.16), (s * 0.62, 0.0), (s * 0.5, -0.3), (s * 0.36, -0.58)]
    layer.line(path, 0.06, 0.6, smooth=True)
    layer.line(path, 0.02, 1.0, smooth=True)


def _sternotomy(layer: Layer, rng: np.random.Generator, shape: Frontal, s: int) -> None:
    for y in np.linspace(-0.5, 0.24, 6):
        tilt = rng.normal(0, 0.01)
        layer.disc(shape.midline, y, 0.03, 1.0, ring=0.016)
        layer.line([(shape.midline - 0.05, y - tilt), (shape.midline + 0.05, y + tilt)], 0.016)
    layer.disc(0.1, 0.1, 0.07, 1.0, ring=0.026)  # the prosthetic valve


_FRONTAL = {
    "pacemaker": _pacemaker,
    "endotracheal": _endotracheal,
    "central": _central,
    "nasogastric": _nasogastric,
    "chest": _chest,
    "sternotomy": _sternotomy,
}
_LATERAL = {  # kind -> [(path, width)]
    "pacemaker": [([(-0.6, -0.45), (-0.4, -0.62), (-0.1, -0.5), (-0.08, -0.1), (-0.25, 0.25), (-0.45, 0.3)], 0.02)],
    "endotracheal": [([(0.06, -1.2), (0.04, -0.8), (0.02, -0.45)], 0.05)],
    "central": [([(0.0, -1.1), (-0.04, -0.7), (-0.1, -0.4), (-0.12, -0.05)], 0.024)],
    "nasogastric": [([(0.1, -1.2), (0.14, -0.4), (0.16, 0.2), (0.05, 0.45), (-0.15, 0.6)], 0.026)],
    "chest": [([(0.2, 0.4), (0.25, 0.1), (0.1, -0.3), (0.0, -0.6)], 0.05)],
    "sternotomy": [],
}
