"""What a training is made of, taken and put back: statistics, random generators, weights, the optimiser's moments."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn


def statistics(module: nn.Module) -> list[Tensor]:
    """Copies of its buffers, which batch norm keeps its statistics in."""
    return [each.clone() for each in module.buffers()]


def restore_statistics(module: nn.Module, before: Sequence[Tensor]) -> None:
    for buffer, copy in zip(module.buffers(), before, strict=True):
        buffer.copy_(copy)


def random_states(device: torch.device) -> dict[str, Tensor]:
    """Of every generator that training draws from; all others are seeded where they are used."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        states["mps"] = torch.mps.get_rng_state()
    return states


def set_random_states(states: Mapping[str, Tensor], device: torch.device) -> None:
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], device)
    elif device.type == "mps":
        torch.mps.set_rng_state(states["mps"])


@contextmanager
def holding(module: nn.Module, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """The module with other weights and buffers while the block runs."""
    own = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    module.load_state_dict(weights)
    yield
    module.load_state_dict(own)


def flat(parts: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return {f"{part}/{name}": tensor for part, tensors in parts.items() for name, tensor in tensors.items()}


def parts_of(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """What `flat` has made one."""
    found: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        part, _, name = key.partition("/")
        found.setdefault(part, {})[name] = tensor
    return found


def restore_optimiser(optimiser: torch.optim.Optimizer, groups: list[dict], tensors: Mapping[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = tensor
    groups = [{key: tuple(value) if key == "betas" else value for key, value in group.items()} for group in groups]
    optimiser.load_state_dict({"state": state, "param_groups": groups})
    for parameter, moments in optimiser.state.items():
        for name, tensor in moments.items():
            if tensor.shape == parameter.shape:  # a fused step walks through their memory side by side
                moments[name] = torch.empty_like(parameter).copy_(tensor)
