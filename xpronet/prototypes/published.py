"""The published `init_prototypes.pt`: cluster centres of the paper's authors as a start of the prototype matrix.

Rows go by class; within a class those of flipped images come first, then those of the images as they are (row 14).
Columns are image features, then text features (Eq. 5).
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from xpronet.common.weights import read_weights
from xpronet.labels.conditions import CONDITIONS, Order, in_our_order


def read_prototypes(paths: Sequence[str | Path], *, n_prototypes: int, order: Order) -> np.ndarray:
    """PM (14, N^p, D) float32 in the order of CONDITIONS.

    Args:
        paths: one file of (14 x N^p, D), or two of (14 x N^p / 2, D): flipped images, then images as they are.
        order: class order of the files, IU-Xray's or MIMIC-CXR's (row 19).

    Raises:
        ValueError: a file is missing, broken, no matrix, or of another size.
    """
    each = n_prototypes / len(paths)
    parts = []
    for path in paths:
        matrix = read_weights(path)
        if isinstance(matrix, dict) and len(matrix) == 1:  # safetensors files have names in them
            matrix = next(iter(matrix.values()))
        if not isinstance(matrix, torch.Tensor) or matrix.dim() != 2:
            raise ValueError(f"prototype_init: {path}: expected one matrix of prototypes")
        if len(matrix) != len(CONDITIONS) * each:
            raise ValueError(
                f"prototype_init: {path} has {len(matrix)} rows, expected {len(CONDITIONS)} observations x "
                f"{each:g}: set n_prototypes to {len(matrix) * len(paths) / len(CONDITIONS):g}"
            )
        if not torch.isfinite(matrix).all():
            raise ValueError(f"prototype_init: {path} holds values that are no numbers")
        parts.append(matrix.detach().float().numpy().reshape(len(CONDITIONS), -1, matrix.shape[1]))
    if len({part.shape[2] for part in parts}) > 1:
        raise ValueError(f"prototype_init: {paths[0]} and {paths[1]} differ in width")
    return in_our_order(np.concatenate(parts, axis=1), order)
