"""A training step is the published one: parameters, running statistics and losses after one and three steps."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from tests.published import (
    FLOAT64,
    GRADIENTS,
    OBJECTIVE,
    RECIPE,
    Tiny,
    close,
    committed_set,
    golden,  # noqa: F401
    shared_set,
)
from xpronet.data.dataset import Batch
from xpronet.model.checkpoint import our_key
from xpronet.model.losses import training_losses
from xpronet.model.xpronet import XProNet
from xpronet.training.loop import optimiser, rate, step

PARAMS = RECIPE.model_copy(update={"batch_size": 8})


def trained(tiny: Tiny, steps: int, eps: float | None = None) -> tuple[XProNet, list[dict], dict]:
    """The network after some steps without dropout, the losses of each, and the gradients of the first."""
    start = tiny.model()
    config = dataclasses.replace(
        start.config, dropout=0.0, feature_dropout=0.0, attention_dropout=0.0, prototype_dropout=0.0
    )
    model = XProNet(config).to(tiny.images.dtype)
    model.load_state_dict(start.state_dict())
    model.train()
    adam = optimiser(model, PARAMS)
    for group in adam.param_groups:
        group["eps"] = group["eps"] if eps is None else eps
    rows, gradients = [], {}
    for _ in range(steps):
        losses = training_losses(
            model(tiny.images, tiny.tokens, tiny.labels), tiny.tokens, tiny.labels, objective=OBJECTIVE
        )
        adam.zero_grad()
        losses.total.backward()
        gradients = gradients or {name: p.grad.clone() for name, p in model.named_parameters()}
        adam.step()
        rows.append({name: value.item() for name, value in losses._asdict().items()})
    return model, rows, gradients


def noise(key: str) -> int:
    """A key's bias has no true gradient: Adam makes steps of the rounding in it."""
    return 100 if key.endswith("attn.linears.1.bias") else 1


def compare(model: XProNet, published, limit: float) -> None:
    state = model.state_dict()
    running = [key for key in published.files if "running" in key]
    assert len(running) == 40 and len(published.files) == 176
    for key in published.files:
        if our_key(key):  # the second name of the memory has none
            close(state[our_key(key)].double(), published[key], noise(key) * limit, key)


def compare_losses(rows: list[dict], log: list[dict]) -> None:
    for row, published in zip(rows, log, strict=False):
        assert row["cross_entropy"] == pytest.approx(published["ce"], abs=FLOAT64)
        assert row["visual_contrastive"] == pytest.approx(published["img_con_loss"], abs=FLOAT64)
        assert row["textual_contrastive"] == pytest.approx(published["txt_con_loss"], abs=FLOAT64)
        assert row["total"] == pytest.approx(published["total_loss"], abs=FLOAT64)


def compare_summary(model: XProNet, published: dict) -> None:
    for key, summary in published.items():
        weights = model.state_dict()[our_key(key)].flatten().double()  # counters are integers
        limit = noise(key) * FLOAT64
        close(weights[:8], summary["first8"][: len(weights)], limit, key)
        assert weights.norm().item() == pytest.approx(summary["norm"], rel=limit, abs=limit), key


@committed_set
def test_a_step_in_float64(golden):  # noqa: F811
    """Norms and first values of all 168 parameters and 60 running statistics."""
    meta = json.loads((golden / "one_train_step/meta.json").read_text())
    model, rows, _ = trained(Tiny(golden / "tiny_iu", torch.float64), 1)
    compare_losses(rows, meta["log_f64"])
    assert len(meta["params_summary_f64"]["1"]) == 228
    compare_summary(model, meta["params_summary_f64"]["1"])


@shared_set
@pytest.mark.parametrize("steps", [1, 3])
def test_whole_tensors_in_float64(golden, steps):  # noqa: F811
    folder = golden / "one_train_step"
    meta = json.loads((folder / "meta.json").read_text())
    model, rows, _ = trained(Tiny(golden / "tiny_iu", torch.float64), steps)
    compare_losses(rows, meta["log_f64"])
    compare(model, np.load(folder / f"params_step{steps}_f64.npz"), FLOAT64)
    compare_summary(model, meta["visual_params_summary_f64"][str(steps)])


@shared_set
def test_in_float32(golden):  # noqa: F811
    """With eps 1e-4, since at 1e-9 Adam makes of rounding in tiny gradients steps of 3e-3."""
    model, _, gradients = trained(Tiny(golden / "tiny_iu"), 1, eps=1e-4)
    compare(model, np.load(golden / "one_train_step/params_eps1e-4_step1.npz"), 5e-5)
    published = np.load(golden / "one_train_step/grads_step1.npz")
    for key in published.files:
        single = 1e-6 if key.endswith("linears.1.bias") else GRADIENTS * np.abs(published[key]).max()
        close(gradients[our_key(key)], published[key], single, key)


@committed_set
def test_the_two_rates_of_every_epoch(golden):  # noqa: F811
    table = json.loads((golden / "one_train_step/meta.json").read_text())["scheduler"]["lr_by_epoch_ve_ed"]
    for epoch, (visual, rest) in enumerate(table):
        assert PARAMS.lr_visual * rate(epoch, PARAMS) == pytest.approx(visual, rel=1e-12)
        assert PARAMS.lr * rate(epoch, PARAMS) == pytest.approx(rest, rel=1e-12)


@committed_set
def test_the_loop_takes_the_same_step(golden):  # noqa: F811
    """`step`, which training calls, is forward, losses, backward and Adam as above."""
    tiny = Tiny(golden / "tiny_iu")
    expected, rows, _ = trained(tiny, 1)
    model = XProNet(expected.config)
    model.load_state_dict(tiny.model().state_dict())
    model.train()

    class Given(Batch):
        images = tiny.images

    batch = Given(None, torch.ones(8, 2, dtype=torch.bool), tiny.tokens, tiny.labels, torch.arange(8))
    losses, _ = step(model, optimiser(model, PARAMS), batch, OBJECTIVE, "float32")
    assert losses.tolist() == pytest.approx(list(rows[0].values()), abs=1e-7)
    for name, parameter in expected.state_dict().items():
        assert torch.equal(parameter, model.state_dict()[name]), name
