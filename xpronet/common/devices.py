"""Where tensors live and how they are made repeatable."""

import os
import shutil

import torch
from torch import nn


def choose(device: str) -> torch.device:
    """The torch device of `auto`, `cpu`, `cuda` or `mps`.

    Raises:
        ValueError: the device is not there.
    """
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        device = next(name for name in ("cuda", "mps", "cpu") if there[name])
    if not there[device]:
        raise ValueError(f"runtime.device: {device} is not available here; use auto or cpu")
    return torch.device(device)


HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Matrix products and convolutions in half precision; weights, optimiser, softmaxes and losses stay in float32."""
    return torch.autocast(device.type, dtype=HALF.get(precision, torch.bfloat16), enabled=precision in HALF)


def exact(x: torch.Tensor) -> torch.Tensor:
    """At least float32: softmaxes, means, norms and losses are not for half precision."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def loss_scaling(device: torch.device, precision: str) -> torch.amp.GradScaler:
    """What keeps small gradients from vanishing in fp16; with other precisions it does nothing."""
    return torch.amp.GradScaler(device.type, enabled=precision == "fp16")


def compile_in_place(module: nn.Module, *, key: str) -> None:
    """Compile a module with torch.compile when it first runs; the names of its weights stay.

    Raises:
        ValueError: there is no C++ compiler, which `key` needs.
    """
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        raise ValueError(
            f"{key}: torch.compile needs a C++ compiler, and {compiler} is not there: set CXX, or {key}=false"
        )
    module.compile()
