"""Progress of long work: a bar on a terminal, a log line now and then elsewhere; both with a rate and an estimate."""

import logging
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
SECONDS_BETWEEN_LINES = 30

logger = logging.getLogger(__name__)


def track(items: Iterable[Item], *, what: str, unit: str, total: int | None = None, done: int = 0) -> Iterator[Item]:
    """Yield the items and show how far the work is; `done` of the `total` are behind us already."""
    total = len(items) if total is None else total
    if sys.stderr.isatty():
        yield from tqdm(items, desc=what, unit=f" {unit}", total=total, initial=done, leave=False)
        return
    started = said = time.monotonic()
    for fresh, item in enumerate(items, start=1):
        yield item
        now, done = time.monotonic(), done + 1
        if now - said > SECONDS_BETWEEN_LINES and done < total:
            said, rate = now, fresh / (now - started)
            logger.info("%s: %d of %d, %.1f %s/s, %.0f s left", what, done, total, rate, unit, (total - done) / rate)
