"""Where tensors live and how they are made repeatable."""

import torch


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


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """bf16 runs matrix products and convolutions in bf16; weights, optimiser, softmaxes and losses stay in float32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")
