"""How a benchmark compares two sides: in one process, taking turns, by the lower quartile of each."""

import time
from collections.abc import Callable

import numpy as np


def alternate(ours: Callable[[], object], limit: Callable[[], object], *, repeats: int) -> tuple[float, float]:
    """Seconds of each side; both warm up once, and turns follow each other so that noise hits both.

    The lower quartile of its times: other programs on the machine only ever add to one.
    """
    ours(), limit()
    times = {ours: [], limit: []}
    for _ in range(repeats):
        for side, seconds in times.items():
            started = time.perf_counter()
            side()
            seconds.append(time.perf_counter() - started)
    return tuple(float(np.quantile(times[side], 0.25)) for side in (ours, limit))


def at_most(name: str, ours: float, limit: float, must: float, unit: str = "s") -> dict:
    """A row that holds where ours is at most `must` times the limit."""
    return _row(name, ours, limit, f"<= {must}", ours / limit <= must, unit)


def at_least(name: str, ours: float, limit: float, must: float, unit: str) -> dict:
    """A row that holds where ours is at least `must` times the limit."""
    return _row(name, ours, limit, f">= {must}", ours / limit >= must, unit)


def _row(name: str, value: float, limit: float, must: str, holds: bool, unit: str) -> dict:
    return {
        "name": name,
        "value": value,
        "unit": unit,
        "limit": limit,
        "ratio": value / limit,
        "must": must,
        "holds": bool(holds),
    }
