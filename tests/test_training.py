"""The training recipe is the published one, and a run can be trusted to be the same run again."""

import pytest
import torch

from xpronet.model.xpronet import ModelConfig, XProNet
from xpronet.training.loop import decay, optimiser, selection_score
from xpronet.training.params import TrainParams

PARAMS = TrainParams(
    epochs=30,
    batch_size=16,
    lr_visual=1e-3,
    lr=2e-3,
    lr_decay=0.8,
    lr_step=10,
    weight_decay=5e-5,
    precision="float32",
    val_beam_size=3,
    val_max_length=60,
)


def test_two_rates_and_the_published_adam():
    model = XProNet(ModelConfig(vocab_size=5, backbone="resnet18", d_model=16, heads=4, layers=1, d_prototype=8))
    adam = optimiser(model, PARAMS)
    visual, rest = adam.param_groups
    assert {id(p) for p in visual["params"]} == {id(p) for p in model.visual.parameters()}
    assert len(visual["params"]) + len(rest["params"]) == len(list(model.parameters()))
    assert (visual["lr"], rest["lr"]) == (1e-3, 2e-3)
    expected = {"betas": (0.9, 0.98), "eps": 1e-9, "weight_decay": 5e-5, "amsgrad": True}
    assert {key: rest[key] for key in expected} == expected
    assert isinstance(adam, torch.optim.Adam) and not isinstance(adam, torch.optim.AdamW)


def test_rates_step_down_by_epoch():
    assert [decay(epoch, PARAMS) for epoch in (0, 9, 10, 20)] == pytest.approx([1, 1, 0.8, 0.64])


def test_epochs_are_chosen_by_the_published_sum():
    assert selection_score({"BLEU_4": 0.1, "BLEU_1": 0.4, "METEOR": 0.2}) == pytest.approx(0.1 + 0.132 + 0.134)
