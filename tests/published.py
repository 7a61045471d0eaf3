"""Loaders of the published numbers: weights that anyone can make again, inputs and outputs."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from xpronet.model.checkpoint import load_official
from xpronet.model.losses import Objective

OBJECTIVE = Objective(theta=1.5, alpha=0.4, lambda_visual=1.0, delta_textual=0.1)

# Limits in float32 as the fixtures' README gives them; float64 has one for all.
FEATURES, LOG_PROBABILITIES, LOSSES, GRADIENTS, SEQUENCES = 5e-5, 1e-4, 1e-6, 1e-3, 2e-4
FLOAT64 = 1e-9


def recipe_of(golden: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("recipe", golden / "recipe.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Tiny:
    """A published tiny two-view model with its inputs and outputs."""

    def __init__(self, folder: Path, dtype=torch.float32):
        recipe = recipe_of(folder.parent)
        self.meta = json.loads((folder / "meta.json").read_text())
        shapes = {k: s for k, s in self.meta["state_dict_shapes"].items() if k.startswith("visual_extractor.")}
        state = {k: torch.from_numpy(v) for k, v in recipe.state_from_recipe(shapes, self.meta["recipe"]).items()}
        state |= load_file(folder / "encdec.safetensors")
        self.state = {k: v.to(dtype) if v.is_floating_point() else v for k, v in state.items()}
        self.gamma, self.heads = self.meta["args"]["topk"], self.meta["args"]["num_heads"]
        inputs = np.load(folder / "inputs.npz")
        self.images = torch.from_numpy(inputs["images"]).to(dtype)
        self.tokens = torch.from_numpy(inputs["report_ids"])
        self.labels = torch.from_numpy(inputs["labels"]).to(dtype) if "labels" in inputs else None
        suffix = "" if dtype == torch.float32 else "_f64"
        self.outputs = np.load(folder / f"outputs{suffix}.npz")
        self.gradients = np.load(folder / f"grads{suffix}.npz")
        self.generation = json.loads((folder / "generation.json").read_text())

    def model(self):
        return load_official(self.state, gamma=self.gamma, heads=self.heads)


def close(ours: torch.Tensor, published, limit: float, what: str = "") -> None:
    np.testing.assert_allclose(ours.detach().numpy(), published, rtol=0, atol=limit, err_msg=what)


class Watch:
    """What modules of a network put out, the last call of each, by its name."""

    def __init__(self, model: torch.nn.Module, *names: str):
        self.seen = {}
        for name in names:
            model.get_submodule(name).register_forward_hook(
                lambda module, inputs, output, name=name: self.seen.__setitem__(name, output)
            )

    def __getitem__(self, name: str) -> torch.Tensor:
        return self.seen[name]


@pytest.fixture(scope="module")
def golden(shared) -> Path:
    return shared / "golden"
