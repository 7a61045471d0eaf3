"""CoAT once more, from its equations: one study, one report, one sentence after another."""

import pytest
import torch
import torch.nn.functional as F

from tests.test_systems import PERIOD, build, lstm, scores, studies
from xpronet.systems.coat import CoatConfig


def sentences_of(tokens):
    """Ids of a report, without start and end -> its sentences, each with its `.`."""
    found = [[]]
    for word in tokens:
        found[-1].append(word)
        if word == PERIOD:
            found.append([])
    return found[:-1]


def by_hand(m, patches, tokens, labels):
    """log p(report), and the auxiliary loss."""
    width, zero = m.config.width, torch.zeros(m.config.width)
    logits = m.classifier(patches.mean(dim=0))
    tags = m.tag_embedding.weight[logits.argsort(descending=True)[: m.config.tags]]
    h, c, total = zero, zero, 0.0
    seen, named = torch.zeros(len(patches)), torch.zeros(len(tags))
    written = sentences_of(tokens)
    for number, sentence in enumerate(written):
        before = h
        of_patches = torch.softmax(
            scores(m.patch_attention, [m.patch_keys.weight @ patch for patch in patches], h), dim=0
        )
        of_tags = torch.softmax(scores(m.tag_attention, [m.tag_keys.weight @ tag for tag in tags], h), dim=0)
        seen, named = seen + of_patches, named + of_tags
        told = m.context(torch.cat([of_patches @ patches, of_tags @ tags]))
        h, c = lstm(m.planning, told, h, c)
        weight, bias = m.topic.weight, m.topic.bias
        topic = torch.tanh(weight[:, :width] @ h + weight[:, width:] @ told + bias)
        word_h, word_c = lstm(m.speaking, topic, zero, zero)
        last = 0
        for word in sentence:
            word_h, word_c = lstm(m.speaking, m.word_embedding.weight[last], word_h, word_c)
            total = total + torch.log_softmax((m.head.weight @ word_h + m.head.bias)[1:], dim=0)[word - 1]
            last = word
        stop = torch.sigmoid(m.stopping[2](torch.tanh(m.stopping[0](torch.cat([before, h])))))
        total = total + torch.log(stop if number == len(written) - 1 else 1 - stop)
    of_tags = -(labels / labels.sum() * F.log_softmax(logits, dim=0)).sum()
    return total, of_tags + (1 - seen).square().mean() + (1 - named).square().mean()


@torch.no_grad()
def test_coat_is_its_paper_s_equations():
    model = build("coat").eval()
    images, tokens, labels, views = studies()
    labels[0, 5] = 1
    output = model(images, tokens, labels, views=views)
    for row, own in enumerate(tokens.tolist()):
        length = own.index(0, 1)
        found = sum(output.log_probs[row, place, own[place + 1]] for place in range(length))
        patches = images[row][views[row]].flatten(0, 1)
        total, auxiliary = by_hand(model, patches, own[1:length], labels[row])
        assert found.item() == pytest.approx(total.item(), abs=2e-5)
        assert output.auxiliary[row].item() == pytest.approx(auxiliary.item(), abs=2e-5)
    assert len(sentences_of(tokens[1, 1:-1].tolist())) > 1


@torch.no_grad()
def test_stop_control_ends_reports():
    """Whatever the words: certain of the end, each report has one sentence; certain of more, none ends."""
    model = build("coat").eval()
    images, _, labels, views = studies()
    model.head.bias[PERIOD] = 2  # sentences of some words
    for bias, ended in ((40.0, True), (-40.0, False)):
        model.stopping[2].bias.fill_(bias)
        for written in model.generate(images, labels, views=views, beam_size=2, max_length=30).tokens.tolist():
            assert (written.count(PERIOD) == 1 and written[written.index(PERIOD) + 1] == 0) == ended
            assert (0 in written) == ended


@torch.no_grad()
def test_it_reads_its_own_tags_and_never_the_labels():
    model = build("coat").eval()
    images, tokens, labels, views = studies()
    before = model(images, tokens, labels, views=views).log_probs
    assert torch.equal(model(images, tokens, 1 - labels, views=views).log_probs, before)
    model.tag_embedding.weight.add_(1.0)
    assert not torch.allclose(model(images, tokens, labels, views=views).log_probs, before)


def test_no_more_tags_than_observations():
    with pytest.raises(ValueError, match="^tags 15 must not exceed the 14 observations$"):
        CoatConfig(9, tags=15)
