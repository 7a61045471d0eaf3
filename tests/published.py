"""The published numbers: weights and pictures that seeds make, what else goes in, and what comes out.

A small set is committed in tests/golden (its NOTICE says what it is), the whole one lies in ../shared/golden. Files and
keys have the same names in both; the small set has fewer, and of long arrays every n-th value of the last axis.
"""

import functools
import json
import math
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from xpronet.common.params import load_yaml
from xpronet.model.checkpoint import load_official
from xpronet.model.losses import Objective
from xpronet.training.params import TrainParams

OBJECTIVE = Objective(theta=1.5, alpha=0.4, lambda_visual=1.0, delta_textual=0.1)
PRESET = Path(__file__).parents[1] / "presets/iu_xray.yaml"
RECIPE = TrainParams(**load_yaml(PRESET)["train"])  # the published one, row 27

# Limits in float32 as the fixtures' README gives them; float64 has one for all.
FEATURES, LOG_PROBABILITIES, LOSSES, GRADIENTS, SEQUENCES = 5e-5, 1e-4, 1e-6, 1e-3, 2e-4
FLOAT64 = 1e-9

both_sets = pytest.mark.parametrize("golden", ["committed", "shared"], indirect=True)
committed_set = pytest.mark.parametrize("golden", ["committed"], indirect=True)
shared_set = pytest.mark.parametrize("golden", ["shared"], indirect=True)


@pytest.fixture(scope="module")
def golden(request) -> Path:
    if request.param == "committed":
        return Path(__file__).parent / "golden"
    return request.getfixturevalue("shared") / "golden"


def uniform(key: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Numbers in [-1, 1) from a stream of their own, in a generator that numpy keeps the same for ever."""
    random = np.random.RandomState(zlib.crc32(key.encode()) ^ seed)
    return (random.random_sample(math.prod(shape)) * 2.0 - 1.0).reshape(shape)


def made_weight(key: str, shape: tuple[int, ...], recipe: dict) -> np.ndarray:
    """A weight under its published name, the same bits on every machine."""
    *_, module, leaf = key.split(".")
    if leaf == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    if key.startswith("visual_extractor."):
        u = uniform(key, shape, recipe["seed_visual"])
        if len(shape) == 4:
            made = u * math.sqrt(3.0) * math.sqrt(2.0 / (shape[0] * shape[2] * shape[3]))
        elif leaf == "running_var":
            made = 1.0 + 0.5 * u
        elif leaf == "weight":
            made = (recipe["last_bn_gain"] if module == recipe["last_bn_name"] else 1.0) * (1.0 + 0.1 * u)
        else:  # bias, running_mean
            made = u * 0.1
    else:
        u = uniform(key.replace(".model.cmn.", ".cmn."), shape, recipe["seed_encdec"])  # one module, two names
        gain = recipe["gains"][max((part for part in recipe["gains"] if part in key), key=len)]
        if leaf in ("a_2", "b_2"):  # LayerNorm's scale and shift
            made = (leaf == "a_2") + 0.2 * u
        elif leaf == "protypes":
            made = u * gain
        elif len(shape) == 2:
            made = u * gain * math.sqrt(6.0 / (shape[0] + shape[1]))
        else:
            made = u * 0.1 * gain
    return made.astype(np.float32)


def made_state(shapes: dict[str, list[int]], recipe: dict) -> dict[str, torch.Tensor]:
    """A published state dict without its position tables."""
    state = {key: made_weight(key, tuple(shape), recipe) for key, shape in shapes.items() if not key.endswith(".pe")}
    if "logit_bias_0" in recipe:
        state["encoder_decoder.logit.bias"][0] = recipe["logit_bias_0"]
    return {key: torch.from_numpy(value) for key, value in state.items()}


@functools.cache
def visual_state(folder: Path) -> dict[str, torch.Tensor]:
    meta = json.loads((folder / "meta.json").read_text())
    shapes = {k: s for k, s in meta["state_dict_shapes"].items() if k.startswith("visual_extractor.")}
    return made_state(shapes, meta["recipe"])


def made_pictures(n: int, size: int, seed: int, cell: int, **_) -> torch.Tensor:
    """(n / 2, 2, 3, size, size): blocks with noise on them, normalised as ImageNet's pictures are."""
    random = np.random.RandomState(seed)
    count = -(-size // cell)
    blocks = random.randint(0, 200, (n, 1, count, count)).repeat(cell, 2).repeat(cell, 3)[:, :, :size, :size]
    pictures = (blocks + random.randint(0, 56, (n, 3, size, size))).astype(np.uint8)
    mean, std = (np.array(v, np.float32)[:, None, None] for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    return torch.from_numpy((pictures.astype(np.float32) / np.float32(255) - mean) / std).unflatten(0, (-1, 2))


class Tiny:
    """A published tiny two-view model with its inputs and outputs."""

    def __init__(self, folder: Path, dtype=torch.float32):
        self.meta = json.loads((folder / "meta.json").read_text())
        self.every = self.meta.get("every", 1)  # of the last axis of outputs and gradients
        state = visual_state(folder) | load_file(folder / "encdec.safetensors")
        self.state = {k: v.to(dtype) if v.is_floating_point() else v for k, v in state.items()}
        self.gamma, self.heads = self.meta["args"]["topk"], self.meta["args"]["num_heads"]
        self.images = made_pictures(**self.meta["image_recipe"])[self.meta["rows_of_annotation"]].to(dtype)
        inputs = np.load(folder / "inputs.npz")
        self.tokens = torch.from_numpy(inputs["report_ids"])
        self.labels = torch.from_numpy(inputs["labels"]).to(dtype) if "labels" in inputs else None
        # The small set has the float64 numbers alone: float32 ones lie much nearer to them than the limits.
        single = dtype == torch.float32 and (folder / "outputs.npz").exists()
        self.suffix = "" if single else "_f64"
        self.outputs = np.load(folder / f"outputs{self.suffix}.npz")
        self.gradients = np.load(folder / f"grads{self.suffix}.npz")
        self.generation = json.loads((folder / "generation.json").read_text())

    def model(self):
        return load_official(self.state, gamma=self.gamma, heads=self.heads)


class Full:
    """The published model at its real size, ResNet-101 and d 512, with four studies."""

    def __init__(self, golden: Path):
        self.meta = json.loads((golden / "full_iu/meta.json").read_text())
        self.every = self.meta.get("every", 1)
        layout = json.loads((golden / "prototypes/state_dict_full_iu.json").read_text())
        shapes = {entry["key"]: entry["shape"] for entry in layout["keys"]}
        self.model = load_official(made_state(shapes, self.meta["recipe"]), gamma=15, heads=8)
        self.images = made_pictures(**self.meta["images"])
        self.outputs = np.load(golden / "full_iu/outputs.npz")
        self.tokens, self.labels = (torch.from_numpy(self.outputs[name]) for name in ("report_ids", "labels"))


def close(ours: torch.Tensor, published, limit: float, what: str = "", every: int = 1) -> None:
    """Raise where they differ by more; of ours every n-th value of the last axis is compared."""
    ours = ours.detach() if ours.dim() == 0 else ours.detach()[..., ::every]
    np.testing.assert_allclose(ours.numpy(), published, rtol=0, atol=limit, err_msg=what)


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
