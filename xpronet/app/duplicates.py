"""Pictures that are nearly the same, and pictures of nothing: what the packed squares show at a glance."""

from collections import defaultdict
from collections.abc import Iterator

import numpy as np
from PIL import Image

from xpronet.common.progress import track
from xpronet.data.pack import ImagePack

SIDE = 16  # of the difference hash: 256 bits
NEAR = 7  # bits that two hashes of the same picture may differ by
BLANK = 4.0  # standard deviation of the grey values, of 255, below which nothing is to be seen


def look(pack: ImagePack) -> tuple[np.ndarray, np.ndarray]:
    """Difference hash (N, 32) uint8 and standard deviation (N,) float32 of each image's square."""
    hashes = np.zeros((len(pack), SIDE * SIDE // 8), np.uint8)
    deviations = np.zeros(len(pack), np.float32)
    for position in track(range(len(pack)), what="look at images", unit="images"):
        square = pack.square(position)
        deviations[position] = square.std()
        small = Image.fromarray(square).resize((SIDE + 1, SIDE), Image.Resampling.BOX)
        grey = np.asarray(small, dtype=np.int16)  # (16, 17)
        hashes[position] = np.packbits(grey[:, 1:] > grey[:, :-1])
    return hashes, deviations


def near_duplicates(hashes: np.ndarray) -> Iterator[tuple[int, int]]:
    """Pairs of rows of (N, 32) uint8 that differ in at most `NEAR` bits.

    Cut in NEAR + 1 pieces, two such rows have a piece in common: only rows that share one are compared.
    """
    pieces = hashes.view(np.uint32)  # (N, 8)
    seen = set()
    for column in range(pieces.shape[1]):
        groups = defaultdict(list)
        for row, piece in enumerate(pieces[:, column].tolist()):
            groups[piece].append(row)
        for rows in groups.values():
            for place, row in enumerate(rows[:-1]):
                others = np.array(rows[place + 1 :])
                distance = np.bitwise_count(hashes[others] ^ hashes[row]).sum(axis=1)
                seen.update((row, int(other)) for other in others[distance <= NEAR])
    yield from sorted(seen)
