"""The healthy frontal chest: body, lungs, heart and mediastinum, bones, vessels.

`anatomy` fixes the outlines from the state (a large heart or a high diaphragm is an outline), `chest` turns them into
optical density; the other signs are added by `signs` and `devices`.
"""

from dataclasses import dataclass

import numpy as np

from xpronet.sources.phantom.drawing import Canvas, mirror, soften, spline, step, stream

SIDES = {"right": -1, "left": 1}  # the sign of x: the patient's right is on the viewer's left


@dataclass(frozen=True)
class Frontal:
    """Outlines of one frontal chest, in anatomical units."""

    lungs: dict[str, np.ndarray]  # side -> (N, 2) closed curve
    dome: dict[str, float]  # side -> y of the top of the diaphragm
    heart: list[tuple[float, float]]
    mediastinum: list[tuple[float, float]]
    midline: float  # x of the trachea and the great vessels
    bend: float  # amplitude of the spine's curve: scoliosis


def anatomy(state: dict) -> Frontal:
    """The outlines that belong to a state."""
    rng = stream(state, "frontal")
    signs, variants = state["signs"], state["variants"]
    dome = {"right": 0.36 + rng.normal(0, 0.015), "left": 0.41 + rng.normal(0, 0.015)}
    for side in dome:
        dome[side] += {"normal": 0.0, "low": -0.16, "high": 0.11}[variants["volume"]]
        if signs.get("Atelectasis", {}).get("side") in (side, "both"):
            dome[side] -= 0.05 + 0.04 * signs["Atelectasis"]["grade"]  # loss of volume
    flat = 0.5 if variants["volume"] == "high" else 1.0
    midline = rng.normal(0, 0.006)
    size = rng.normal(0, 0.012)
    if "Cardiomegaly" in signs:
        size += 0.12 + 0.15 * signs["Cardiomegaly"]["grade"]
    wide = 0.11 + rng.normal(0, 0.006)
    if "Enlarged Cardiomediastinum" in signs:
        wide += 0.1 + 0.1 * signs["Enlarged Cardiomediastinum"]["grade"]
    return Frontal(
        lungs={side: np.array(_lung(side, dome[side], flat)) for side in SIDES},
        dome=dome,
        heart=_heart(midline, size, max(dome.values())),
        mediastinum=_mediastinum(midline, wide, variants["aorta"] == "tortuous"),
        midline=midline,
        bend=0.085 * (1 if rng.random() < 0.5 else -1) if variants["spine"] == "scoliosis" else 0.0,
    )


def chest(canvas: Canvas, state: dict, shape: Frontal, lungs: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Density (S, S) of the healthy parts, and the air in it (S, S): what disease can fill at most."""
    both = lungs["left"] + lungs["right"]
    inner = soften(both, 0.07 * canvas.scale)
    air = both * (0.55 + 0.45 * inner)
    air *= {"normal": 0.56, "low": 0.5, "high": 0.62}[state["variants"]["volume"]]
    middle = np.maximum(canvas.area(shape.heart, blur=0.013), canvas.area(shape.mediastinum, blur=0.014))
    air *= 1 - 0.86 * middle
    density = _body(canvas, state) - air + 0.05 * middle
    density += _spine(canvas, state, shape) + _bones(canvas, shape)
    density += _vessels(canvas, state, shape) * np.minimum(air * 2.2, 1)  # seen against air only
    if state["variants"]["aorta"] == "calcified":
        m = shape.midline
        rim = [(m + 0.04, -0.49), (m + 0.11, -0.5), (m + 0.155, -0.44), (m + 0.15, -0.36), (m + 0.12, -0.31)]
        density += 0.3 * canvas.layer().line(rim, 0.028, smooth=True).array(blur=0.004)
    trachea = canvas.layer().line([(shape.midline, -1.1), (shape.midline, -0.5), (shape.midline + 0.01, -0.3)], 0.075)
    trachea.line([(shape.midline, -0.31), (shape.midline - 0.11, -0.17)], 0.05)
    trachea.line([(shape.midline, -0.31), (shape.midline + 0.13, -0.15)], 0.045)
    return density - 0.13 * trachea.array(blur=0.012), air


def lung_masks(canvas: Canvas, shape: Frontal) -> dict[str, np.ndarray]:
    """side -> mask (S, S) of the aerated lung, heart and diaphragm left out of account."""
    return {side: canvas.area(points, blur=0.008) for side, points in shape.lungs.items()}


def rib(shape: Frontal, side: str, number: int) -> np.ndarray:
    """Centre line (N, 2) of the posterior part of a rib, 1 to 10, from the spine outwards."""
    t = np.linspace(0, 1, 14)
    top = -0.83 + 0.123 * (number - 1)
    reach = np.interp(number, [1, 2, 3, 4, 6, 8, 10], [0.3, 0.44, 0.54, 0.61, 0.69, 0.735, 0.74])
    x = 0.07 + (reach - 0.07) * np.sin(t * np.pi / 2) ** 0.9
    y = top - 0.05 * np.sin(np.pi * t**0.8) + (0.1 + 0.016 * number) * t**2.4
    return np.stack([SIDES[side] * x, y], axis=1)


def _lung(side: str, dome: float, flat: float) -> list[tuple[float, float]]:
    """The outline of the left lung, mirrored for the right; `flat` scales the height of the dome."""
    sulcus = dome + 0.19 * flat + 0.02
    points = [
        (0.13, -0.72), (0.24, -0.79), (0.36, -0.74), (0.5, -0.58), (0.6, -0.35), (0.67, -0.05), (0.71, 0.2),
        (0.725, sulcus - 0.12), (0.72, sulcus), (0.66, dome + 0.1 * flat), (0.54, dome + 0.025 * flat), (0.4, dome),
        (0.22, dome + 0.02), (0.09, dome + 0.07), (0.07, 0.1), (0.07, -0.3), (0.085, -0.6),
    ]  # fmt: skip
    return points if side == "left" else mirror(points)


def _heart(midline: float, size: float, dome: float) -> list[tuple[float, float]]:
    """Outline of the heart; `size` widens it, mostly to the left, where the apex moves out and down."""
    m, left, right = midline, 0.36 + size, 0.17 + 0.45 * size
    low = dome + 0.05
    return [
        (m - 0.06, -0.22), (m + 0.06, -0.24), (m + 0.15, -0.14), (m + left * 0.68, 0.0), (m + left * 0.92, low - 0.2),
        (m + left, low - 0.07), (m + left * 0.9, low + 0.02), (m + 0.1, low + 0.06), (m - right * 0.7, low + 0.02),
        (m - right, low - 0.12), (m - right * 1.02, low - 0.28), (m - right * 0.8, -0.02), (m - 0.11, -0.12),
    ]  # fmt: skip


def _mediastinum(midline: float, wide: float, tortuous: bool) -> list[tuple[float, float]]:
    """Outline of the great vessels above the heart; `wide` is its half width, the aortic knob on the left."""
    m, knob = midline, wide + (0.13 if tortuous else 0.06)
    return [
        (m - 0.08, -0.95), (m + 0.08, -0.95), (m + wide * 0.8, -0.68), (m + wide, -0.55), (m + knob, -0.44),
        (m + knob - 0.005, -0.36), (m + wide + (0.08 if tortuous else 0.015), -0.26), (m + wide + 0.05, -0.1),
        (m + 0.05, 0.1), (m - 0.06, 0.1), (m - wide - 0.02, -0.12), (m - wide - 0.015, -0.4), (m - wide, -0.6),
    ]  # fmt: skip


def _body(canvas: Canvas, state: dict) -> np.ndarray:
    """Soft tissue: the trunk, thicker in the middle and below the diaphragm, neck, shoulders and upper arms."""
    rng = stream(state, "body")
    flank = 0.84 + rng.normal(0, 0.015)
    arms = 0.04 * rng.random()
    half = [
        (0.13, -1.3), (0.15, -1.0), (0.24, -0.93), (0.45, -0.9), (0.7, -0.84), (0.88, -0.7), (0.98 + arms, -0.45),
        (1.06 + arms, 0.0), (1.0 + arms, 0.02), (flank + 0.03, -0.2), (flank, 0.1), (flank, 0.6), (flank + 0.02, 1.3),
    ]  # fmt: skip
    mask = canvas.area(half + mirror(half)[::-1], blur=0.012)
    thick = soften(mask, 0.1 * canvas.scale)
    belly = step(canvas.y - 0.45, 0.1)
    tissue = 0.25 + 0.42 * thick**1.5 + 0.1 * belly
    return mask * (tissue + 0.014 * canvas.noise(rng, 0.3) + 0.008 * canvas.noise(rng, 0.08))


def _spine(canvas: Canvas, state: dict, shape: Frontal) -> np.ndarray:
    """The column with its discs, bent by scoliosis, spurred by degeneration."""
    degenerative = state["variants"]["spine"] == "degenerative"
    layer = canvas.layer()
    y = np.linspace(-1.1, 1.1, 40)
    layer.line(np.stack([_spine_x(shape, y), y], axis=1), 0.17, 0.55)
    for level in np.arange(-1.05, 1.1, 0.125):
        x = float(_spine_x(shape, level))
        layer.line([(x - 0.08, level), (x + 0.08, level)], 0.02, 0.95 if degenerative else 0.25)
        layer.disc(x, level + 0.06, 0.018, 0.75)  # the spinous process
        if degenerative:
            for edge in (-0.1, 0.1):
                layer.line([(x + edge * 0.8, level - 0.012), (x + edge * 1.25, level)], 0.03, 1.0)
    return 0.2 * layer.array(blur=0.008)


def _spine_x(shape: Frontal, y: np.ndarray | float) -> np.ndarray | float:
    return shape.bend * np.sin((np.asarray(y) + 0.9) * 2.6)


def _bones(canvas: Canvas, shape: Frontal) -> np.ndarray:
    """Ribs (posterior and anterior), clavicles, scapulae and the heads of the upper arms."""
    back, front, girdle = canvas.layer(), canvas.layer(), canvas.layer()
    for side, sign in SIDES.items():
        for number in range(1, 11):
            centre = rib(shape, side, number)
            back.line(centre, 0.056, 0.9)
            back.line(centre + [0, 0.003], 0.034, 0.5)
            if 1 < number < 8:
                x, y = centre[-1] - [sign * 0.005, 0]
                end = [(x, y), (x * 0.96, y + 0.09), (x * 0.78, y + 0.2), (x * 0.52, y + 0.26)]
                front.line(end, 0.05, 0.5, smooth=True)
                front.line(np.array(end) + [0, 0.002], 0.03, 0.28, smooth=True)
        inner = (sign * 0.07 + shape.midline, -0.66)
        collar = [inner, (sign * 0.25, -0.69), (sign * 0.45, -0.76), (sign * 0.68, -0.81)]
        girdle.line(collar, 0.062, 0.85, smooth=True)
        girdle.line(np.array(collar) + [0, 0.004], 0.036, 0.55, smooth=True)
        blade = [(0.7, -0.74), (0.86, -0.66), (0.74, -0.5), (0.7, -0.25), (0.63, -0.12), (0.6, -0.35), (0.58, -0.6)]
        girdle.area([(sign * x, y) for x, y in blade], 0.3)
        girdle.disc(sign * 0.84, -0.61, 0.085, 0.7)
        girdle.line([(sign * 0.86, -0.58), (sign * 0.97, 0.05)], 0.09, 0.5)
    return 0.15 * back.array(blur=0.004) + 0.13 * front.array(blur=0.006) + 0.22 * girdle.array(blur=0.005)


def _vessels(canvas: Canvas, state: dict, shape: Frontal) -> np.ndarray:
    """Hila and the pulmonary vessels that branch from them, thinner and fainter towards the edge of the lung."""
    rng = stream(state, "vessels")
    layer = canvas.layer()
    for sign in (-1, 1):
        for angle in np.linspace(-1.35, 1.45, 9) + rng.normal(0, 0.16, 9):
            root = np.array([shape.midline + sign * 0.17, -0.1 - 0.03 * (sign > 0) + 0.06 * np.sin(angle)])
            _branch(layer, rng, root, sign, angle, rng.uniform(0.17, 0.32), 0.03, 3)
    hila = sum(canvas.spot(shape.midline + s * 0.18, -0.1 - 0.03 * (s > 0), 0.08, 0.13) for s in (-1, 1))
    return 0.2 * layer.array(blur=0.006) + 0.13 * hila


def _branch(layer, rng, start, sign: int, angle: float, length: float, width: float, depth: int) -> None:
    """A vessel that bends down on its way out, and its two smaller branches."""
    first = start + length * 0.5 * np.array([sign * np.cos(angle), np.sin(angle)])
    end = first + length * 0.5 * np.array([sign * np.cos(angle + 0.25), np.sin(angle + 0.25)])
    layer.line([start, first, end], width, 0.1 + 28 * width)
    if depth > 1:
        for turn in (-0.38, 0.3):
            onward = angle + turn * rng.uniform(0.5, 1.5)
            _branch(layer, rng, end, sign, onward, length * rng.uniform(0.6, 0.9), width * 0.6, depth - 1)


def outer_wall(points: np.ndarray, top: float, bottom: float) -> np.ndarray:
    """The part of a lung's outer wall between two heights, (N, 2), from the mediastinum over the apex to the sulcus."""
    wall = spline(points[:10], closed=False)[: 8 * 8 + 1]  # the first nine points of `_lung`, eight steps apart
    return wall[(wall[:, 1] >= top) & (wall[:, 1] <= bottom)]
