"""The looks: exposure, grain, collimation and markers turn density into an 8-bit picture."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from xpronet.sources.phantom.drawing import stream


@dataclass(frozen=True)
class Look:
    """How a machine and its technicians make a picture."""

    gain: float  # how quickly density turns white
    gamma: float  # above 1 darkens the lungs
    floor: float  # grey of the air around the patient, 0 to 1
    ceiling: float  # grey of the densest bone
    noise: float  # deviation of the grain, in grey levels of 255
    grain: float  # its width in pixels of a 256 picture; 0 is white noise


LOOKS = {
    "plain": Look(gain=1.9, gamma=1.15, floor=0.0, ceiling=0.96, noise=2.0, grain=0.0),
    "framed": Look(gain=2.5, gamma=1.7, floor=0.0, ceiling=1.0, noise=3.0, grain=0.0),
    "portable": Look(gain=1.7, gamma=0.95, floor=0.1, ceiling=0.86, noise=3.2, grain=0.9),
}

# Strokes of the lead letters in a box of 1 x 1, y down.
GLYPHS = {
    "L": [[(0, 0), (0, 1), (0.75, 1)]],
    "R": [[(0, 1), (0, 0), (0.6, 0), (0.75, 0.25), (0.6, 0.5), (0, 0.5)], [(0.3, 0.5), (0.75, 1)]],
    "A": [[(0, 1), (0.38, 0), (0.75, 1)], [(0.15, 0.62), (0.6, 0.62)]],
    "P": [[(0, 1), (0, 0), (0.6, 0), (0.75, 0.25), (0.6, 0.5), (0, 0.5)]],
}


def develop(density: np.ndarray, state: dict, view: str, painter) -> np.ndarray:
    """Density (S, S) float32 -> picture (S, S) uint8 in the look of the state.

    `painter` is an empty `Layer` of an upright canvas: markers and borders do not turn with the patient.
    """
    look, rng = LOOKS[state["look"]], stream(state, "develop " + view)
    size = density.shape[0]
    gain = look.gain * rng.uniform(0.9, 1.1)
    grey = (1 - np.exp(-gain * np.maximum(density, 0))) ** (look.gamma * rng.uniform(0.92, 1.08))
    grey = look.floor + (look.ceiling - look.floor) * grey
    marks = _MARKS[state["look"]](painter, view, rng)
    grey = grey * (1 - marks[1]) + marks[0]
    noise = rng.standard_normal((size, size), dtype=np.float32)
    if look.grain:
        blurred = Image.fromarray(np.clip(noise * 40 + 128, 0, 255).astype(np.uint8))
        noise = np.asarray(blurred.filter(ImageFilter.GaussianBlur(look.grain * size / 256)), dtype=np.float32)
        noise = (noise - 128) / 40 * (1 + 2.2 * look.grain)
    return np.clip(255 * grey + look.noise * noise, 0, 255).astype(np.uint8)


def _letters(layer, text: str, x: float, y: float, height: float, width: float) -> None:
    for n, letter in enumerate(text):
        for stroke in GLYPHS[letter]:
            points = [(x + (n * 1.15 + u * 0.85) * height * 0.8, y + v * height) for u, v in stroke]
            layer.line(points, width)


def _plain(layer, view: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A plain letter L, high on the patient's left."""
    jitter = rng.normal(0, 0.01, 2)
    _letters(layer, "L", 0.7 + jitter[0], -0.84 + jitter[1], 0.15, 0.035)
    marks = layer.array()
    return marks, marks


def _framed(layer, view: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Black shutters at both sides and an R in a frame, high on the patient's right."""
    shutters = 0.82 + rng.uniform(-0.02, 0.02)
    _letters(layer, "R", -0.74, -0.82, 0.11, 0.028)
    layer.line([(-0.79, -0.87), (-0.61, -0.87), (-0.61, -0.66), (-0.79, -0.66), (-0.79, -0.87)], 0.02)
    marks = layer.array()
    line = np.abs((np.arange(marks.shape[0]) + 0.5) / marks.shape[0] * 2 - 1)
    dark = np.broadcast_to(line[None, :] > shutters, marks.shape).astype(np.float32)
    return marks * (1 - dark), np.maximum(marks, dark)


def _portable(layer, view: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The letters AP and an arrow that points up, low on the patient's right."""
    jitter = rng.normal(0, 0.012, 2)
    x, y = -0.78 + jitter[0], 0.6 + jitter[1]
    _letters(layer, "AP", x, y, 0.14, 0.032)
    layer.line([(x + 0.11, y - 0.06), (x + 0.11, y - 0.24)], 0.03)
    layer.line([(x + 0.04, y - 0.16), (x + 0.11, y - 0.25), (x + 0.18, y - 0.16)], 0.03)
    marks = layer.array()
    return marks, marks


_MARKS = {"plain": _plain, "framed": _framed, "portable": _portable}
