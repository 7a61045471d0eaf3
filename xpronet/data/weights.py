"""Tensors from files of strangers: safetensors, or PyTorch's format without running any code in it."""

import pickle
from _codecs import encode  # what Python 2's pickles make bytes with
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch
from safetensors.torch import load_file

_scalar = np._core.multiarray.scalar
# Published checkpoints keep their best score as a NumPy number beside the weights: numbers, no code.
_NUMBERS = [
    *((_scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("float32", "float64", "int32", "int64")),
    encode,
]


def read_weights(path: str | Path) -> Any:
    """What a `.safetensors` or a PyTorch file holds, on the CPU.

    Raises:
        ValueError: no such file, broken, or more than tensors, numbers and containers in it.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with torch.serialization.safe_globals(_NUMBERS):
            return torch.load(path, map_location="cpu", weights_only=True)
    except (
        safetensors.SafetensorError,
        pickle.UnpicklingError,
        RuntimeError,
        OSError,
        ValueError,
        EOFError,
    ) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{path}: cannot be read as tensors: {reason}") from None
