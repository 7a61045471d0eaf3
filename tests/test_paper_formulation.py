"""`formulation: paper` is the paper's equations: compared with loops over studies, tokens and prototypes.

Without it nobody can tell what the published code's own choices (rows 1-4, 9 and 11) are worth.
"""

import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xpronet.model.losses import Objective, contrastive_loss, training_losses
from xpronet.model.memory import PrototypeMemory
from xpronet.model.xpronet import ModelConfig, XProNet

SIZES = st.fixed_dictionaries(
    {
        "batch": st.integers(1, 4),
        "tokens": st.integers(1, 5),
        "conditions": st.integers(1, 4),
        "per_condition": st.integers(1, 4),
        "width": st.sampled_from([2, 4, 10]),
        "seed": st.integers(0, 10**6),
    }
)


def some_labels(batch, conditions, generator):
    labels = (torch.rand(batch, conditions, generator=generator) < 0.5).double()
    labels[labels.sum(dim=1) == 0, -1] = 1.0
    return labels


def respond(x, prototypes, allowed, gamma, memory):
    """Eq. 9-13 for one token: x (d,), prototypes (M, d) after Eq. 8, the numbers of those it may query -> (d,)."""
    d = len(x)
    query = memory.query.weight @ x + memory.query.bias  # Eq. 9
    projected = {u: memory.key.weight @ prototypes[u] + memory.key.bias for u in allowed}
    similarity = {u: sum(float(query[i] * projected[u][i]) for i in range(d)) / d for u in allowed}  # Eq. 10
    chosen = sorted(allowed, key=lambda u: similarity[u], reverse=True)[:gamma]
    total = sum(similarity[u] for u in chosen)
    least = sum(abs(similarity[u]) for u in chosen) / 2  # row 2: the signed sum can vanish
    if abs(total) < least:
        total = math.copysign(least, total)
    response = torch.zeros(d, dtype=x.dtype)
    for u in chosen:
        transformed = memory.value.weight @ projected[u] + memory.value.bias  # Eq. 12
        response += similarity[u] / total * transformed  # Eq. 11, 13
    return response


@settings(max_examples=60, deadline=None)
@given(SIZES, st.integers(1, 20))
def test_query_and_response(sizes, gamma):
    generator = torch.Generator().manual_seed(sizes["seed"])
    rows = sizes["conditions"] * sizes["per_condition"]
    gamma = min(gamma, rows)
    torch.manual_seed(sizes["seed"])
    memory = PrototypeMemory(sizes["width"], heads=2, gamma=gamma, dropout=0.5, formulation="paper").double()
    prototypes = torch.randn(rows, sizes["width"], generator=generator, dtype=torch.float64)
    x = torch.randn(sizes["batch"], sizes["tokens"], sizes["width"], generator=generator, dtype=torch.float64)
    labels = some_labels(sizes["batch"], sizes["conditions"], generator)
    mask = labels.bool().repeat_interleave(sizes["per_condition"], dim=1)
    with torch.no_grad():
        ours = memory(x, *memory.project(prototypes), mask)
        for study in range(sizes["batch"]):
            allowed = [
                k * sizes["per_condition"] + j
                for k in range(sizes["conditions"])
                for j in range(sizes["per_condition"])
                if labels[study, k] == 1
            ]
            for token in range(sizes["tokens"]):
                expected = respond(x[study, token], prototypes, allowed, gamma, memory)
                torch.testing.assert_close(ours[study, token], expected, rtol=1e-6, atol=1e-9)


def contrast(responses, labels, theta, alpha, adaptive):
    """Eq. 17-18, a pair at a time."""
    batch, total = len(responses), 0.0
    for i in range(batch):
        for j in range(batch):
            a, b = responses[i], responses[j]
            similarity = float(a @ b) / (float(a @ a) ** 0.5 * float(b @ b) ** 0.5)
            if any(y == z == 1 for y, z in zip(labels[i], labels[j], strict=True)):
                h_d = sum(abs(float(y - z)) for y, z in zip(labels[i], labels[j], strict=True))
                h_t = sum(float(y + z) for y, z in zip(labels[i], labels[j], strict=True))
                total += (theta ** (-h_d / h_t) if adaptive else 1.0) - similarity
            else:
                total += max(similarity - alpha, 0.0)
    return total / batch**2


@settings(max_examples=60, deadline=None)
@given(SIZES, st.floats(1.0, 3.0), st.floats(-0.5, 0.9), st.booleans())
def test_contrastive_loss(sizes, theta, alpha, adaptive):
    generator = torch.Generator().manual_seed(sizes["seed"])
    responses = torch.randn(sizes["batch"], sizes["width"], generator=generator, dtype=torch.float64)
    labels = some_labels(sizes["batch"], sizes["conditions"], generator)
    ours = contrastive_loss(responses, labels, theta=theta, alpha=alpha, adaptive=adaptive, clamp=False)
    assert ours.item() == pytest.approx(contrast(responses, labels, theta, alpha, adaptive), abs=1e-9)


CONFIG = ModelConfig(
    vocab_size=11,
    backbone="resnet18",
    d_model=16,
    d_ff=24,
    heads=4,
    layers=2,
    n_prototypes=3,
    d_prototype=20,
    gamma=3,
    formulation="paper",
    dropout=0.0,
    feature_dropout=0.0,
)


def test_the_network_takes_means_over_what_is_there():
    """Row 11: words of the report only, neither its start nor padding, and no clamping (row 9)."""
    torch.manual_seed(0)
    model = XProNet(CONFIG).double().eval()
    images = torch.randn(3, 1, 3, 64, 64, dtype=torch.float64)
    tokens = torch.tensor([[0, 3, 4, 0, 0, 0], [0, 5, 6, 7, 8, 0], [0, 2, 9, 1, 0, 0]])
    labels = torch.zeros(3, 14, dtype=torch.float64)
    labels[0, 13] = labels[1, 2] = labels[2, 2] = labels[2, 7] = 1
    objective = Objective(theta=1.5, alpha=0.4, lambda_visual=2.0, delta_textual=3.0, formulation="paper")
    with torch.no_grad():
        output = model(images, tokens, labels)
        losses = training_losses(output, tokens, labels, objective=objective)
    words = torch.stack([output.textual_responses[i, 1 : 1 + n].mean(dim=0) for i, n in enumerate((2, 4, 3))])
    textual = contrast(words, labels, 1.5, 0.4, True)
    visual = contrast(output.visual_responses.mean(dim=1), labels, 1.5, 0.4, True)
    assert losses.textual_contrastive.item() == pytest.approx(textual, abs=1e-9)
    assert losses.visual_contrastive.item() == pytest.approx(visual, abs=1e-9)
    assert losses.total.item() == pytest.approx(losses.cross_entropy.item() + 2 * visual + 3 * textual, abs=1e-9)


def test_a_vanishing_denominator_is_guarded():
    """Two opposite similarities sum to zero: finite responses and gradients all the same."""
    memory = PrototypeMemory(2, heads=1, gamma=2, dropout=0.0, formulation="paper")
    keys = torch.tensor([[[1.0, 0.0], [-1.0, 0.0]]])
    with torch.no_grad():
        memory.query.weight.copy_(torch.eye(2))
        memory.query.bias.zero_()
    response = memory(torch.ones(1, 1, 2), keys, torch.ones(1, 2, 2), torch.ones(1, 2, dtype=torch.bool))
    response.sum().backward()
    assert torch.isfinite(response).all()
    assert torch.isfinite(memory.query.weight.grad).all()


def test_responses_are_bounded_at_initialisation():
    """A sum of signed similarities near zero would make some responses thousands of times as long as the others."""
    torch.manual_seed(0)
    width, rows = 256, 14 * 16
    memory = PrototypeMemory(width, heads=8, gamma=10, dropout=0.0, formulation="paper")
    features = (torch.rand(512) + 0.3 * torch.randn(rows, 512)).relu()  # as means of ResNet features: alike, positive
    labels = torch.eye(14)[torch.arange(32) % 14]
    labels[:8, 3] = 1
    with torch.no_grad():
        keys, values = memory.project(torch.nn.Linear(512, width)(features))
        mask = labels.bool().repeat_interleave(16, dim=1)
        lengths = memory(torch.randn(32, 60, width), keys, values, mask).norm(dim=-1)
    assert lengths.max() <= 2 * values.norm(dim=-1).max()  # whatever the similarities
    assert lengths.max() < 2 * lengths.median()


@pytest.mark.parametrize("similarities", [[0.3, 0.2, 0.1], [-0.1, -0.2, -0.3], [0.4, 0.3, -0.1]])
def test_weights_are_the_letter_s_where_the_sum_does_not_nearly_vanish(similarities):
    memory = PrototypeMemory(2, heads=1, gamma=3, dropout=0.0, formulation="paper")
    weights = memory._weights(torch.tensor(similarities)).tolist()
    assert weights == pytest.approx([each / sum(similarities) for each in similarities])


@pytest.mark.parametrize("seed", [0, 1])
def test_a_short_training_learns(seed):
    """Without steps that undo the ones before: no gradient is a hundred times the usual one."""
    torch.manual_seed(seed)
    model = XProNet(dataclasses.replace(CONFIG, d_model=32, n_prototypes=8, gamma=6, layers=1))
    model.prototypes.data = torch.rand(20) + 0.3 * torch.randn(14 * 8, 20)
    patches = torch.randn(12, 4, 512).relu(), torch.ones(12, 4, dtype=torch.bool)
    model.patch_features = lambda images, views: patches
    images, labels = torch.zeros(12, 1, 3, 64, 64), torch.eye(14)[:12]
    tokens = torch.randint(1, 12, (12, 10))
    tokens[:, [0, -1]] = 0
    objective = Objective(theta=1.5, alpha=0.4, lambda_visual=1.0, delta_textual=0.1, formulation="paper")
    adam = torch.optim.Adam(model.parameters(), lr=2e-3)
    losses, gradients = [], []
    for _ in range(40):
        found = training_losses(model(images, tokens, labels), tokens, labels, objective=objective)
        adam.zero_grad()
        found.total.backward()
        gradients.append(torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None]))
        adam.step()
        losses.append(found.cross_entropy.item())
    assert losses[-1] < 0.6 * losses[0]
    gradients = torch.stack(gradients)
    assert gradients.max() < 20 * gradients.median()


def test_it_trains_and_generates():
    torch.manual_seed(0)
    model = XProNet(CONFIG)
    assert not any(name.startswith("memory.out") for name in model.state_dict())
    images, labels = torch.randn(2, 1, 3, 64, 64), torch.eye(14)[[2, 13]]
    tokens = torch.tensor([[0, 3, 4, 0], [0, 5, 6, 0]])
    objective = Objective(theta=1.5, alpha=0.4, lambda_visual=1.0, delta_textual=0.1, formulation="paper")
    adam = torch.optim.Adam(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(5):
        adam.zero_grad()
        total = training_losses(model(images, tokens, labels), tokens, labels, objective=objective).total
        total.backward()
        adam.step()
        losses.append(total.item())
    assert losses[-1] < losses[0]
    result = model.eval().generate(images, labels, beam_size=3, max_length=5)
    assert torch.isfinite(result.log_probs).all()
