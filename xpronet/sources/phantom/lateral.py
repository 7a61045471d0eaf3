"""The lateral chest, front to the left: its anatomy and what each sign looks like from the side."""

from dataclasses import dataclass

import numpy as np

from xpronet.sources.phantom.drawing import Canvas, soften, spline, step, stream
from xpronet.sources.phantom.signs import broken_ribs, holly_leaf, sides

# Where a lobe lies on a lateral view: (x, y), radii.
ZONES = {"upper": (0.0, -0.45, 0.26, 0.19), "middle": (-0.3, 0.08, 0.22, 0.18), "lower": (0.33, 0.22, 0.21, 0.2)}


@dataclass(frozen=True)
class Lateral:
    """Outlines of one lateral chest, in anatomical units."""

    lung: list[tuple[float, float]]
    dome: dict[str, float]  # side -> y of the top of its diaphragm
    heart: list[tuple[float, float]]


def anatomy(state: dict) -> Lateral:
    """The outlines that belong to a state."""
    rng = stream(state, "lateral")
    signs, variants = state["signs"], state["variants"]
    dome = {"right": 0.34 + rng.normal(0, 0.015), "left": 0.39 + rng.normal(0, 0.015)}
    for side in dome:
        dome[side] += {"normal": 0.0, "low": -0.14, "high": 0.1}[variants["volume"]]
    size = rng.normal(0, 0.012)
    if "Cardiomegaly" in signs:
        size += 0.09 + 0.11 * signs["Cardiomegaly"]["grade"]
    deep = 0.06 if variants["volume"] == "high" else 0.0
    low = max(dome.values())
    lung = [
        (-0.1, -0.74), (0.08, -0.8), (0.3, -0.74), (0.5, -0.5), (0.63, -0.15), (0.66, 0.2), (0.62, low + 0.16),
        (0.55, low + 0.27), (0.46, low + 0.2), (0.25, low + 0.06), (-0.05, low), (-0.35, low + 0.02),
        (-0.62 - deep, low + 0.1), (-0.68 - deep, low - 0.05), (-0.66 - deep, 0.0), (-0.55 - deep, -0.4),
        (-0.36, -0.62),
    ]  # fmt: skip
    heart = [
        (-0.12, -0.22), (0.0 + 0.3 * size, -0.08), (0.08 + size, 0.12), (0.05 + size, low - 0.08), (-0.05, low + 0.06),
        (-0.4, low + 0.1), (-0.6, low + 0.06), (-0.63, low - 0.12), (-0.56 - 0.4 * size, 0.08 - size),
        (-0.38, -0.12 - size),
    ]  # fmt: skip
    return Lateral(lung=lung, dome=dome, heart=heart)


def chest(canvas: Canvas, state: dict, shape: Lateral, lung: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Density (S, S) of the healthy parts, and the air in it (S, S); `lung` is the mask of the aerated lung."""
    variants = state["variants"]
    inner = soften(lung, 0.08 * canvas.scale)
    air = lung * (0.45 + 0.55 * inner) * {"normal": 0.46, "low": 0.41, "high": 0.52}[variants["volume"]]
    heart = canvas.area(shape.heart, blur=0.02)
    wide = "Enlarged Cardiomediastinum" in state["signs"]
    great = canvas.spot(-0.14, -0.4, 0.2 + 0.08 * wide, 0.26, sharp=1.4)
    air *= 1 - np.clip(0.75 * heart + (0.55 if wide else 0.22) * great, 0, 0.85)
    air *= 1 - 0.75 * _behind_dome(canvas, shape)
    density = _body(canvas) - air
    density += _aorta(canvas, variants) + _spine(canvas, state) + _ribs(canvas)
    density += lung * _vessels(canvas, state)
    trachea = canvas.layer().line([(0.08, -1.1), (0.07, -0.7), (0.02, -0.3)], 0.075).array(blur=0.014)
    return density - 0.1 * trachea, air


def signs(canvas: Canvas, state: dict, shape: Lateral) -> np.ndarray:
    """Density (S, S) to add for the signs inside the lung; the outlines are already those of the state."""
    total = np.zeros_like(canvas.x)
    for name, draw in _SIGNS.items():
        if name in state["signs"] and not (name == "Consolidation" and "Pneumonia" in state["signs"]):
            total += draw(canvas, state["signs"][name], shape, stream(state, "lateral " + name))
    return total


def _place(shape: Lateral, sign: dict) -> tuple[float, float, float, float]:
    x, y, rx, ry = ZONES[sign["zone"]]
    return x, y + (shape.dome[sign["side"]] - 0.37) * (0.1 if sign["zone"] == "upper" else 0.8), rx, ry


def _opacity(canvas: Canvas, sign: dict, shape: Lateral, rng: np.random.Generator) -> np.ndarray:
    x, y, rx, ry = _place(shape, sign)
    return canvas.spot(x, y, 1.2 * rx, 1.2 * ry, sharp=1.3) * (0.24 + 0.12 * sign["grade"])


def _lesion(canvas: Canvas, sign: dict, shape: Lateral, rng: np.random.Generator) -> np.ndarray:
    x, y, rx, ry = _place(shape, sign)
    radius = 0.1 + 0.08 * sign["grade"]
    total = canvas.spot(x + rng.uniform(-0.3, 0.3) * rx, y + rng.uniform(-0.3, 0.3) * ry, radius, sharp=2.5)
    for _ in range(4 if sign["kind"] == "multiple" else 0):
        spot = canvas.spot(rng.uniform(-0.4, 0.5), rng.uniform(-0.5, 0.25), 0.75 * radius, sharp=2.5)
        total = np.maximum(total, spot)
    return 0.44 * total


def _edema(canvas: Canvas, sign: dict, shape: Lateral, rng: np.random.Generator) -> np.ndarray:
    layer = canvas.layer()
    for _ in range(45):
        angle, start = rng.uniform(0, 2 * np.pi), rng.uniform(0.04, 0.3)
        ray, root = np.array([np.cos(angle), np.sin(angle)]), np.array([0.04, -0.1])
        layer.line([root + ray * start, root + ray * (start + 0.16)], 0.02, 0.7)
    haze = canvas.spot(0.05, -0.05, 0.5, 0.5) * (1 + 0.35 * canvas.noise(rng, 0.05))
    return (0.14 + 0.18 * sign["grade"]) * haze + (0.16 + 0.1 * sign["grade"]) * layer.array(blur=0.006)


def _consolidation(canvas: Canvas, sign: dict, shape: Lateral, rng: np.random.Generator) -> np.ndarray:
    x, y, rx, ry = _place(shape, sign)
    fissure = step(canvas.y - (y - 0.75 * ry + 0.3 * (canvas.x - x)), 0.006)
    return canvas.spot(x, y, 1.35 * rx, 1.3 * ry, sharp=3.0) * fissure * (0.46 + 0.06 * sign["grade"])


def _pneumonia(canvas: Canvas, sign: dict, shape: Lateral, rng: np.random.Generator) -> np.ndarray:
    x, y, rx, ry = _place(shape, sign)
    fluff = np.zeros_like(canvas.x)
    for _ in range(7):
        spot = canvas.spot(
            x + rng.normal(0, 0.45) * rx, y + rng.normal(0, 0.5) * ry, rng.uniform(0.09, 0.15), sharp=1.5
        )
        fluff = np.maximum(fluff, spot)
    return fluff * np.clip(1 + 0.5 * canvas.noise(rng, 0.06), 0.2, 1.6) * (0.42 + 0.1 * sign["grade"])


def _atelectasis(canvas: Canvas, sign: dict, shape: Lateral, rng: np.random.Generator) -> np.ndarray:
    layer = canvas.layer()
    base = min(shape.dome[side] for side in sides(sign))
    for n in range(2 + (sign["grade"] > 0.4) + (sign["grade"] > 0.75)):
        x, y = rng.uniform(0.08, 0.16), base - 0.06 - 0.085 * n
        layer.line([(x, y), (x + 0.36, y + rng.uniform(0.0, 0.1))], 0.03 + 0.012 * sign["grade"])
    return layer.array(blur=0.009) * (0.33 + 0.1 * sign["grade"])


def _effusion(canvas: Canvas, sign: dict, shape: Lateral, rng: np.random.Generator) -> np.ndarray:
    level = max(shape.dome.values()) + 0.08 - 0.36 * sign["grade"]
    behind = np.clip((canvas.x + 0.1) / 0.7, 0, 1)
    surface = level - (0.08 + 0.14 * sign["grade"]) * (behind**3 * 2 - 0.25) + 0.25 * (1 - behind) ** 2
    return 0.45 * step(canvas.y - surface, 0.016)


def _pneumothorax(canvas: Canvas, sign: dict, shape: Lateral, rng: np.random.Generator) -> np.ndarray:
    gap = 0.08 + 0.14 * sign["grade"]
    wall = spline(np.array([(-0.45, -0.5), (-0.25, -0.68), (0.08, -0.8), (0.3, -0.74), (0.48, -0.5)]), closed=False)
    edge = wall + np.sin(np.linspace(0, np.pi, len(wall)))[:, None] * [0.0, 1.3 * gap]
    gas = canvas.layer().area(np.concatenate([wall + [0, -0.05], edge[::-1]]), smooth=False).array(blur=0.006)
    return 0.24 * canvas.layer().line(edge, 0.02).array() - 0.1 * gas


def _pleural(canvas: Canvas, sign: dict, shape: Lateral, rng: np.random.Generator) -> np.ndarray:
    layer = canvas.layer()
    if sign["kind"] == "plaque":
        for x, y in ((-0.1, 0.15), (0.25, -0.1)):
            leaf = holly_leaf(rng, x, y, 1 + 0.3 * sign["grade"])
            layer.area(leaf, 0.5).line(np.concatenate([leaf, leaf[:1]]), 0.022)
    else:
        layer.line([(-0.2, -0.7), (0.08, -0.8), (0.3, -0.73)], 0.16 + 0.1 * sign["grade"], smooth=True)
    return 0.4 * layer.array(blur=0.01)


def _fracture(canvas: Canvas, sign: dict, shape: Lateral, rng: np.random.Generator) -> np.ndarray:
    layer = canvas.layer()
    for n in range(broken_ribs(sign)):
        x, y = 0.2 - 0.02 * n, -0.3 + 0.13 * (sign["rib"] - 4) + 0.13 * n
        layer.line([(x + 0.03, y - 0.05), (x + 0.16, y - 0.14)], 0.05, 0.8)
        layer.line([(x - 0.03, y + 0.05), (x - 0.15, y + 0.09)], 0.05, 0.8)
        layer.disc(x, y, 0.05)
    return 0.3 * layer.array(blur=0.012)


_SIGNS = {
    "Lung Opacity": _opacity,
    "Lung Lesion": _lesion,
    "Edema": _edema,
    "Consolidation": _consolidation,
    "Pneumonia": _pneumonia,
    "Atelectasis": _atelectasis,
    "Pneumothorax": _pneumothorax,
    "Pleural Effusion": _effusion,
    "Pleural Other": _pleural,
    "Fracture": _fracture,
}


def _body(canvas: Canvas) -> np.ndarray:
    points = [
        (-0.05, -1.3), (-0.1, -1.0), (-0.35, -0.75), (-0.62, -0.5), (-0.78, -0.15), (-0.82, 0.15),
        (-0.8, 0.35), (-0.82, 0.6), (-0.84, 1.3), (0.78, 1.3), (0.8, 0.6), (0.86, 0.1), (0.84, -0.35),
        (0.68, -0.75), (0.45, -0.98), (0.36, -1.3),
    ]  # fmt: skip
    mask = canvas.area(points, blur=0.014)
    thick = soften(mask, 0.12 * canvas.scale)
    shoulder = canvas.spot(0.15, -0.85, 0.55, 0.3)
    belly = step(canvas.y - 0.45, 0.1)
    return mask * (0.22 + 0.42 * thick**1.5 + 0.12 * belly + 0.13 * shoulder)


def _behind_dome(canvas: Canvas, shape: Lateral) -> np.ndarray:
    """The higher of the two domes (S, S), 1 below it: it is seen through the lung behind the lower one."""
    surface = min(shape.dome.values()) - 0.01
    surface = surface + 0.55 * np.clip(canvas.x - 0.02, 0, None) ** 1.6 + 0.35 * np.clip(-0.1 - canvas.x, 0, None) ** 2
    return step(canvas.y - surface, 0.008)


def _aorta(canvas: Canvas, variants: dict) -> np.ndarray:
    arch = [(-0.08, -0.15), (-0.12, -0.4), (0.03, -0.53), (0.2, -0.42), (0.3, -0.1), (0.34, 0.4)]
    wide = 0.15 if variants["aorta"] == "tortuous" else 0.1
    density = 0.08 * canvas.layer().line(arch, wide, smooth=True).array(blur=0.02)
    if variants["aorta"] == "calcified":
        wall = [(-0.12, -0.48), (0.03, -0.585), (0.18, -0.5), (0.25, -0.38)]
        density += 0.35 * canvas.layer().line(wall, 0.024, smooth=True).array(blur=0.004)
    return density


def _spine(canvas: Canvas, state: dict) -> np.ndarray:
    """Vertebral bodies with their end plates along a curve; spurred when degenerative."""
    degenerative = state["variants"]["spine"] == "degenerative"
    column = spline(
        np.array([(0.3, -1.2), (0.42, -0.8), (0.55, -0.35), (0.58, 0.1), (0.5, 0.55), (0.4, 1.2)]), closed=False
    )
    layer = canvas.layer()
    length = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(column, axis=0).T))])
    for at in np.arange(0.05, length[-1] - 0.13, 0.145):
        centre = np.array([np.interp(at + 0.06, length, column[:, k]) for k in (0, 1)])
        ahead = np.array([np.interp(at + 0.08, length, column[:, k]) for k in (0, 1)]) - centre
        along = ahead / np.hypot(*ahead)
        across = np.array([-along[1], along[0]])
        box = [centre + a * across * 0.075 + b * along * 0.055 for a, b in ((1, 1), (1, -1), (-1, -1), (-1, 1))]
        layer.area(np.array(box), 0.55, smooth=False)
        for b in (-1, 1):
            plate = 0.115 if degenerative else 0.075
            ends = [centre - across * 0.07 + b * along * 0.055, centre + across * plate + b * along * 0.055]
            layer.line(ends, 0.026 if degenerative else 0.014, 1.0 if degenerative else 0.85)
        layer.line([centre - across * 0.1, centre - across * 0.22 + along * 0.06], 0.05, 0.4)
    return 0.24 * layer.array(blur=0.006)


def _ribs(canvas: Canvas) -> np.ndarray:
    layer = canvas.layer()
    for n in range(9):
        y = -0.62 + 0.135 * n
        layer.line([(0.62, y - 0.08), (0.4, y), (0.0, y + 0.14), (-0.35, y + 0.24)], 0.042, 0.7, smooth=True)
    sternum = [(-0.42, -0.62), (-0.6, -0.4), (-0.72, -0.05), (-0.75, 0.12)]
    return 0.07 * layer.array(blur=0.008) + 0.16 * canvas.layer().line(sternum, 0.06, smooth=True).array(blur=0.008)


def _vessels(canvas: Canvas, state: dict) -> np.ndarray:
    rng = stream(state, "lateral vessels")
    layer = canvas.layer()
    for angle in np.linspace(0, 2 * np.pi, 12)[:-1] + rng.normal(0, 0.2, 11):
        root = np.array([0.04, -0.1]) + 0.05 * rng.normal(0, 1, 2)
        first = root + 0.16 * np.array([np.cos(angle), np.sin(angle)])
        layer.line([root, first], 0.028, 0.75)
        for turn in rng.normal(0, 0.5, 3):
            heading = angle + np.array([turn, turn + 0.3])
            path = first + np.cumsum(
                rng.uniform(0.08, 0.14) * np.stack([np.cos(heading), np.sin(heading)], axis=1), axis=0
            )
            layer.line([first, *path], 0.016, 0.5)
    return 0.17 * layer.array(blur=0.008) + 0.12 * canvas.spot(0.05, -0.1, 0.12, 0.13)
