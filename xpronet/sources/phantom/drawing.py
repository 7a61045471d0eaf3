"""Drawing in anatomical coordinates: the tools with which anatomy, signs and devices are made.

Anatomical coordinates: x from -1 to 1 and y from -1 (top) to 1, both in half pictures before zoom, shift and tilt. On a
frontal view the patient's right is at negative x. A picture of optical density is float32 (S, S): 0 is air around the
patient (black), about 1 the densest bone (white). Lines and areas are drawn by Pillow at twice the size, then reduced.
"""

import zlib

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

OVERSAMPLING = 2


def stream(state: dict, name: str) -> np.random.Generator:
    """A random stream of its own for each part of a drawing, so that adding one sign changes nothing else."""
    return np.random.default_rng([*state["seed"], zlib.crc32(name.encode())])


class Canvas:
    """The mapping between anatomical coordinates and pixels of one picture of `size` x `size`."""

    def __init__(self, size: int, *, zoom: float, shift: tuple[float, float], tilt: float, width: float):
        self.size = size
        cos, sin = np.cos(tilt) * zoom, np.sin(tilt) * zoom
        self.forward = np.array([[cos * width, -sin], [sin * width, cos]])
        self.shift = np.asarray(shift, dtype=float)
        inverse = np.linalg.inv(self.forward)
        line = (np.arange(size) + 0.5) / size * 2 - 1
        px, py = line[None, :] - self.shift[0], line[:, None] - self.shift[1]
        self.x = (inverse[0, 0] * px + inverse[0, 1] * py).astype(np.float32)  # (S, S) anatomical x of each pixel
        self.y = (inverse[1, 0] * px + inverse[1, 1] * py).astype(np.float32)  # (S, S)
        self.scale = zoom * size / 2  # pixels per anatomical unit

    def layer(self) -> "Layer":
        return Layer(self)

    def area(self, points: np.ndarray, *, blur: float = 0.01) -> np.ndarray:
        """The closed smooth curve through `points` (N, 2), filled: (S, S) in [0, 1], edge softened by `blur` units."""
        return self.layer().area(points).array(blur=blur)

    def spot(self, x: float, y: float, rx: float, ry: float | None = None, *, sharp: float = 1.0) -> np.ndarray:
        """A round shadow (S, S): 1 at its centre, fading out near the radii (rx, ry); boxier if `sharp` is above 1."""
        distance = ((self.x - x) / rx) ** 2 + ((self.y - y) / (ry or rx)) ** 2
        return np.exp(-1.6 * distance**sharp)

    def noise(self, rng: np.random.Generator, grain: float) -> np.ndarray:
        """Smooth noise (S, S) of about zero mean and unit deviation whose grains are `grain` units wide."""
        cells = max(4, round(2 / grain))
        coarse = Image.fromarray(rng.standard_normal((cells, cells), dtype=np.float32))
        return np.asarray(coarse.resize((self.size, self.size), Image.Resampling.BICUBIC)) * 1.2


class Layer:
    """A grey picture to draw on; its values are in [0, 1] and later strokes overwrite earlier ones."""

    def __init__(self, canvas: Canvas):
        self.canvas = canvas
        self.image = Image.new("L", (canvas.size * OVERSAMPLING,) * 2)
        self.draw = ImageDraw.Draw(self.image)

    def _pixels(self, points: np.ndarray) -> list[tuple[float, float]]:
        moved = np.asarray(points, dtype=float) @ self.canvas.forward.T + self.canvas.shift
        return [tuple(p) for p in ((moved + 1) * (self.canvas.size * OVERSAMPLING / 2)).tolist()]

    def _thickness(self, width: float) -> int:
        return max(1, round(width * self.canvas.scale * OVERSAMPLING))

    def area(self, points: np.ndarray, value: float = 1.0, *, smooth: bool = True) -> "Layer":
        """Fill the closed curve through `points` (N, 2); straight edges unless `smooth`."""
        curve = spline(points, closed=True) if smooth else points
        self.draw.polygon(self._pixels(curve), fill=round(255 * value))
        return self

    def line(self, points: np.ndarray, width: float, value: float = 1.0, *, smooth: bool = False) -> "Layer":
        """Draw the open curve through `points` (N, 2), `width` in units."""
        curve = spline(points, closed=False) if smooth else points
        joint = "curve" if width > 0.08 else None  # round joints cost time and are missed on thick lines only
        self.draw.line(self._pixels(curve), fill=round(255 * value), width=self._thickness(width), joint=joint)
        return self

    def disc(self, x: float, y: float, radius: float, value: float = 1.0, *, ring: float = 0.0) -> "Layer":
        """A disc, or a ring of the width `ring`."""
        (cx, cy), r = self._pixels([(x, y)])[0], radius * self.canvas.scale * OVERSAMPLING
        box, grey = (cx - r, cy - r, cx + r, cy + r), round(255 * value)
        if ring:
            self.draw.ellipse(box, outline=grey, width=self._thickness(ring))
        else:
            self.draw.ellipse(box, fill=grey)
        return self

    def array(self, *, blur: float = 0.0) -> np.ndarray:
        """The layer as float32 (S, S) in [0, 1], its edges blurred by about `blur` units (box-shaped, for speed)."""
        image = self.image.reduce(OVERSAMPLING)
        if blur * self.canvas.scale > 0.6:  # less is what the reduction blurs anyway
            image = image.filter(ImageFilter.BoxBlur(1.6 * blur * self.canvas.scale))
        return np.asarray(image, dtype=np.float32) / 255


def soften(picture: np.ndarray, radius: float) -> np.ndarray:
    """Blur a mask (S, S) in [0, 1] by `radius` pixels; coarse blurs are made on a quarter of the size, for speed."""
    image = Image.fromarray((picture * 255).astype(np.uint8))
    if radius > 6:
        size = image.size
        small = image.reduce(4).filter(ImageFilter.GaussianBlur(radius / 4))
        image = small.resize(size, Image.Resampling.BICUBIC)
    else:
        image = image.filter(ImageFilter.GaussianBlur(radius))
    return np.asarray(image, dtype=np.float32) / 255


def step(distance: np.ndarray, width: float) -> np.ndarray:
    """A soft step (S, S): 0 where `distance` is negative, 1 where positive, over about four times `width` units."""
    return 0.5 + 0.5 * np.tanh(distance / (2 * width))


def spline(points: np.ndarray, *, closed: bool, steps: int = 8) -> np.ndarray:
    """The Catmull-Rom curve through `points` (N, 2) -> (about N * steps, 2)."""
    p = np.asarray(points, dtype=float)
    if closed:
        p0, p1, p2, p3 = np.roll(p, 1, 0), p, np.roll(p, -1, 0), np.roll(p, -2, 0)
    else:
        padded = np.concatenate([p[:1], p, p[-1:]])
        p0, p1, p2, p3 = padded[:-3], padded[1:-2], padded[2:-1], padded[3:]
    t = np.linspace(0, 1, steps, endpoint=False)[None, :, None]
    p0, p1, p2, p3 = (q[:, None, :] for q in (p0, p1, p2, p3))
    curve = 0.5 * (2 * p1 + (p2 - p0) * t + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2 + (3 * p1 - 3 * p2 + p3 - p0) * t**3)
    curve = curve.reshape(-1, 2)
    return curve if closed else np.concatenate([curve, p[-1:]])


def mirror(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The same points on the other side of the midline."""
    return [(-x, y) for x, y in points]
