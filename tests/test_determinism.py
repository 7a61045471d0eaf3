"""A study's report is its own: not its neighbours', not the batch size's, not the day's."""

import pytest
import torch

from xpronet.model.losses import Objective, training_losses
from xpronet.model.xpronet import ModelConfig, XProNet
from xpronet.training.loop import optimiser
from xpronet.training.params import TrainParams

SIZES = {"d_model": 32, "d_ff": 32, "heads": 4, "layers": 2, "n_prototypes": 4, "d_prototype": 20, "gamma": 4}
CONFIG = ModelConfig(vocab_size=30, backbone="resnet18", **SIZES)
STUDIES, LENGTH = 12, 20


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = XProNet(CONFIG).eval()
    with torch.no_grad():  # reports that differ
        model.patch_embedding.weight.mul_(4)
        model.head.weight.mul_(8)
    return model


@pytest.fixture(scope="module")
def studies():
    torch.manual_seed(1)
    labels = (torch.rand(STUDIES, 14) < 0.2).float()
    labels[:, 13] = (labels[:, :13].sum(dim=1) == 0).float()
    views = torch.ones(STUDIES, 2, dtype=torch.bool)
    views[::3, 1] = False
    return torch.randn(STUDIES, 2, 3, 64, 64), labels, views


def reports(model, studies, rows, beam_size=3):
    with torch.no_grad():  # so that reports end at different lengths
        model.head.bias[0] = {1: 6.0, 3: 4.0}[beam_size]
    images, labels, views = (part[rows] for part in studies)
    return model.generate(images, labels, views=views, beam_size=beam_size, max_length=LENGTH)


@pytest.mark.parametrize("beam_size", [1, 3])
@pytest.mark.parametrize("size", [1, 2, 5, 7])
def test_any_batch_size_writes_the_same_reports(model, studies, size, beam_size):
    whole = reports(model, studies, list(range(STUDIES)), beam_size)
    lengths = {(row != 0).sum().item() for row in whole.tokens}
    assert len(lengths) > 2, "the reports should end at different lengths for this test to mean something"
    parts = [
        reports(model, studies, list(range(STUDIES))[start : start + size], beam_size)
        for start in range(0, STUDIES, size)
    ]
    assert torch.equal(torch.cat([part.tokens for part in parts]), whole.tokens)
    torch.testing.assert_close(torch.cat([part.log_probs for part in parts]), whole.log_probs, rtol=0, atol=1e-4)


def test_neighbours_change_not_a_bit(model, studies):
    """Among other studies of the same number: the same tokens and the same bits of the score."""
    first = reports(model, studies, [0, 1, 2, 3])
    other = reports(model, studies, [0, 8, 9, 11])
    assert torch.equal(first.tokens[0], other.tokens[0])
    assert first.log_probs[0] == other.log_probs[0]


def test_again_means_the_same_bytes(model, studies):
    one, two = (reports(model, studies, list(range(STUDIES))) for _ in range(2))
    assert torch.equal(one.tokens, two.tokens) and torch.equal(one.log_probs, two.log_probs)


def test_training_twice_gives_the_same_bytes():
    params = TrainParams(
        epochs=1,
        batch_size=4,
        lr_visual=1e-3,
        lr=1e-3,
        lr_decay=0.8,
        lr_step=1,
        weight_decay=0.0,
        precision="float32",
        val_beam_size=3,
        val_max_length=60,
    )
    objective = Objective(theta=1.5, alpha=0.4, lambda_visual=1.0, delta_textual=0.1)
    states = []
    for _ in range(2):
        torch.manual_seed(3)
        model = XProNet(CONFIG).train()
        adam = optimiser(model, params)
        images, labels = torch.randn(4, 1, 3, 64, 64), torch.eye(14)[[2, 13, 4, 2]]
        tokens = torch.tensor([[0, 3, 4, 0], [0, 5, 6, 0], [0, 7, 0, 0], [0, 8, 9, 0]])
        for _ in range(2):
            adam.zero_grad()
            training_losses(model(images, tokens, labels), tokens, labels, objective=objective).total.backward()
            adam.step()
        states.append(model.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
