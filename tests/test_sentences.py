"""A report that is written sentence by sentence is as likely as its parts say, and is searched like any other."""

import itertools
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from tests.test_systems import CHANNELS, PATCHES
from xpronet.data.reports import Vocabulary
from xpronet.model.sentences import IMPOSSIBLE, SentenceConfig, Sentences, encoded, word_log_probs

PERIOD, WORDS = 1, 3
SENTENCES = ((2, 1), (3, 3, 1), (1,))


class State(NamedTuple):
    attention: Tensor  # (B, n, S)
    topic: Tensor  # (B, n, H), of the sentence at hand
    h: Tensor  # (B, n, H), of its words


class Toy(Sentences):
    """Each sentence's topic is made of the one before, its words of the topic and of those before."""

    def __init__(self, config):
        super().__init__(config)
        self.next, self.stop = nn.Linear(config.width, config.width), nn.Linear(config.width, 1)
        self.sentences = 0

    def read(self, context):
        return context

    def start(self, context, n):
        zeros = self.zeros(context, n)
        return State(zeros.new_zeros(*zeros.shape[:2], context.patches.shape[1]), zeros, zeros)

    def sentence(self, context, state):
        self.sentences += 1
        topic = torch.tanh(self.next(state.topic) + context.pooled[..., : self.config.width])
        return state._replace(topic=topic, h=torch.zeros_like(topic)), self.stop(topic).squeeze(-1)

    def word(self, tokens, context, state):
        h = torch.tanh(self.word_embedding(tokens) + state.h + state.topic)
        return word_log_probs(self.head(self.dropout(h))), state._replace(h=h)


@pytest.fixture
def toy():
    torch.manual_seed(0)
    return Toy(SentenceConfig(WORDS, "resnet18", width=4, attention=4, period=PERIOD)).eval()


def given(count=1):
    torch.manual_seed(3)
    return torch.randn(count, 1, PATCHES, CHANNELS)


def by_hand(model, images, written) -> float:
    """Of one report: every sentence but the first is one that might not have been, and behind the last is none."""
    context, total = model._context(images, None), 0.0
    topic = torch.zeros(1, 1, 4)
    for number, sentence in enumerate(written):
        topic = torch.tanh(model.next(topic) + context.pooled[..., :4])
        stop = torch.sigmoid(model.stop(topic)).item()
        total += torch.tensor(1 - stop).log().item() if number else 0.0
        h, last = torch.zeros(1, 1, 4), 0 if not number else PERIOD
        for word in sentence:
            h = torch.tanh(model.word_embedding.weight[last] + h + topic)
            total += torch.log_softmax(model.head(h)[0, 0, 1:], dim=-1)[word - 1].item()
            last = word
    topic = torch.tanh(model.next(topic) + context.pooled[..., :4])
    return total + torch.sigmoid(model.stop(topic)).log().item()


@torch.no_grad()
def test_a_report_is_as_likely_as_its_parts(toy):
    images = given()
    for written in itertools.permutations(SENTENCES, 2):
        ids = [0, *itertools.chain(*written), 0]
        log_probs = toy(images, torch.tensor([ids]), None).log_probs[0]
        found = sum(log_probs[place, word].item() for place, word in enumerate(ids[1:]))
        assert found == pytest.approx(by_hand(toy, images, written), abs=1e-5)


@torch.no_grad()
def test_it_ends_behind_a_sentence_alone_and_is_never_empty(toy):
    ids = torch.tensor([[0, 2, 1, 3, 2, 1]])
    log_probs = toy(given(), padded(ids), None).log_probs[0]  # behind each of them
    torch.testing.assert_close(log_probs.logsumexp(dim=-1), torch.zeros(6))
    ends = log_probs[:, 0] > IMPOSSIBLE + 1
    assert ends.tolist() == [False, False, True, False, False, True]


def padded(ids):
    return torch.nn.functional.pad(ids, (0, 1))


@torch.no_grad()
def test_the_level_of_sentences_rests_within_one(toy):
    """Searching costs a step of it per sentence, and what it says does not depend on the others' sentences."""
    images = given(2)
    both = toy(images, torch.tensor([[0, 2, 1, 3, 1, 0], [0, 3, 3, 3, 1, 0]]), None).log_probs
    toy.sentences = 0
    alone = toy(images[1:], torch.tensor([[0, 3, 3, 3, 1, 0]]), None).log_probs
    assert toy.sentences == 2
    torch.testing.assert_close(both[1:], alone)
    training = toy.train()(images, torch.tensor([[0, 2, 1, 3, 1, 0], [0, 3, 3, 3, 1, 0]]), None)
    assert training.log_probs.shape == both.shape and toy.sentences == 2 + 5


@torch.no_grad()
def test_a_wide_search_finds_the_likeliest_of_all_reports(toy):
    images, longest = given(), 5
    reports = [
        (*ids, 0) for length in range(1, longest) for ids in itertools.product(range(1, WORDS + 1), repeat=length)
    ]
    reports += list(itertools.product(range(1, WORDS + 1), repeat=longest))  # cut off
    tokens = torch.zeros(len(reports), longest + 2, dtype=torch.int64)
    for row, ids in enumerate(reports):
        tokens[row, 1 : len(ids) + 1] = torch.tensor(ids)
    log_probs = toy(images.expand(len(reports), -1, -1, -1), tokens, None).log_probs
    own = log_probs.gather(-1, tokens[:, 1:, None]).squeeze(-1)
    sums = torch.tensor([own[row, : len(ids)].sum().item() for row, ids in enumerate(reports)])
    found = toy.generate(images, torch.zeros(1, 14), beam_size=81, max_length=longest)
    best = reports[sums.argmax()]
    assert found.tokens[0].tolist()[: len(best)] == list(best)
    assert found.log_probs.item() == pytest.approx(sums.max().item(), abs=1e-5)


def test_a_period_is_a_word():
    for period in (0, 4, "."):
        with pytest.raises(ValueError, match=f"^period {period!r} must be "):
            SentenceConfig(WORDS, period=period)


def test_wordings_become_ids_with_their_groups():
    vocabulary = Vocabulary([".", "<unk>", "clear", "lungs"])
    ids, groups = encoded([["lungs clear .", "clear ."], ["heart ."]], vocabulary)
    assert ids.tolist() == [[4, 3, 1], [3, 1, 0], [2, 1, 0]] and groups.tolist() == [0, 0, 1]
    assert encoded([], vocabulary)[0].shape == (0, 0)
