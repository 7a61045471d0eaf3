"""What disease adds to the frontal picture: one small function per observation.

The outlines of a large heart, a wide mediastinum or a raised diaphragm belong to `frontal.anatomy`; here stands what is
added inside or around the lungs. Each function returns density (S, S) to add, graded by the sign's `grade`.
"""

import numpy as np

from xpronet.sources.phantom.drawing import Canvas, soften, step, stream
from xpronet.sources.phantom.frontal import SIDES, Frontal, outer_wall, rib

# Where a lobe lies on a frontal view: side-less (x, y) and radii.
ZONES = {"upper": (0.4, -0.42, 0.23, 0.2), "middle": (0.42, 0.0, 0.24, 0.17), "lower": (0.45, 0.24, 0.25, 0.17)}


def sides(sign: dict) -> list[str]:
    """The sides of a sign: "both" is left and right."""
    return ["left", "right"] if sign["side"] == "both" else [sign["side"]]


def place(shape: Frontal, sign: dict) -> tuple[float, float, float, float]:
    """Centre and radii (x, y, rx, ry) of the zone of a sign; a high diaphragm pushes the lower zones up."""
    x, y, rx, ry = ZONES[sign["zone"]]
    push = (shape.dome[sign["side"]] - 0.4) * {"upper": 0.1, "middle": 0.5, "lower": 1.0}[sign["zone"]]
    return SIDES[sign["side"]] * x, y + push, rx, ry


def opacity(canvas: Canvas, state: dict, shape: Frontal, lungs: dict) -> np.ndarray:
    """Lung Opacity: a hazy veil, through which the vessels are seen."""
    sign = state["signs"]["Lung Opacity"]
    x, y, rx, ry = place(shape, sign)
    grow = 1.35 + 0.35 * sign["grade"]
    veil = canvas.spot(x, y, rx * grow, ry * 1.25 * grow, sharp=1.3)
    return lungs[sign["side"]] * veil * (0.26 + 0.12 * sign["grade"])


def lesion(canvas: Canvas, state: dict, shape: Frontal, lungs: dict) -> np.ndarray:
    """Lung Lesion: one round nodule or mass, or several nodules on both sides."""
    sign, rng = state["signs"]["Lung Lesion"], stream(state, "lesion")
    x, y, rx, ry = place(shape, sign)
    radius = 0.1 + 0.08 * sign["grade"]
    spots = [(x + rng.uniform(-0.4, 0.4) * rx, y + rng.uniform(-0.5, 0.5) * ry, radius)]
    if sign["kind"] == "multiple":
        for n in range(5):
            side = 1 if n % 2 else -1
            spots.append((side * rng.uniform(0.25, 0.58), rng.uniform(-0.45, shape.dome["right"] - 0.1), 0.85 * radius))
    total = np.zeros_like(canvas.x)
    for x, y, r in spots:
        total = np.maximum(total, canvas.spot(x, y, r, r * rng.uniform(0.9, 1.1), sharp=2.5))
    return 0.56 * total


def edema(canvas: Canvas, state: dict, shape: Frontal, lungs: dict) -> np.ndarray:
    """Edema: perihilar haze like the wings of a bat, thick hila, and short septal lines at the edges of the bases."""
    grade, rng = state["signs"]["Edema"]["grade"], stream(state, "edema")
    haze = np.zeros_like(canvas.x)
    layer = canvas.layer()
    for side, sign in SIDES.items():
        base = shape.dome[side]
        haze += canvas.spot(sign * 0.27, 0.0, 0.33, 0.42, sharp=1.2)
        for _ in range(16):  # Kerley B: horizontal, reaching the pleura
            y = rng.uniform(base - 0.34, base + 0.1)
            x = 0.71 - 0.06 * max(0.0, 0.2 - y)
            layer.line([(sign * x, y), (sign * (x - rng.uniform(0.06, 0.11)), y + rng.normal(0, 0.008))], 0.013, 0.8)
        for _ in range(18):  # Kerley A and thick vessels: from the hilum outwards
            angle, start = rng.uniform(-1.2, 1.2), rng.uniform(0.05, 0.25)
            ray = np.array([sign * np.cos(angle), np.sin(angle)])
            root = np.array([sign * 0.17, -0.08])
            layer.line([root + ray * start, root + ray * (start + rng.uniform(0.1, 0.22))], 0.022, 0.7)
    texture = np.clip(1 + 0.3 * canvas.noise(rng, 0.05), 0.6, 1.5)
    both = lungs["left"] + lungs["right"]
    return both * ((0.15 + 0.2 * grade) * haze * texture + (0.16 + 0.1 * grade) * layer.array(blur=0.006))


def consolidation(canvas: Canvas, state: dict, shape: Frontal, lungs: dict) -> np.ndarray:
    """Consolidation: a dense even lobe with a straight fissure as its border; that of a pneumonia is drawn with it."""
    if "Pneumonia" in state["signs"]:
        return np.zeros_like(canvas.x)
    sign = state["signs"]["Consolidation"]
    x, y, rx, ry = place(shape, sign)
    grow = 1.15 + 0.3 * sign["grade"]
    block = canvas.spot(x, y, 1.25 * rx * grow, 1.15 * ry * grow, sharp=3.0)
    slope = 0.12 * np.sign(x) * (canvas.x - x)
    if sign["zone"] == "upper":  # the fissure is the lower border of this lobe
        block *= step(y + 0.75 * ry * grow + slope - canvas.y, 0.006)
    else:  # and the upper border of the lobes below
        block *= step(canvas.y - (y - 0.75 * ry * grow + slope), 0.006)
    return lungs[sign["side"]] * block * (0.54 + 0.06 * sign["grade"])


def pneumonia(canvas: Canvas, state: dict, shape: Frontal, lungs: dict) -> np.ndarray:
    """Pneumonia: confluent fluffy shadows in one lobe, branching dark bronchi in them, satellites elsewhere."""
    sign, rng = state["signs"]["Pneumonia"], stream(state, "pneumonia")
    x, y, rx, ry = place(shape, sign)
    fluff = np.zeros_like(canvas.x)
    for _ in range(7):
        cx, cy = x + rng.normal(0, 0.42) * rx, y + rng.normal(0, 0.5) * ry
        fluff = np.maximum(fluff, canvas.spot(cx, cy, rng.uniform(0.09, 0.15) * (1 + 0.4 * sign["grade"]), sharp=1.5))
    for _ in range(3):
        side = rng.choice((-1, 1))
        spot = canvas.spot(side * rng.uniform(0.3, 0.58), rng.uniform(-0.4, shape.dome["right"]), 0.075, sharp=1.4)
        fluff = np.maximum(fluff, 0.6 * spot)
    bronchi = canvas.layer()
    for _ in range(4):
        angle = rng.uniform(-0.9, 0.9)
        a = np.array([x - np.sign(x) * 0.5 * rx, y + rng.uniform(-0.4, 0.2) * ry])
        b = a + 0.2 * np.array([np.sign(x) * np.cos(angle), np.sin(angle)])
        bronchi.line([a, b, b + [np.sign(x) * 0.05, 0.05]], 0.035)
        bronchi.line([b, b + [np.sign(x) * 0.06, -0.04]], 0.026)
    both = lungs["left"] + lungs["right"]
    dense = fluff * np.clip(1 + 0.5 * canvas.noise(rng, 0.07), 0.2, 1.6)
    return both * dense * (0.46 + 0.08 * sign["grade"]) * (1 - 0.8 * bronchi.array(blur=0.006))


def atelectasis(canvas: Canvas, state: dict, shape: Frontal, lungs: dict) -> np.ndarray:
    """Atelectasis: plates, straight and slightly tilted bands above the diaphragm."""
    sign, rng = state["signs"]["Atelectasis"], stream(state, "atelectasis")
    layer = canvas.layer()
    for side in sides(sign):
        base = shape.dome[side]
        for n in range(2 + (sign["grade"] > 0.4) + (sign["grade"] > 0.75)):
            y, x = base - 0.07 - 0.085 * n + rng.normal(0, 0.01), rng.uniform(0.27, 0.33)
            length, slope = rng.uniform(0.26, 0.36), rng.uniform(-0.1, 0.04)
            ends = np.array([(x, y), (x + length / 2, y + slope * 0.6), (x + length, y + slope)])
            layer.line(ends * [SIDES[side], 1], 0.042 + 0.012 * sign["grade"], rng.uniform(0.7, 1.0), smooth=True)
    return (lungs["left"] + lungs["right"]) * layer.array(blur=0.009) * (0.4 + 0.1 * sign["grade"])


def pneumothorax(canvas: Canvas, state: dict, shape: Frontal, lungs: dict, density: np.ndarray) -> np.ndarray:
    """Pneumothorax: black, without markings, outside the thin white line of the visceral pleura.

    Takes the density so far, because the vessels beyond the pleura must go.
    """
    sign = state["signs"]["Pneumothorax"]
    grade, side = sign["grade"], sign["side"]
    gap = 0.085 + 0.17 * grade
    wall = outer_wall(shape.lungs[side], -0.85, shape.dome[side] - 0.02)
    sink = np.clip((wall[:, 1] - wall[0, 1]) / (wall[-1, 1] - wall[0, 1]), 0, 1)  # 0 at the apex, 1 at the base
    inward = gap * (1 - 0.55 * sink**2)
    edge = wall - np.stack([SIDES[side] * inward, -1.15 * gap * (1 - sink) ** 2], axis=1)
    ring = np.concatenate([wall + [SIDES[side] * 0.05, 0], edge[::-1]])
    top = [(SIDES[side] * 0.1, -0.9), (SIDES[side] * 0.3, -0.95)]
    gas = canvas.layer().area(np.concatenate([top, ring, [(SIDES[side] * 0.1, edge[0, 1])]]), smooth=False)
    gas = gas.array(blur=0.006) * lungs[side]
    plain = soften(np.clip(density, 0, 1), 0.035 * canvas.scale)  # no markings, blurred ribs only
    line = canvas.layer().line(edge, 0.02).array(blur=0.003) * lungs[side]
    return gas * (0.6 * (plain - density) - 0.13 - 0.05 * grade) + 0.26 * line


def effusion(canvas: Canvas, state: dict, shape: Frontal, lungs: dict) -> np.ndarray:
    """Pleural Effusion: fluid in the angle, its surface a meniscus that climbs the wall."""
    sign = state["signs"]["Pleural Effusion"]
    total = np.zeros_like(canvas.x)
    for side in sides(sign):
        level = shape.dome[side] + 0.1 - 0.42 * sign["grade"]
        outward = np.clip((SIDES[side] * canvas.x - 0.1) / 0.6, 0, 1)
        surface = level - (0.09 + 0.12 * sign["grade"]) * (outward**3 * 2 - 0.25)
        total += lungs[side] * step(canvas.y - surface, 0.014)
    return 0.6 * total


def pleural(canvas: Canvas, state: dict, shape: Frontal, lungs: dict) -> np.ndarray:
    """Pleural Other: a thick apical cap, or calcified plaques."""
    sign, rng = state["signs"]["Pleural Other"], stream(state, "pleural")
    side, grade = sign["side"], sign["grade"]
    s = SIDES[side]
    if sign["kind"] == "plaque":
        layer = canvas.layer()
        for n in range(3):
            leaf = holly_leaf(rng, s * rng.uniform(0.36, 0.54), -0.28 + 0.2 * n + rng.normal(0, 0.03), 1 + 0.3 * grade)
            layer.area(leaf, 0.5).line(np.concatenate([leaf, leaf[:1]]), 0.024, 1.0)
        return 0.42 * layer.array(blur=0.006) * np.clip(1 + 0.25 * canvas.noise(rng, 0.04), 0.5, 1.5) * lungs[side]
    wall = outer_wall(shape.lungs[side], -0.85, -0.45)
    ends = np.sin(np.linspace(0.02, 0.98, len(wall)) * np.pi) ** 0.5  # thinner at both ends
    inward = (0.16 + 0.08 * grade) * ends[:, None] * [-0.35 * s, 0.9]
    band = canvas.layer().area(np.concatenate([wall + [0.0, -0.1], (wall + inward)[::-1]]), smooth=False)
    return 0.5 * band.array(blur=0.008) * lungs[side]


def holly_leaf(rng: np.random.Generator, x: float, y: float, size: float) -> np.ndarray:
    """The outline (N, 2) of a calcified plaque, wavy like a holly leaf."""
    angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    phase = rng.uniform(0, 2 * np.pi, 3)
    radius = 0.075 * size * (1 + 0.25 * np.sin(2 * angle + phase[0]) + 0.16 * np.sin(5 * angle + phase[1]))
    radius += 0.008 * np.sin(9 * angle + phase[2])
    return np.stack([x + radius * np.cos(angle), y + 1.15 * radius * np.sin(angle)], axis=1)


def fracture(canvas: Canvas, state: dict, shape: Frontal) -> np.ndarray:
    """Fracture: the lateral part of one to three ribs steps off at a dark cleft, in a cloud of callus."""
    sign = state["signs"]["Fracture"]
    side, s = sign["side"], SIDES[sign["side"]]
    fragments, cleft = canvas.layer(), canvas.layer()
    callus = np.zeros_like(canvas.x)
    for number in range(sign["rib"], sign["rib"] + broken_ribs(sign)):
        centre = rib(shape, side, number)
        at = centre[8]
        along = centre[9] - centre[7]
        along = along / np.hypot(*along)
        across = np.array([-along[1], along[0]]) * s
        for end, off in ((-1, 0.04), (1, -0.04)):  # the fragments override each other
            near, far = at + across * off + along * end * 0.012, at + across * off * 0.8 + along * end * 0.15
            fragments.line([near, far], 0.075, 0.85)
            x, y = at + across * off + along * end * 0.04
            callus = np.maximum(callus, canvas.spot(x, y, 0.1, sharp=1.4))
        cleft.line([at - across * 0.11 - along * 0.015, at + across * 0.11 + along * 0.015], 0.03)
    gap = cleft.array()
    return (0.38 * fragments.array(blur=0.005) + 0.36 * callus) * (1 - 0.8 * gap) - 0.03 * gap


def broken_ribs(sign: dict) -> int:
    """One to three: the grade of a fracture."""
    return 1 + (sign["grade"] >= 0.4) + (sign["grade"] >= 0.75)


# What fills the air of the lungs; the pneumothorax and the bones are drawn after these.
FILLING = {
    "Pneumonia": pneumonia,
    "Consolidation": consolidation,
    "Lung Opacity": opacity,
    "Lung Lesion": lesion,
    "Edema": edema,
    "Atelectasis": atelectasis,
    "Pleural Effusion": effusion,
    "Pleural Other": pleural,
}
