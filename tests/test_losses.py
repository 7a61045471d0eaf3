"""The objective by hand: Eq. 17-19 on cases small enough for pencil and paper."""

import math

import pytest
import torch

from xpronet.model.losses import contrastive_loss, cross_entropy, token_nats

RESPONSES = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0]])
LABELS = torch.tensor([[1.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
HALF = math.sqrt(0.5)  # cosine of 45 degrees


def loss(**options):
    return contrastive_loss(RESPONSES, LABELS, theta=1.5, alpha=0.4, **options).item()


def test_contrastive_loss_by_hand():
    # (0, 1) share a label: h_d = 1, h_t = 3, similarity 0; (0, 2) and (1, 2) share none: similarity 0.707.
    positive = 2 * 1.5 ** (-1 / 3)
    negative = 4 * (HALF - 0.4)
    assert loss() == pytest.approx((positive + negative) / 9, abs=1e-6)


def test_without_imlcs_the_ceiling_is_one():
    assert loss(adaptive=False) == pytest.approx((2 + 4 * (HALF - 0.4)) / 9, abs=1e-6)


def test_clamp_is_row_9():
    same = torch.ones(2, 2)
    labels = torch.tensor([[1.0, 1.0], [1.0, 0.0]])
    ceiling = 2.0 ** (-1 / 3)
    options = {"theta": 2.0, "alpha": 0.4}
    assert contrastive_loss(same, labels, **options).item() == pytest.approx(0, abs=1e-6)
    unclamped = contrastive_loss(same, labels, clamp=False, **options).item()
    assert unclamped == pytest.approx(2 * (ceiling - 1) / 4, abs=1e-6)


@pytest.mark.parametrize("clamp", [True, False])
def test_the_gradient_is_that_of_finite_differences(clamp):
    """It is written by hand; a study without any response has none but what others draw it by."""
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(2, (6, 4), generator=generator).double()
    responses = torch.randn(6, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    options = {"theta": 1.5, "alpha": 0.1, "clamp": clamp}
    assert torch.autograd.gradcheck(lambda x: contrastive_loss(x, labels, **options), responses)
    contrastive_loss(responses, labels.float(), **options).backward()  # of another precision
    nothing = torch.zeros(3, 5, requires_grad=True)
    contrastive_loss(nothing, labels[:3].float(), **options).backward()
    assert torch.equal(nothing.grad, torch.zeros(3, 5))


def test_cross_entropy_counts_words_and_one_end():
    targets = torch.tensor([[2, 1, 0, 0], [1, 1, 1, 1]])
    log_probs = torch.log_softmax(torch.zeros(2, 4, 3), dim=-1)
    log_probs[0, 3] = -100  # padding: whatever it says
    nats, counted = token_nats(log_probs, targets)
    assert counted.tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]
    assert nats.tolist() == [pytest.approx([math.log(3) * each for each in row]) for row in counted.tolist()]
    assert cross_entropy(log_probs, targets).item() == pytest.approx(math.log(3))
