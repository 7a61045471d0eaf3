"""The network is the published function: same weights, same numbers (fixtures and limits of the published code)."""

import importlib.util
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from xpronet.model.checkpoint import load_official
from xpronet.model.losses import contrastive_loss
from xpronet.model.xpronet import Objective

OBJECTIVE = Objective(theta=1.5, alpha=0.4, lambda_visual=1.0, delta_textual=0.1)


@pytest.fixture(scope="module")
def recipe(shared):
    spec = importlib.util.spec_from_file_location("recipe", shared / "golden/recipe.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Tiny:
    """The published tiny two-view model with its inputs and outputs."""

    def __init__(self, folder, recipe, dtype=torch.float32):
        self.meta = json.loads((folder / "meta.json").read_text())
        shapes = {k: s for k, s in self.meta["state_dict_shapes"].items() if k.startswith("visual_extractor.")}
        state = {k: torch.from_numpy(v) for k, v in recipe.state_from_recipe(shapes, self.meta["recipe"]).items()}
        state |= load_file(folder / "encdec.safetensors")
        self.state = {k: v.to(dtype) if v.is_floating_point() else v for k, v in state.items()}
        self.model = load_official(self.state, gamma=self.meta["args"]["topk"], heads=self.meta["args"]["num_heads"])
        inputs = np.load(folder / "inputs.npz")
        self.images = torch.from_numpy(inputs["images"]).to(dtype)
        self.labels = torch.from_numpy(inputs["labels"]).to(dtype)
        self.tokens = torch.from_numpy(inputs["report_ids"])
        self.outputs = np.load(folder / ("outputs.npz" if dtype == torch.float32 else "outputs_f64.npz"))
        self.generation = json.loads((folder / "generation.json").read_text())["cases"]


@pytest.fixture(scope="module")
def tiny(shared, recipe):
    return Tiny(shared / "golden/tiny_iu", recipe)


def close(ours, published, limit):
    np.testing.assert_allclose(ours.detach().numpy(), published, rtol=0, atol=limit)


@pytest.mark.parametrize(("dtype", "limits"), [(torch.float32, (5e-5, 1e-4, 1e-6)), (torch.float64, (1e-9,) * 3)])
def test_forward_and_losses(shared, recipe, dtype, limits):
    tiny = Tiny(shared / "golden/tiny_iu", recipe, dtype)
    features, log_probability, loss = limits
    with torch.no_grad():
        output = tiny.model(tiny.images, tiny.tokens, tiny.labels)
        patches, _ = tiny.model.patch_features(tiny.images, None)
        memory, _, _ = tiny.model.encode(tiny.images, tiny.model.query_prototypes(tiny.labels), None)
        losses = tiny.model.losses(output, tiny.tokens, tiny.labels, objective=OBJECTIVE)
    ours = {
        "att_feats": patches,
        "memory": memory,
        "img_responses": output.visual_responses,
        "txt_responses": output.textual_responses,
    }
    assert len(set(ours) & set(tiny.outputs)) >= 3
    for name in set(ours) & set(tiny.outputs):  # the float64 file has fewer
        close(ours[name], tiny.outputs[name], features)
    close(output.log_probs, tiny.outputs["logprobs"], log_probability)
    names = {"cross_entropy": "ce", "visual_contrastive": "img_con_loss", "textual_contrastive": "txt_con_loss"}
    for ours, published in names.items():
        close(getattr(losses, ours), tiny.outputs[published], loss)


def test_beam_search_tokens_and_scores(tiny):
    bias = tiny.model.head.bias.detach().clone()
    for case in tiny.generation:
        if case["sample_n"] != 1:
            continue
        with torch.no_grad():
            tiny.model.head.bias[0] = bias[0] + case["logit_bias_0_delta"]
        result = tiny.model.generate(tiny.images, tiny.labels, beam_size=case["beam_size"], max_length=30)
        assert result.tokens.tolist() == case["seq"]
        close(result.log_probs, case["sum_logprob"], 2e-4)
    with torch.no_grad():
        tiny.model.head.bias.copy_(bias)


def test_contrastive_loss(shared):
    arrays = np.load(shared / "golden/loss/arrays.npz")
    cases = json.loads((shared / "golden/loss/cases.json").read_text())["cases"]
    for case in cases:
        features = torch.from_numpy(arrays[f"features_{case['i']}"]).double().requires_grad_()
        labels = torch.from_numpy(arrays[f"labels_{case['i']}"]).double()
        loss = contrastive_loss(features, labels, theta=case["alpha"], alpha=case["margin"])
        loss.backward()
        assert abs(loss.item() - case["loss_f64"]) < 1e-9, case
        if case["feature_kind"] == "zero_row":  # published without a gradient: it is undefined there
            continue
        np.testing.assert_allclose(features.grad, arrays[f"grad_f64_{case['i']}"], rtol=0, atol=1e-9, err_msg=str(case))


def test_missing_and_unknown_keys_are_all_listed(tiny):
    state = dict(tiny.state)
    state["encoder_decoder.extra"] = torch.zeros(1)
    del state["encoder_decoder.logit.bias"]
    del state["visual_extractor.model.0.weight"]
    with pytest.raises(ValueError, match=r"missing head.bias.*missing visual.layers.0.weight.*unknown extra"):
        load_official(state, gamma=5, heads=4)
