"""CMAS once more, from its equations: one study, one report, one sentence after another; and the kinds of sentences."""

import pytest
import torch

from tests.test_coat import sentences_of
from tests.test_systems import build, lstm, material, scores, studies
from xpronet.data.reports import Vocabulary
from xpronet.data.sentence_kinds import NORMAL, normal_words
from xpronet.training.start import take_over

NORMAL_ID = 4  # which of the words says that a sentence is normal


def network():
    model = build("cmas_rl").eval()
    model.normal_words[NORMAL_ID] = True
    return model


def by_hand(m, patches, tokens):
    """log p(report), and the mean cross-entropies of who writes and of the right writer's words."""
    zero = torch.zeros(m.config.width)
    h, c, local, total, choices, words = zero, zero, zero, 0.0, [], []
    written = sentences_of(tokens)
    for number, sentence in enumerate([*written, None]):
        alpha = torch.softmax(
            scores(m.looking, [m.keys.weight @ patch for patch in patches], torch.cat([h, local])), dim=0
        )
        seen = alpha @ patches
        h, c = lstm(m.planning, torch.cat([seen, local]), h, c)
        choice = torch.softmax(m.plan(h), dim=0)
        if number:
            total = total + torch.log(choice[2] if sentence is None else 1 - choice[2])
        if sentence is None:
            break
        plan, both, hidden = choice[:2] / choice[:2].sum(), [], []
        for cell, head in zip(m.speaking, (m.head, m.abnormality_head), strict=True):
            word_h, word_c, likely, last = zero, zero, 1.0, 0
            for word in sentence:
                given = torch.cat([seen, h, m.word_embedding.weight[last]])
                word_h, word_c = lstm(cell, given, word_h, word_c)
                likely = likely * torch.softmax((head.weight @ word_h + head.bias)[1:], dim=0)[word - 1]
                last = word
            both.append(likely)
            hidden.append(word_h)
        joint = plan * torch.stack(both)
        total = total + torch.log(joint.sum())
        local = (joint / joint.sum()) @ torch.stack(hidden)
        kind = 0 if NORMAL_ID in sentence else 1
        choices.append(-torch.log(plan[kind]))
        words.append(-torch.log(both[kind]))
    return total, torch.stack(choices).mean() + torch.stack(words).sum() / len(tokens)


@torch.no_grad()
def test_cmas_is_its_paper_s_equations_with_both_writers_summed():
    model = network()
    images, tokens, labels, views = studies()
    tokens[1, 2] = NORMAL_ID
    output = model(images, tokens, labels, views=views)
    for row, own in enumerate(tokens.tolist()):
        length = own.index(0, 1)
        found = sum(output.log_probs[row, place, own[place + 1]].item() for place in range(length))
        total, auxiliary = by_hand(model, images[row][views[row]].flatten(0, 1), own[1:length])
        assert found == pytest.approx(total.item(), abs=2e-5)
        assert output.auxiliary[row].item() == pytest.approx(auxiliary.item(), abs=2e-5)


def test_kinds_are_those_of_whole_sentences():
    model = network()
    tokens = torch.tensor([[0, 2, 4, 1, 3, 1, 4, 4, 1, 0, 0], [0, 3, 3, 1, 2, 1, 1, 4, 0, 0, 0]])
    kinds, there = model.kinds(tokens)
    assert [row[own].tolist() for row, own in zip(kinds, there, strict=True)] == [[0, 1, 0], [1, 1, 1, 0]]


def test_normal_words_are_those_of_the_list_and_move_by_word():
    vocabulary = material().vocabulary
    words = Vocabulary([".", "no", "w3", "normal", "w4", "effusion", "<unk>"])
    assert normal_words(words).tolist() == [False, False, True, False, True, False, False, False]
    assert {"no", "normal", "clear", "stable"} <= NORMAL
    start = network()  # whose fourth word, w4, is one
    model = build("cmas_rl")
    model.furnish(material()._replace(vocabulary=words))
    take_over(model, words, start, vocabulary, where="x")
    assert model.normal_words.tolist() == [False, False, True, False, True, True, False, False]


@torch.no_grad()
def test_stop_ends_reports():
    model = network()
    images, _, labels, views = studies()
    model.head.bias[1] = model.abnormality_head.bias[1] = 2  # sentences of some words
    for bias, ended in ((40.0, True), (-40.0, False)):
        model.plan.bias[2] = bias
        for written in model.generate(images, labels, views=views, beam_size=2, max_length=30).tokens.tolist():
            assert (written.count(1) == 1 and written[written.index(1) + 1] == 0) == ended and (0 in written) == ended
