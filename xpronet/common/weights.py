"""Tensors from files of strangers: safetensors, or PyTorch's format without running any code in it."""

import os
import pickle
import re
from _codecs import encode  # what Python 2's pickles make bytes with
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from xpronet.common.files import raise_all, room

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


def save_tensors(tensors: Mapping[str, Tensor], path: str | Path) -> None:
    """Write a `.safetensors` file; OSError where it cannot be written, which safetensors says in a class of its own.

    Contiguous copies: safetensors keeps no strides, and channels-last weights have some.
    """
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    with room(path, size):
        try:
            save_file({name: tensor.contiguous().cpu() for name, tensor in tensors.items()}, path)
        except safetensors.SafetensorError as error:
            code = re.search(r"(?:os error|code:) (\d+)", str(error))
            if code is None:
                raise
            raise OSError(int(code[1]), os.strerror(int(code[1])), str(path)) from None


def load_exactly(
    module: nn.Module,
    state: Mapping[str, Any],
    *,
    where: str | Path,
    name: Callable[[str], str] = str,
    unused: Collection[str] = (),
) -> None:
    """Copy a state dict into a module that it must fit to the last key.

    Args:
        name: of a key, as the reader of an error knows it.
        unused: keys that may be there all the same.

    Raises:
        ValueError: a line for each key that is missing, unknown, misshaped or no tensor.
    """
    state = {key: tensor for key, tensor in state.items() if key not in unused}
    raise_all(where, misfits(state, module.state_dict(), name))
    module.load_state_dict(state)


def misfits(state: Mapping[str, Any], wanted: Mapping[str, Tensor], name: Callable[[str], str] = str) -> list[str]:
    """What does not fit, a line each; PyTorch's own list stops at what is no tensor and has the module's names only."""
    problems = [f"missing {name(key)}" for key in sorted(set(wanted) - set(state))]
    problems += [f"unknown {name(key)}" for key in sorted(set(state) - set(wanted))]
    for key in sorted(set(wanted) & set(state)):
        if not isinstance(state[key], Tensor):
            problems.append(f"{name(key)} is no tensor but {type(state[key]).__name__}")
        elif state[key].shape != wanted[key].shape:
            found, expected = tuple(state[key].shape), tuple(wanted[key].shape)
            problems.append(f"{name(key)} has shape {found}, expected {expected}")
    return problems
