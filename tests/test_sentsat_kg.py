"""SentSAT+KG once more, from its equations; and its graph, which is data."""

import copy
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

import xpronet.model
from tests.conftest import sharing
from tests.test_systems import OBJECTIVE, PERIOD, build, lstm, scores, studies
from xpronet.common.shares import BatchNorm, Share, synchronise
from xpronet.data.dataset import Batch
from xpronet.labels.conditions import CONDITIONS
from xpronet.systems.sentsat_kg import GraphLayer, SentSATConfig, _norm, adjacency, normalised
from xpronet.training.loop import step

GRAPH = yaml.safe_load((Path(xpronet.model.__file__).parent / "findings_graph.yaml").read_text())


def test_the_graph_has_each_observation_once_and_the_paper_s_twenty_findings():
    names = [name for group in GRAPH["observations"].values() for name in group]
    assert sorted(names) == sorted(CONDITIONS)
    assert sum(len(group) for group in GRAPH["findings"].values()) == 20 and GRAPH["source"]


def test_observations_are_joined_where_the_paper_joins_the_findings_that_they_are():
    """One of them, Enlarged Cardiomediastinum, is none of the twenty."""
    organ = {name: key for key, group in GRAPH["observations"].items() for name in group}
    found = {key: {name for names in group.values() for name in names} for key, group in GRAPH["findings"].items()}
    assert set(CONDITIONS) - set().union(*found.values()) == {"Enlarged Cardiomediastinum"}
    for key, names in found.items():
        assert len({organ[name] for name in names}) == (len(names) if key == "none" else bool(names)), key


def test_observations_of_an_organ_hear_each_other_and_all_hear_the_global_node():
    forth, back = adjacency()
    assert torch.equal(back, forth.T)
    assert torch.equal(forth[1:, 1:], forth[1:, 1:].T)  # within an organ both ways
    assert forth[0].all() and not forth[1:, 0].any()  # row: who is heard; column: who hears
    organ = {name: key for key, group in GRAPH["observations"].items() for name in group}
    for i, one in enumerate(CONDITIONS):
        for j, other in enumerate(CONDITIONS):
            together = organ[one] == organ[other] != "none"
            assert forth[1 + i, 1 + j] == (i == j or together)


def test_edges_are_normalised_by_the_sums_of_their_rows():
    found = normalised(torch.tensor([[1.0, 1, 1], [0, 1, 1], [0, 1, 1]]))
    half, sixth = 0.5, 6**-0.5
    expected = [[1 / 3, sixth, sixth], [0, half, half], [0, half, half]]  # sums 3, 2, 2
    torch.testing.assert_close(found, torch.tensor(expected))


@torch.no_grad()
def test_a_graph_convolution_is_a_table_by_hand():
    """Two nodes, the global one and one more, of four features; each weight matrix takes one feature or spreads one."""
    layer = GraphLayer(4).eval()
    for norm in layer.norms:
        norm.eps = 0.0  # statistics 0 and 1: nothing is changed
    for name, feature in (("own", 0), ("forth", 1), ("back", 2)):
        weight = torch.zeros(1, 4)
        weight[0, feature] = 1
        getattr(layer, name).weight.copy_(weight)
    layer.out.weight.copy_(torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]]))
    forth = torch.tensor([[1.0, 1], [0, 1]])
    nodes = torch.tensor([[[1.0, 2], [3, -4], [5, 6], [7, 8]]])  # (1, C, N)
    # own: 1, 2. forth, of feature 3, -4: the global node 3, the other 3 - 4 = -1, so 0. back, of 5, 6: 11 and 6.
    expected = torch.tensor([[[1.0 + 1, 2 + 2], [3 + 3, 0], [11 + 5, 6 + 6], [1 + 3 + 11 + 7, 2 + 0 + 6 + 8]]])
    torch.testing.assert_close(layer(nodes, torch.stack([forth, forth.T])), expected)


def by_hand(m, patches, tokens):
    """log p(report) and where each of its sentences looks."""
    places = [torch.full((len(patches),), 1 / len(patches))]
    places += [torch.softmax(patches @ weight, dim=0) for weight in m.places.weight]
    nodes = torch.stack([place @ patches for place in places])  # (N, C)
    forth, back = normalised(adjacency())
    for layer in m.layers:
        relu = nn.functional.relu
        norm = [lambda x, norm=norm: (x / (1 + norm.eps) ** 0.5) * norm.weight + norm.bias for norm in layer.norms]
        own = relu(norm[0](nodes @ layer.own.weight.T))
        heard = [
            sum(edge[source, node] * (module.weight @ nodes[source]) for source in range(len(nodes)))
            for edge, module in ((forth, layer.forth), (back, layer.back))
            for node in range(len(nodes))
        ]
        ahead, behind = torch.stack(heard[: len(nodes)]), torch.stack(heard[len(nodes) :])
        update = torch.cat([own, relu(norm[1](ahead)), relu(norm[2](behind))], dim=1) @ layer.out.weight.T
        nodes = relu(norm[3](update) + nodes)
    h, c = m.first(patches.mean(dim=0)).chunk(2)
    word_h = word_c = torch.zeros(m.config.width)
    told, total, looks = None, 0.0, []
    for last, word in zip([0, *tokens], [*tokens, 0], strict=True):
        if last in (0, PERIOD):
            weights = torch.softmax(scores(m.looking, [m.keys.weight @ node for node in nodes], h), dim=0)
            told = weights @ nodes
            h, c = lstm(m.planning, told, h, c)
        looks.append(sum(weight * place for weight, place in zip(weights, places, strict=True)))
        word_h, word_c = lstm(m.speaking, torch.cat([m.word_embedding.weight[last], h, told]), word_h, word_c)
        total = total + torch.log_softmax(m.head(word_h), dim=0)[word]
    return total, torch.stack(looks), m.classifier(nodes.mean(dim=0))


@torch.no_grad()
def test_sentsat_is_its_paper_s_equations():
    model = build("sentsat_kg").eval()
    for parameter in model.layers.parameters():
        if parameter.dim() == 1:  # of batch norm
            parameter.uniform_(0.5, 1.5)
    images, tokens, labels, views = studies()
    labels[0, 5] = 1
    output = model(images, tokens, labels, views=views)
    for row, own in enumerate(tokens.tolist()):
        length = own.index(0, 1)
        found = sum(output.log_probs[row, place, own[place + 1]].item() for place in range(length))
        total, looks, logits = by_hand(model, images[row][views[row]].flatten(0, 1), own[1:length])
        assert found == pytest.approx(total.item(), abs=2e-5)
        there = output.patches[row]
        torch.testing.assert_close(output.attention[row, :length][:, there], looks, atol=1e-5, rtol=0)
        expected = nn.functional.binary_cross_entropy_with_logits(logits, labels[row])
        assert output.auxiliary[row].item() == pytest.approx(expected.item(), abs=1e-5)


def test_other_observations_are_one_line():
    with pytest.raises(ValueError, match="^n_conditions 13 must be 14, the graph's observations$"):
        SentSATConfig(9, n_conditions=13)


def test_batch_norm_of_nodes_has_its_gradient_however_they_lie_in_memory():
    """PyTorch's own is wrong for some."""
    torch.manual_seed(0)
    norm, nodes, gradient = nn.BatchNorm2d(4), torch.randn(3, 4, 5), torch.randn(3, 4, 5)
    mean, variance = nodes.mean(dim=(0, 2), keepdim=True), nodes.var(dim=(0, 2), keepdim=True, correction=0)
    whole = (nodes - mean) / (variance + norm.eps).sqrt()
    for x in (nodes, nodes.mT.contiguous().mT):
        for given in (gradient, gradient.mT.contiguous().mT):
            found = torch.autograd.grad(_norm(norm, x), (norm.weight, norm.bias), given)
            torch.testing.assert_close(found, ((gradient * whole).sum(dim=(0, 2)), gradient.sum(dim=(0, 2))))


def batch_of(rows):
    images, tokens, labels, views = (each[rows] for each in studies())
    return Batch(images, views, tokens, labels, torch.arange(len(rows)))


def stepped(model, batch, **options):
    model = copy.deepcopy(model).train()
    torch.manual_seed(7)  # of dropout
    losses, _ = step(model, torch.optim.SGD(model.parameters(), lr=0.1), batch, OBJECTIVE, "float32", **options)
    return losses, model.state_dict()


def test_a_batch_of_one_study_trains():
    """Batch norm has its nodes."""
    model = build("sentsat_kg")
    losses, after = stepped(model, batch_of([1]))
    assert losses.isfinite().all() and not torch.equal(after["places.weight"], model.places.weight)


def test_parts_of_a_batch_move_running_statistics_as_one_batch():
    """Each part has statistics of its own; of parts that are alike they are the whole batch's."""
    batch, model = batch_of([1, 1, 1, 1]), build("sentsat_kg", dropout=0.0)
    (losses, whole), (same, parts) = stepped(model, batch), stepped(model, batch, accumulate=2)
    torch.testing.assert_close(same, losses)
    for name in (name for name in whole if not name.endswith(("num_batches_tracked", "running_var"))):
        torch.testing.assert_close(parts[name], whole[name], rtol=0, atol=1e-5, msg=name)
    assert not torch.allclose(whole["layers.0.norms.0.running_mean"], model.layers[0].norms[0].running_mean)


@pytest.mark.apart
def test_two_processes_take_the_step_of_one():
    """Batch norm is over the nodes of all studies; and PyTorch's has the gradient of the one that is written out."""
    batch, model = batch_of([0, 1, 2]), build("sentsat_kg")
    expected, whole = stepped(model, batch)

    def work(group):
        synchronise(model)
        assert isinstance(model.layers[0].norms[0], BatchNorm)
        share = Share.of(group, 3)
        losses, found = stepped(model, batch.part(share.start, share.stop), share=share)
        torch.testing.assert_close(losses, expected)
        for name, tensor in whole.items():
            torch.testing.assert_close(found[name], tensor, rtol=0, atol=1e-5, msg=name)

    assert sharing(work) == [0, 0]
