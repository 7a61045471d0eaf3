"""Tensors from files of strangers: safetensors, or PyTorch's format without running any code in it."""

import hashlib
import json
import os
import pickle
import re
import struct
import warnings
import zipfile
from _codecs import encode  # what Python 2's pickles make bytes with
from collections.abc import Callable, Collection, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import safetensors
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from xpronet.common.files import raise_all, room

Module = TypeVar("Module", bound=nn.Module)

_scalar = np._core.multiarray.scalar
# Published checkpoints keep their best score as a NumPy number beside the weights: numbers, no code.
_NUMBERS = [
    *((_scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("float32", "float64", "int32", "int64")),
    encode,
]


# What damage raises in PyTorch's unpickler, which reads a file as a program for a small machine.
_BROKEN = (
    safetensors.SafetensorError,
    pickle.UnpicklingError,
    RuntimeError,
    OSError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    OverflowError,
    struct.error,
)


def fingerprint(module: nn.Module, *about: Any) -> str:
    """SHA-256 of a module's weights and of whatever else decides what is made with them: the name of a cache."""
    key = hashlib.sha256(repr(about).encode())
    for name, tensor in module.state_dict().items():
        key.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    return key.hexdigest()


def read_weights(path: str | Path, *, again: str = "") -> Any:
    """What a `.safetensors` or a PyTorch file holds, on the CPU.

    Args:
        again: what makes or fetches the file again.

    Raises:
        ValueError: no such file, or more than tensors, numbers and containers in it, or less: what it looks like.
    """
    path = Path(path)
    again = f"; {again}" if again else ""
    wrong = not_weights(path)
    if wrong:
        raise ValueError(f"{path}: {wrong}{again}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with torch.serialization.safe_globals(_NUMBERS), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is odd in a file is an error below, or no matter
            return torch.load(path, map_location="cpu", weights_only=True)
    except _BROKEN as error:
        code = re.search(r"GLOBAL ([\w.]+)", str(error))  # PyTorch's text goes on with how to run it
        if code:
            raise ValueError(
                f"{path}: cannot be read as tensors: it holds {code[1]} beside tensors, numbers and containers: code,"
                " which is never run"
            ) from None
        raise ValueError(f"{path}: cannot be read as tensors: it is damaged{again}") from None


def not_weights(path: str | Path) -> str | None:
    """What is wrong with a weight file, by a look at its ends; None where it seems whole.

    Raises:
        OSError: the file may not be read.
    """
    path = Path(path)
    if not path.is_file():
        return "no such file" if not path.is_symlink() else "a link to a file that is not there (`git annex get`?)"
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(400)
        length = int.from_bytes(head[:8], "little")  # of the header, if this is safetensors
        header = (head[8:] + file.read(max(length + 8 - len(head), 0)))[:length] if length < 2**27 else b""
    found = _kind(head, header, size, path)
    wanted = "safetensors" if path.suffix == ".safetensors" else "PyTorch"
    if found in ("safetensors", "PyTorch"):
        return None if found == wanted else f"a file of {found}, though its name does not end so: rename it"
    return f"cannot be read as tensors: it is {found}"


def _kind(head: bytes, header: bytes, size: int, path: Path) -> str:
    """What a file is: "safetensors", "PyTorch", or something else in words."""
    if not head:
        return "empty"
    if head.startswith(b"version https://git-lfs"):
        return "a pointer of Git LFS, which `git lfs pull` replaces by the file"
    if b"/annex/objects/" in head:
        return "a pointer of git-annex, which `git annex get` replaces by the file"
    if head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a web page"
    if head[8:9] == b"{" and size > 8:
        try:
            ends = [each["data_offsets"][1] for name, each in json.loads(header).items() if name != "__metadata__"]
        except (ValueError, KeyError, TypeError, AttributeError):
            return "a safetensors file that was cut, or damaged in its header"
        needed = 8 + len(header) + max(ends, default=0)
        return "safetensors" if size >= needed else f"cut: {size:,} of {needed:,} bytes"
    if head.startswith(b"PK"):
        try:
            names = zipfile.ZipFile(path).namelist()
        except (zipfile.BadZipFile, UnicodeDecodeError, NotImplementedError):
            return f"cut: {size:,} bytes of a PyTorch file without its end"
        if any(name.endswith("/constants.pkl") for name in names):
            return "a TorchScript program, which holds code: save its state_dict"
        return "PyTorch" if any(name.endswith("/data.pkl") for name in names) else "an archive: unpack it"
    if head.startswith(b"\x80"):
        return "PyTorch"  # as before version 1.6: a pickle
    if head.startswith((b"\x1f\x8b", b"7z\xbc\xaf", b"BZh", b"\xfd7zXZ")):
        return "an archive: unpack it"
    try:
        text = head.decode(errors="ignore" if size > len(head) else "strict").lstrip("\ufeff")
    except UnicodeDecodeError:
        text = "\0"
    shown = " ".join(text.split())
    return f"a text that begins {shown[:60]!r}" if shown.isprintable() else "neither PyTorch's nor safetensors' format"


def save_tensors(tensors: Mapping[str, Tensor], path: str | Path, **header: str) -> None:
    """Write a `.safetensors` file; OSError where it cannot be written, which safetensors says in a class of its own.

    `header`: texts for the file's own. Contiguous copies: safetensors keeps no strides, and channels-last weights have
    some.
    """
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    with room(path, size):
        try:
            save_file({name: tensor.contiguous().cpu() for name, tensor in tensors.items()}, path, header or None)
        except safetensors.SafetensorError as error:
            code = re.search(r"(?:os error|code:) (\d+)", str(error))
            if code is None:
                raise
            raise OSError(int(code[1]), os.strerror(int(code[1])), str(path)) from None


def undrawn(make: Callable[[], Module]) -> Module:
    """A module whose weights nobody has drawn, for `load_exactly` to fill: drawing them takes four times as long."""
    with torch.device("meta"):
        module = make()
    return module.to_empty(device="cpu")


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


def without_prefix(state: Mapping[str, Any], prefix: str, where: str | Path) -> dict[str, Any]:
    """A state dict whose keys may begin with `prefix`, without it; ValueError where that makes two keys one."""
    found = {str(key).removeprefix(prefix): value for key, value in state.items()}
    if len(found) < len(state):
        raise ValueError(f"{where}: keys stand twice, with and without {prefix!r}")
    return found


def misfits(state: Mapping[str, Any], wanted: Mapping[str, Tensor], name: Callable[[str], str] = str) -> list[str]:
    """What does not fit, a line each; PyTorch's own list stops at what is no tensor and has the module's names only."""
    missing = [f"missing {name(key)}" for key in sorted(set(wanted) - set(state))]
    unknown = [f"unknown {name(key)}" for key in sorted(set(state) - set(wanted))]
    problems = [line for pair in zip_longest(missing, unknown) for line in pair if line]  # what only has another name
    for key in sorted(set(wanted) & set(state)):
        if not isinstance(state[key], Tensor):
            problems.append(f"{name(key)} is no tensor but {type(state[key]).__name__}")
        elif state[key].shape != wanted[key].shape:
            found, expected = tuple(state[key].shape), tuple(wanted[key].shape)
            problems.append(f"{name(key)} has shape {found}, expected {expected}")
        elif not _plain(state[key], like=wanted[key]):
            problems.append(f"{name(key)} holds {state[key].dtype} ({state[key].layout}), expected {wanted[key].dtype}")
    return problems


def _plain(tensor: Tensor, *, like: Tensor) -> bool:
    """Whether a tensor's numbers are there, one for each place, and fractions where those of `like` are."""
    plain = tensor.layout == torch.strided and not tensor.is_meta and not tensor.is_quantized
    return plain and (tensor.is_floating_point() or not like.is_floating_point())
