"""Each dropout acts where its parameter says, with its own share, and never outside training.

Else a sweep over one of them shows nothing or another's effect, and a study has another report each time. Only one of
the four is on in each model, at 0.75: what it leaves stands there times four. Weights are set so that without dropout
all the numbers are one. And the draws themselves, of which four come from one random number on a CPU.
"""

import copy

import pytest
import torch
import torch.nn.functional as F

from xpronet.common.shares import Share, dropout
from xpronet.model.transformer import Attention, FeedForward, as_bias
from xpronet.model.xpronet import ModelConfig, XProNet

SWITCHES = ("dropout", "feature_dropout", "attention_dropout", "prototype_dropout")
WIDTH, HEADS, LAYERS = 64, 4, 2
SIZES = {"d_model": WIDTH, "d_ff": WIDTH, "heads": HEADS, "layers": LAYERS, "gamma": 16, "d_prototype": 8}


class Model:
    """A network whose only dropout is `on`; parts of it are copies."""

    def __init__(self, on: str):
        torch.manual_seed(0)
        shares = {**dict.fromkeys(SWITCHES, 0.0), on: 0.75}
        self.on = on
        self.network = XProNet(ModelConfig(vocab_size=30, backbone="resnet18", **SIZES, **shares))

    def parts(self, kind: type, count: int) -> list:
        found = [copy.deepcopy(module) for module in self.network.modules() if isinstance(module, kind)]
        assert len(found) == count
        return found

    def expected(self, switch: str, training: bool) -> set[int]:
        return {0, 4} if training and self.on == switch else {1}


@pytest.fixture(scope="module", params=SWITCHES)
def model(request) -> Model:
    return Model(request.param)


@pytest.fixture(params=[True, False], ids=["training", "evaluation"])
def training(request) -> bool:
    torch.manual_seed(1)
    return request.param


def become(linear: torch.nn.Linear, weight: float, bias: float) -> None:
    """The identity times `weight`, and `bias`."""
    linear.weight.data = weight * torch.eye(WIDTH)
    linear.bias.data.fill_(bias)


def values(found: torch.Tensor) -> set[int]:
    torch.testing.assert_close(found, found.round(), rtol=0, atol=1e-3)
    return set(found.round().int().flatten().tolist())


@torch.no_grad()
def test_attention_weights(model, training):
    """In the encoder, and to words and to patches in the decoder."""
    for attention in model.parts(Attention, 3 * LAYERS):
        become(attention.query, 0, 0)  # so that all 16 keys weigh the same
        become(attention.out, 1, 0)
        keys = torch.eye(16).expand(1, HEADS, 16, 16)
        found = attention.train(training)(torch.ones(1, 20, WIDTH), keys, keys, None)
        assert values(16 * found) == model.expected("attention_dropout", training)


@torch.no_grad()
def test_attention_reads_a_mask_of_numbers(training):
    """As a search gives it, and to the same bits as the mask that it is made of."""
    attention, x = Attention(WIDTH, HEADS, 0.5).train(training), torch.randn(2, 20, WIDTH)
    mask = torch.rand(2, 1, 20, 20) < 0.5
    mask[..., 0] = True
    found = []
    for each in (mask, as_bias(mask, x)):
        torch.manual_seed(2)
        found.append(attention(x, *attention.project(x), each))
    assert torch.equal(*found)


@torch.no_grad()
def test_prototype_weights(model, training):
    memory = copy.deepcopy(model.network.memory).train(training)
    become(memory.out, 1, 0)
    keys, prototypes = torch.zeros(HEADS, 16, 16), torch.eye(16).expand(HEADS, 16, 16)  # all 16 weigh the same
    found = memory(torch.ones(1, 20, WIDTH), keys, prototypes, torch.ones(1, 16, dtype=torch.bool))
    assert values(16 * found) == model.expected("prototype_dropout", training)


@torch.no_grad()
def test_inside_feed_forward(model, training):
    for block in model.parts(FeedForward, 2 * LAYERS):
        become(block.inner, 0, 1)
        become(block.outer, 1, 0)
        assert values(block.train(training)(torch.ones(1, 20, WIDTH))) == model.expected("dropout", training)


@torch.no_grad()
def test_residual_branches(model, training):
    """Each on its own: attention gives 1 here, attention to the patches 10, feed-forward 100."""
    x, none = torch.zeros(1, 50, WIDTH), torch.ones(1, 1, 1, 50, dtype=torch.bool)
    branch = model.expected("dropout", training)
    for layer in copy.deepcopy(model.network.encoder).train(training).layers:
        become(layer.attention.out, 0, 1)
        become(layer.feed_forward.outer, 0, 100)
        assert values(layer(x, none)) == {a + 100 * c for a in branch for c in branch}
    for layer in copy.deepcopy(model.network.decoder).train(training).layers:
        become(layer.attention.out, 0, 1)
        become(layer.cross_attention.out, 0, 10)
        become(layer.feed_forward.outer, 0, 100)
        found = layer(x, none, torch.zeros(1, 50, WIDTH), none)
        assert values(found) == {a + 10 * b + 100 * c for a in branch for b in branch for c in branch}


@torch.no_grad()
def test_word_embeddings(model, training):
    """Words and their positions."""
    network, tokens = model.network.train(training), torch.arange(30).view(2, 15)
    whole = network.word_embedding(tokens) * WIDTH**0.5 + network.positions(15)
    words, _ = network.embed_words(tokens, network.positions(15), None)
    assert values(words / whole) == model.expected("dropout", training)


@torch.no_grad()
def test_patch_features(model, training):
    """Before they query prototypes, and the same that query are fused; then what is fused, with its positions."""
    network, images, seen = model.network.train(training), torch.randn(6, 2, 3, 64, 64), {}
    hooks = [
        network.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, name=name: seen.__setitem__(name, (inputs[0], output))
        )
        for name in ("memory", "visual_fusion", "encoder")
    ]
    network.encode(images, network.query_prototypes(torch.eye(14)[:6]), None)
    for hook in hooks:
        hook.remove()
    features = F.relu(network.patch_embedding(network.patch_features(images, None)[0]))  # (6, 8, d)
    queries, (fused, fusion) = seen["memory"][0], seen["visual_fusion"]
    assert values((queries / features)[features > 1e-3]) == model.expected("feature_dropout", training)
    assert torch.equal(fused[..., :WIDTH], queries)
    whole = fusion + network.positions(8)
    assert values(seen["encoder"][0] / whole) == model.expected("dropout", training)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_draws(p, dtype):
    """Zeros have their share in each of the four, neighbours know nothing of each other, the gradient is the same."""
    torch.manual_seed(0)
    x = torch.ones(999, 1001, dtype=dtype, requires_grad=True)  # 3 are left over
    found = dropout(x, p, training=True)
    found.sum().backward()
    assert torch.equal(x.grad, found)
    assert set(found.unique().tolist()) == {0.0, torch.ones((), dtype=dtype).div(1 - p).item()}
    kept = (found > 0).double().flatten()
    for of_four in range(4):
        assert abs(kept[of_four::4].mean() - (1 - p)) < 0.003  # five standard deviations at 0.5, each of 250,000
    centred = (kept - kept.mean()) / kept.std()
    for apart in range(1, 9):
        assert abs((centred[apart:] * centred[:-apart]).mean()) < 0.005  # five, of a million


@pytest.mark.parametrize("rows", [slice(0, 4), slice(1, 3)], ids=["whole", "part"])
def test_of_all_is_dropped_all(rows):
    x = torch.ones(4, 500, requires_grad=True)
    with Share(rows.start, rows.stop, 4):
        found = dropout(x[rows], 1.0, training=True)
    found.sum().backward()
    assert not found.any() and not x.grad.any()
    with pytest.raises(ValueError, match="probability"):
        dropout(x, 1.5, training=True)


def test_the_smallest_and_the_largest_share():
    x = torch.ones(2000, 1000)
    assert (dropout(x, 1e-9, training=True) == 1).all()  # below what is told apart
    assert (dropout(x, 1 - 1e-9, training=True) == 0).float().mean() > 0.9999
