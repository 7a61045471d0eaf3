"""KERP-style reports: the unit is its equations, templates are retrieved and paraphrased, and "none" ends a report."""

import json
import math
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from tests.made import REPORTS as CLEANED
from tests.test_systems import PERIOD, WORDS, build, material, studies
from tests.test_what_the_model_reads import no_meteor
from xpronet.data.reports import Vocabulary
from xpronet.labels.conditions import CONDITIONS
from xpronet.model import checkpoint
from xpronet.model.sentences import IMPOSSIBLE, encoded, sentence_targets
from xpronet.systems import kerp
from xpronet.systems.kerp import GraphTransformer, KerpConfig, co_occurrence

FINDINGS, SLOTS = 13, 4


def attend(attention, x, sources, bias):
    """One target after the other, one head after the other; bias (targets, sources), -inf where none may look."""
    found, weights = [], torch.zeros(len(x), len(sources))
    for j, target in enumerate(x):
        heads = []
        for head in range(attention.heads):
            own = slice(head * len(target) // attention.heads, (head + 1) * len(target) // attention.heads)
            query = attention.query(target)[own]
            edges = [attention.key(source)[own] @ query / math.sqrt(len(query)) for source in sources]
            alpha = torch.softmax(torch.stack(edges) + bias[j], dim=0)
            heads.append(sum(a * attention.value(source)[own] for a, source in zip(alpha, sources, strict=True)))
            weights[j] += alpha / attention.heads
        found.append(attention.out(torch.cat(heads)))
    return torch.stack(found), weights


def unit(gtr, x, sources, bias, own=None):
    """The Graph Transformer for one study -> targets, and where they looked."""

    def norm(number, x):
        return F.layer_norm(x, x.shape[-1:], gtr.norms[number].weight, gtr.norms[number].bias)

    heard, weights = attend(gtr.source, x, sources, bias)
    x = norm(0, x + heard)
    x = norm(1, x + attend(gtr.own, x, x, torch.zeros(len(x), len(x)) if own is None else own)[0])
    inner = torch.relu(x @ gtr.feed_forward.inner.weight.T + gtr.feed_forward.inner.bias)
    return norm(2, x + inner @ gtr.feed_forward.outer.weight.T + gtr.feed_forward.outer.bias), weights


def by_hand(m, patches, ids, chosen=None):
    """One study, one report: log-probabilities behind each of its ids, where each looked, and logits of all heads.

    `chosen`: the templates that are paraphrased; None: the likeliest.
    """
    regions = patches @ m.patch_embedding.weight.T + m.patch_embedding.bias
    findings, at_patches = unit(m.to_findings, m.to_findings.targets[0], regions, torch.zeros(FINDINGS, len(regions)))
    observations, _ = unit(m.to_observations, m.to_observations.targets[0], findings, m.prior.T.log())
    slots, at_findings = unit(m.to_slots, m.to_slots.targets[0], findings, torch.zeros(SLOTS, FINDINGS))
    evident = torch.stack([m.finding.weight[k] @ u + m.finding.bias[k] for k, u in enumerate(findings)])
    shelf = torch.stack([m.template(slot) for slot in slots])
    chosen = chosen or [int(row[:-1].argmax()) for row in shelf]

    borders = [place for place, id in enumerate(ids) if id in (0, PERIOD)] + [len(ids)]
    log_probs, looked = [], []
    for number, (first, last) in enumerate(pairwise(borders)):
        slot = min(number, SLOTS - 1)
        words = [id for id in m.templates[chosen[slot]].tolist() if id]
        template, own = (
            torch.stack(
                [m.word_embedding.weight[id] + m.place_embedding.weight[place] for place, id in enumerate(each)]
            )
            for each in (words, ids[first:last])
        )
        sources = torch.cat([findings, template + slots[slot]])
        past = torch.full((len(own), len(own)), -torch.inf).triu(1)
        hidden, _ = unit(m.to_words, own, sources, torch.zeros(len(own), len(sources)), past)
        for place, h in enumerate(hidden):
            word = torch.cat([torch.tensor([IMPOSSIBLE]), torch.log_softmax(m.head(h)[1:], dim=0)])
            if not place and number:  # a report is never empty
                none = 1 / (1 + shelf[slot, :-1].exp().sum() / shelf[slot, -1].exp()) if number < SLOTS else 1 - 1e-13
                word = torch.cat([torch.tensor([none]).log(), (1 - none) * word[1:].exp()])
                word[1:] = word[1:].log()
            log_probs.append(word)
            looked.append(at_findings[slot] @ at_patches)
    return torch.stack(log_probs), torch.stack(looked), (evident, m.observation(observations)[:, 0], shelf)


REPORTS = torch.tensor(
    [[0, 3, 2, 4, 1, 7, 7, 1, 2, 1, 0], [0, 5, 1, 6, 2, 1, 2, 3, 1, 4, 0], [0, 2, 1, 7, 2, 1, 3, 4, 5, 6, 1]]
)  # of three, two to four and four sentences


@pytest.fixture
def model():
    return build("kerp", dropout=0.0).eval()


@torch.no_grad()
def test_the_unit_is_its_equations():
    torch.manual_seed(0)
    gtr = GraphTransformer(KerpConfig(WORDS, width=8, d_ff=6, heads=2), 3).eval()
    sources, prior = torch.randn(1, 5, 8), torch.rand(5, 3)
    for bias in (torch.zeros(3, 5), prior.T.log()):
        found, looked = unit(gtr, gtr.targets[0], sources[0], bias)
        torch.testing.assert_close(gtr(sources, bias)[0], found, atol=1e-5, rtol=0)
    there = torch.tensor([True, True, False, True, False])
    found, looked = unit(gtr, gtr.targets[0], sources[0][there], torch.zeros(3, 3))
    torch.testing.assert_close(gtr(sources, there[None])[0], found, atol=1e-5, rtol=0)
    torch.testing.assert_close(gtr.looks(sources, there[None])[0][:, there], looked, atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_report_is_as_likely_as_the_equations_say_and_looks_where_they_do(model):
    images, _, labels, views = studies()
    output = model(images, REPORTS, labels, views=views)
    for row, ids in enumerate(REPORTS.tolist()):
        log_probs, looked, _ = by_hand(model, images[row][views[row]].flatten(0, 1), ids[:-1])
        torch.testing.assert_close(output.log_probs[row], log_probs, atol=2e-5, rtol=0)
        seen = output.attention[row][:, output.patches[row]]
        torch.testing.assert_close(seen, looked, atol=1e-5, rtol=0)


@torch.no_grad()
def test_training_paraphrases_the_reference_s_templates_and_learns_to_retrieve_them(model):
    images, _, labels, views = studies()
    output = model.train()(images, REPORTS, labels, views=views)
    targets, there = sentence_targets(
        REPORTS, model.wordings, model.group, period=PERIOD, vocab_size=WORDS, slots=SLOTS
    )
    assert there.tolist() == [[True] * 3 + [False], [True] * 4, [True] * 3 + [False]]
    for row, ids in enumerate(REPORTS.tolist()):
        patches = images[row][views[row]].flatten(0, 1)
        log_probs, _, (evident, observed, shelf) = by_hand(model, patches, ids[:-1], targets[row].tolist())
        torch.testing.assert_close(output.log_probs[row], log_probs, atol=2e-5, rtol=0)
        loss = 0.0
        for logits in (evident, observed):
            for logit, label in zip(logits, labels[row], strict=False):
                loss -= torch.sigmoid(logit if label else -logit).log() / len(logits)
        count = int(there[row].sum())
        for slot in range(count):
            loss -= torch.log_softmax(shelf[slot, :-1], dim=0)[targets[row, slot]] / count
        torch.testing.assert_close(output.auxiliary[row], loss, atol=2e-5, rtol=0)
    assert model.eval()(images, REPORTS, labels, views=views).auxiliary is None


def test_a_process_without_studies_trains_along():
    images, tokens, labels, views = (each[:0] for each in studies())
    output = build("kerp").train()(images, tokens, labels, views=views)
    assert output.log_probs.shape == (0, tokens.shape[1] - 1, WORDS + 1)


@torch.no_grad()
def test_none_ends_a_report_and_no_slot_is_left_at_last(model):
    """The higher the logit of "none", the likelier is the end behind each sentence, and the first is always written."""
    images, tokens, labels, views = studies()
    tokens = torch.tensor([[0, 2, 1, 3, 1, 4, 1, 5, 1, 0, 0]]).expand(3, -1)  # four sentences, as many as slots
    ends = []
    for bias in (-5.0, 5.0):
        model.template.bias[-1] = bias
        ends.append(model(images, tokens, labels, views=views).log_probs[:, :, 0].exp())  # (3, T)
    few, many = ends
    assert (many[:, [2, 4, 6]] > 0.9).all() and (few[:, [2, 4, 6]] < 0.1).all()
    for found in ends:
        assert (found[:, 8] > 0.999999).all() and (found[:, [0, 1, 3, 5, 7]] < 1e-9).all()
    model.template.bias[-1] = -50.0  # even so a report has no more sentences than slots
    model.head.bias[PERIOD] = 5.0
    for written in model.generate(images, labels, views=views, beam_size=2, max_length=40).tokens.tolist():
        assert written.count(PERIOD) == SLOTS


@torch.no_grad()
def test_the_template_that_is_retrieved_is_what_words_hear(model):
    images, tokens, labels, views = studies()
    model.template.bias[:] = torch.tensor([50.0, 0.0, 0.0])  # the first of both
    before = model(images, tokens, labels, views=views).log_probs
    model.templates[1] = torch.tensor([5, 6, 5, 1])
    assert torch.equal(model(images, tokens, labels, views=views).log_probs, before)
    model.templates[0] = torch.tensor([5, 6, 1, 0])
    assert not torch.allclose(model(images, tokens, labels, views=views).log_probs, before, atol=1e-3)
    again = model(images, tokens, labels, views=views).log_probs
    model.template.bias[:] = torch.tensor([0.0, 50.0, 0.0])
    model.templates[1] = torch.tensor([5, 6, 1, 0])
    torch.testing.assert_close(model(images, tokens, labels, views=views).log_probs[:, 0], again[:, 0])


@torch.no_grad()
def test_sentences_that_are_longer_than_the_places_are_written_as_they_are_read(monkeypatch):
    monkeypatch.setattr(kerp, "SPAN", 3)
    model = build("kerp").eval()
    images, _, labels, views = studies()
    tokens = torch.tensor([[0, 2, 3, 4, 5, 6, 7, 1, 2, 3, 4, 5, 6, 1, 0]]).expand(3, -1)
    wanted = model(images, tokens, labels, views=views).log_probs
    step = model.begin(images, labels, views, beams=1, max_length=14)
    for position in range(14):
        found = step(
            tokens[:, position, None], position, None if not position else torch.zeros(3, 1, dtype=torch.int64)
        )
        torch.testing.assert_close(found[:, 0], wanted[:, position], atol=1e-5, rtol=0)
    other = tokens.clone()
    other[:, 3] = 7  # a word in the midst, that a newer has taken the place of
    found = model(images, other, labels, views=views).log_probs
    torch.testing.assert_close(found[:, 4:], wanted[:, 4:])
    assert not torch.allclose(found[:, 3], wanted[:, 3])


def test_the_prior_counts_studies_with_both():
    labels = torch.zeros(5, len(CONDITIONS))
    labels[0, [0, 1]] = 1
    labels[1, [0, 1, 2]] = 1
    labels[2, 0] = 1
    labels[3:, 13] = 1
    prior = co_occurrence(labels)
    assert prior.shape == (FINDINGS, 14) and (prior > 0).all()
    assert prior[0, :4].tolist() == pytest.approx([4 / 5, 3 / 5, 2 / 5, 1 / 5])  # of three studies with the first
    assert prior[2, :4].tolist() == pytest.approx([2 / 3, 2 / 3, 2 / 3, 1 / 3])
    assert prior[5].tolist() == [0.5] * 14  # never seen: as likely as not
    assert torch.equal(build("kerp").prior, co_occurrence(material().labels))


def test_a_sentence_is_that_of_a_wording_or_of_what_shares_most_words():
    vocabulary = Vocabulary([".", "<unk>", "are", "clear", "heart", "lungs", "normal", "the"])
    groups = [["the lungs are clear .", "lungs clear ."], ["the heart is normal .", "heart normal ."]]
    wordings, group = encoded(groups, vocabulary)
    reports = {
        "heart normal . lungs clear .": [1, 0],
        "the lungs are normal . clear": [0, 0],  # the last was cut
        "clear lungs . the heart the heart the heart the heart .": [0, 1],
        "normal the . the lungs are clear . heart . . lungs .": [1, 0, 1],
    }
    for report, expected in reports.items():
        tokens = torch.tensor([vocabulary.encode(report) + [0, 0]])
        sizes = {"period": 1, "vocab_size": len(vocabulary), "slots": 3}
        targets, there = sentence_targets(tokens, wordings, group, **sizes)
        assert targets[0, : len(expected)].tolist() == expected, report
        assert there[0].tolist() == [True] * len(expected) + [False] * (3 - len(expected))


def test_an_equal_wording_goes_before_the_same_words_in_another_order():
    wordings, group = torch.tensor([[2, 3, 1], [3, 2, 1]]), torch.tensor([0, 1])
    tokens = torch.tensor([[0, 3, 2, 1, 2, 3, 1, 0]])
    targets, _ = sentence_targets(tokens, wordings, group, period=1, vocab_size=3, slots=2)
    assert targets.tolist() == [[1, 0]]


def test_training_goes_on_with_the_templates_of_the_folder(made, monkeypatch):
    """Its weights choose from these; another run's words have other ids, and its reports other templates."""
    monkeypatch.setattr("stages.train.running_meteor", lambda: nullcontext(no_meteor()))
    frozen = {"freeze_epochs": 1, "crops": 1}
    made.run("train", system="kerp", train=frozen)
    Path("data/model").rename("start")
    groups = json.loads(Path("data/templates.json").read_text())
    Path("data/templates.json").write_text(json.dumps([{"wordings": ["pulmonary edema ."]}, *groups]))
    made.run("train", system="kerp", train={**frozen, "start": "start"}, reports={**CLEANED, "min_count": 2})
    (before, old), (after, new) = (checkpoint.load(folder) for folder in ("start", "data/model"))
    assert len(new.vocabulary) > len(old.vocabulary)
    assert after.texts(new.vocabulary) == before.texts(old.vocabulary)
    assert [len(group) for group in after.texts(new.vocabulary)] == [2, 1]
    assert not torch.equal(after.templates, before.templates) and torch.equal(after.prior, before.prior)


def test_without_templates_it_says_what_to_do(made):
    Path("data/templates.json").write_text("[]")
    with pytest.raises(ValueError, match="^templates 0: .*: lower templates.min_share$"):
        made.run("train", system="kerp")


def test_sizes_that_cannot_be_are_one_line():
    for heads in (0, 3, "2"):
        with pytest.raises(ValueError, match=f"^heads {heads!r} must be "):
            KerpConfig(WORDS, heads=heads)
    with pytest.raises(ValueError, match="^slots 0 must be "):
        KerpConfig(WORDS, slots=0)
