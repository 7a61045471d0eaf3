"""HRGR once more, from its equations: one study, one report, one sentence after another; and its templates."""

import itertools
import json
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from tests.test_coat import sentences_of
from tests.test_systems import WORDS, build, lstm, material, scores, studies
from tests.test_what_the_model_reads import no_meteor
from xpronet.labels.conditions import CONDITIONS
from xpronet.model import checkpoint
from xpronet.model.sentences import TemplateConfig, encoded

TEMPLATES = ((2, 1), (7, 7, 7, 1))  # of `material`; another wording of the first is 7 2 1


def by_hand(m, patches, tokens):
    """log p(report), and the mean cross-entropy of its actions."""
    zero = torch.zeros(m.config.width)
    sentence_keys, word_keys = m.keys.weight.chunk(2)
    h, c, total, actions = zero, zero, 0.0, []
    written = sentences_of(tokens)
    for number, sentence in enumerate([*written, None]):
        seen = torch.softmax(scores(m.looking, [sentence_keys @ patch for patch in patches], h), dim=0) @ patches
        h, c = lstm(m.planning, seen, h, c)
        stop = torch.sigmoid(m.stopping(h))[0]
        if number:
            total = total + torch.log(stop if sentence is None else 1 - stop)
        if sentence is None:
            break
        topic = torch.sigmoid(m.topic(h))
        policy = torch.softmax(m.policy(topic), dim=0)
        word_h, word_c, free, last = zero, zero, 1.0, 0
        for word in sentence:
            x = m.word_embedding.weight[last]
            asked = torch.cat([x, topic, word_h])
            weights = torch.softmax(scores(m.word_looking, [word_keys @ patch for patch in patches], asked), dim=0)
            word_h, word_c = lstm(m.speaking, torch.cat([weights @ patches, x, topic]), word_h, word_c)
            free = free * torch.softmax((m.head.weight @ word_h + m.head.bias)[1:], dim=0)[word - 1]
            last = word
        own = [place + 1 for place, template in enumerate(TEMPLATES) if tuple(sentence) == template]
        total = total + torch.log(policy[0] * free + sum(policy[place] for place in own))
        target = own[0] if own else int(sentence == [7, 2, 1])
        actions.append(-torch.log(policy[target]))
    return total, torch.stack(actions).mean()


@torch.no_grad()
def test_a_sentence_is_a_template_or_written_and_the_report_as_likely_as_both_together():
    model = build("hrgr").eval()
    images, _, labels, views = studies()
    reports = [(2, 1, 7, 7, 7, 1), (7, 2, 1, 5, 1), (7, 7, 2, 1, 2, 1)]
    tokens = torch.zeros(3, 8, dtype=torch.int64)
    for row, report in enumerate(reports):
        tokens[row, 1 : 1 + len(report)] = torch.tensor(report)
    output = model(images, tokens, labels, views=views)
    for row, report in enumerate(reports):
        ids = [*report, 0]
        found = sum(output.log_probs[row, place, word].item() for place, word in enumerate(ids))
        patches = images[row][views[row]].flatten(0, 1)
        total, auxiliary = by_hand(model, patches, report)
        assert found == pytest.approx(total.item(), abs=2e-5)
        assert output.auxiliary[row].item() == pytest.approx(auxiliary.item(), abs=2e-5)


@torch.no_grad()
def test_a_template_that_has_said_another_word_is_out_however_unlikely_free_words_are():
    model = build("hrgr").eval()
    model.head.bias[5] = -50
    images, _, labels, views = studies()
    report = (7, 5, 1, 7, 7, 3, 1)
    tokens = torch.tensor([[0, *report, 0]])
    log_probs = model(images[:1], tokens, labels[:1], views=views[:1]).log_probs[0]
    found = log_probs.gather(-1, tokens[0, 1:, None]).sum().item()
    total, _ = by_hand(model, images[0].flatten(0, 1), report)
    assert found == pytest.approx(total.item(), abs=1e-4) and found < -50


@torch.no_grad()
def test_the_probabilities_of_all_reports_are_one():
    """Of those that end in four words, and of those that do not."""
    words, length = 3, 4
    model = build("hrgr", words=words).eval()
    images, _, labels, views = studies()
    every = range(1, words + 1)
    reports = [(*ids, 0) for n in range(1, length) for ids in itertools.product(every, repeat=n)]
    reports += list(itertools.product(every, repeat=length))
    tokens = torch.zeros(len(reports), length + 1, dtype=torch.int64)
    for row, report in enumerate(reports):
        tokens[row, 1 : 1 + len(report)] = torch.tensor(report)
    same = (each[:1].expand(len(reports), *each.shape[1:]) for each in (images, labels, views))
    images, labels, views = same
    log_probs = model(images, tokens, labels, views=views).log_probs.double()
    own = log_probs.gather(-1, tokens[:, 1:, None]).squeeze(-1)
    sums = [own[row, : len(report)].sum() for row, report in enumerate(reports)]
    assert torch.stack(sums).exp().sum().item() == pytest.approx(1, abs=1e-5)


@torch.no_grad()
def test_a_certain_template_is_said_word_by_word_and_stop_ends_the_report():
    model = build("hrgr").eval()
    images, _, labels, views = studies()
    for template, ids in enumerate(TEMPLATES):
        model.policy.bias.zero_()
        model.policy.bias[1 + template] = 40
        model.stopping.bias.fill_(40)
        for written in model.generate(images, labels, views=views, beam_size=2, max_length=9).tokens.tolist():
            assert written == [*ids, *[0] * (9 - len(ids))]
        model.stopping.bias.fill_(-40)
        for written in model.generate(images, labels, views=views, beam_size=2, max_length=9).tokens.tolist():
            assert written == ([*ids] * 9)[:9]


@pytest.mark.parametrize("training", [True, False])
def test_gradients_are_numbers_where_an_action_is_certain(training):
    """Also as rewards are learnt from, in evaluation mode."""
    model = build("hrgr").train(training)
    images, tokens, labels, views = studies()
    tokens[:, 1:5] = torch.tensor(TEMPLATES[1])
    with torch.no_grad():
        model.policy.bias[2] = 200  # the others' probability is 0 in float32
    output = model(images, tokens, labels, views=views)
    (output.log_probs.gather(-1, tokens[:, 1:, None]).sum() + output.auxiliary.sum()).backward()
    own = [each.grad for key, each in model.named_parameters() if not key.startswith("visual.")]
    assert all(each.isfinite().all() for each in own)


def test_targets_are_of_sentences_that_are_a_wording():
    model = build("hrgr")
    tokens = torch.tensor([[0, 2, 1, 7, 2, 1, 7, 7, 7, 1, 2, 2, 1, 0, 0]])
    targets, there = model.targets(tokens)
    assert there[0].nonzero().flatten().tolist() == [0, 2, 5, 9]
    assert targets[0][there[0]].tolist() == [0, 0, 1, -1] and (targets[~there] == -1).all()


def test_no_template_is_one_line():
    with pytest.raises(ValueError, match="^templates 0: no sentence is in enough .*: lower templates.min_share$"):
        TemplateConfig(9, templates=0, wordings=0, longest=0)


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("templates", WORDS + 1, f"templates must hold ids of words, from 0 to {WORDS}"),
        ("wordings", -1, f"wordings must hold ids of words, from 0 to {WORDS}"),
        ("group", 2, "group must name each of the 2 templates, and no other"),
        ("group", 1, "group must name each of the 2 templates, and no other"),
    ],
)
def test_a_folder_whose_templates_are_of_no_words_is_one_line(tmp_path, name, value, rule):
    """It is a stranger's, perhaps: an id beyond the words would stop the search, or the training that starts there."""
    model = build("hrgr")
    getattr(model, name)[:] = value
    card = checkpoint.ModelCard(material().vocabulary, CONDITIONS, "iu_xray", crop=64, beam_size=3, max_length=5)
    checkpoint.save(tmp_path / "m", model, card)
    with pytest.raises(ValueError, match=f"^{tmp_path}/m: {rule}$"):
        checkpoint.load(tmp_path / "m")


def test_the_folder_has_the_templates_of_the_stage(made, monkeypatch):
    monkeypatch.setattr("stages.train.running_meteor", lambda: nullcontext(no_meteor()))
    made.run("templates", templates={"min_share": 0.05})
    made.run("train", system="hrgr")
    model, card = checkpoint.load("data/model")
    groups = [group["wordings"] for group in json.loads(Path("data/templates.json").read_text())]
    ids, group = encoded(groups, card.vocabulary)
    assert torch.equal(model.wordings, ids) and torch.equal(model.group, group) and len(groups) > 3
    train = " ".join(made.text[id] for id in made.ids("train"))
    assert all(wording in train for wordings in groups for wording in wordings)
