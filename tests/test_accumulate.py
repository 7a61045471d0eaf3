"""What saves memory trains the same model: a batch in parts, and activations that are computed again."""

import copy

import pytest
import torch

from xpronet.common.devices import loss_scaling
from xpronet.common.processes import Group
from xpronet.common.shares import Share, synchronise
from xpronet.data.dataset import Batch
from xpronet.model.losses import Objective
from xpronet.model.xpronet import ModelConfig, XProNet
from xpronet.training.loop import step

SIZES = {"backbone": "resnet18", "d_model": 16, "d_ff": 16, "heads": 2, "layers": 1, "n_prototypes": 3, "gamma": 3}
OBJECTIVE = {"theta": 1.5, "alpha": 0.1, "lambda_visual": 1.0, "delta_textual": 0.5}


@pytest.fixture(scope="module")
def batch() -> Batch:
    """Five studies with reports of unequal lengths, one of them with one view."""
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(1, 9, (5, 8), generator=generator) * (torch.arange(8) < torch.tensor([[8, 3, 6, 2, 7]]).T)
    tokens[:, 0] = 0
    views = torch.ones(5, 2, dtype=torch.bool)
    views[3, 1] = False
    pixels = torch.randint(256, (5, 2, 64, 64), dtype=torch.uint8, generator=generator)
    labels = (torch.rand(5, 14, generator=generator) < 0.3).float()
    labels[:, 0] = 1
    labels[1, 0], labels[1, 13] = 0, 1
    return Batch(pixels, views, tokens, labels, torch.arange(5))


def model(**options) -> XProNet:
    torch.manual_seed(0)
    return XProNet(ModelConfig(vocab_size=8, d_prototype=8, **SIZES, **options)).train()


def stepped(
    network: XProNet,
    batch: Batch,
    *,
    frozen: bool,
    formulation: str = "official",
    precision: str = "float32",
    **options,
):
    network = copy.deepcopy(network)
    network.visual.freeze(frozen)
    torch.manual_seed(7)  # of dropout, which is on everywhere
    sgd = torch.optim.SGD(network.parameters(), lr=1.0)
    losses, norm = step(network, sgd, batch, Objective(**OBJECTIVE, formulation=formulation), precision, **options)
    return losses, norm, network.state_dict(), torch.rand(())


@pytest.mark.parametrize("parts", [2, 3, 5, 9])
@pytest.mark.parametrize("options", [{}, {"formulation": "paper"}, {"cmpnet": False}])
def test_a_batch_in_parts_takes_the_same_step(batch, parts, options):
    """Losses, weights and what is drawn afterwards, with every dropout, and words and pairs of the whole batch."""
    network, formulation = model(**options), options.get("formulation", "official")
    expected = stepped(network, batch, frozen=True, formulation=formulation)
    found = stepped(network, batch, frozen=True, formulation=formulation, accumulate=parts)
    torch.testing.assert_close(found[0], expected[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(found[1], expected[1], rtol=1e-5, atol=1e-5)
    for name, tensor in found[2].items():
        torch.testing.assert_close(tensor, expected[2][name], rtol=0, atol=1e-5, msg=name)
    assert found[3] == expected[3]


def test_running_statistics_move_as_by_one_batch(batch):
    """Those of parts are their own, but parts of one batch do not count as batches."""
    network = model()
    once = stepped(network, batch, frozen=False)[2]
    parted = stepped(network, batch, frozen=False, accumulate=2)[2]
    start = network.state_dict()
    name = "visual.layers.1.running_mean"
    moved, expected = (state[name] - start[name] for state in (parted, once))
    torch.testing.assert_close(moved, expected, rtol=0.1, atol=0.1 * expected.abs().max().item())
    assert torch.nn.functional.cosine_similarity(moved, expected, dim=0) > 0.95


def test_parts_are_even_and_none_is_empty():
    assert [(part.start, part.stop) for part in Share.of(Group(), 5).parts(2)] == [(0, 2), (2, 5)]
    assert len(Share.of(Group(), 3).parts(8)) == 3
    two = [Share.of(Group(rank, 2), 5).parts(8) for rank in range(2)]
    assert [[(part.start, part.stop) for part in parts] for parts in two] == [[(0, 1), (1, 2)], [(2, 3), (3, 5)]]


def test_fp16_trains_a_whole_network(batch):
    """Its gradient is that of float32 but for rounding, whole or in parts."""
    network = model()
    expected = stepped(network, batch, frozen=True)
    for parts in (1, 2):
        scaler = loss_scaling(torch.device("cpu"), "fp16")
        losses, norm = stepped(network, batch, frozen=True, precision="fp16", scaler=scaler, accumulate=parts)[:2]
        torch.testing.assert_close(losses, expected[0], rtol=0.02, atol=0.02)
        torch.testing.assert_close(norm, expected[1], rtol=0.05, atol=0)


def kept(network: XProNet, batch: Batch) -> int:
    """Bytes that a forward pass keeps for the backward pass, each tensor once."""
    sizes = {}

    def pack(tensor):
        sizes[tensor.data_ptr()] = tensor.nbytes
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        network.visual(batch.images[batch.views])
    return sum(sizes.values())


@pytest.mark.parametrize("parts", [1, 2])
def test_checkpointing_keeps_less_and_takes_the_same_step(batch, parts):
    """To the bit, batch norm's statistics too, which the second pass must not move again."""
    network = model()
    expected, before = stepped(network, batch, frozen=False, accumulate=parts), kept(copy.deepcopy(network), batch)
    network.visual.checkpointing = True
    found = stepped(network, batch, frozen=False, accumulate=parts)
    for name, tensor in found[2].items():
        assert torch.equal(tensor, expected[2][name]), name
    assert torch.equal(found[0], expected[0]) and found[3] == expected[3]
    assert kept(copy.deepcopy(network), batch) < before / 2


def test_checkpointing_keeps_less_in_self_critical_training(batch):
    """Whose model is in evaluation mode, and learns all the same."""
    network, gradients, sizes = model().eval(), [], []
    for again in (False, True):
        network.zero_grad()
        network.visual.checkpointing = again
        network.visual(batch.images[batch.views]).square().mean().backward()
        gradients.append([each.grad.clone() for each in network.visual.parameters()])
        sizes.append(kept(network, batch))
    assert all(map(torch.equal, *gradients)) and sizes[1] < sizes[0] / 2


def test_checkpointing_does_not_move_the_statistics_of_several_processes(batch, monkeypatch):
    """Whose batch norm is our own."""
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda x: None)
    states = []
    for again in (False, True):
        network = model()
        synchronise(network)
        network.visual.checkpointing = again
        with Share(0, 5, 8):
            network.visual(batch.images[batch.views]).square().mean().backward()
        states.append(network.state_dict())
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())
    assert states[1]["visual.layers.1.num_batches_tracked"] == 1
