"""Second phase of HRGR and CMAS-RL: each word is given what follows from it, and the gradient stays unbiased."""

import itertools
import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from tests.published import RECIPE
from tests.test_sentences import PERIOD, WORDS, Toy, given
from xpronet.data.dataset import Batch
from xpronet.data.reports import Vocabulary, sentences
from xpronet.data.sentence_kinds import NORMAL, normal_words
from xpronet.evaluation.rewards import Cider, Reward
from xpronet.model.sentences import SentenceConfig
from xpronet.training import scst
from xpronet.training.credit import Credit, less_the_others
from xpronet.training.scst import Reinforce

VOCABULARY = Vocabulary([".", "<unk>", "clear", "heart", "large", "lungs", "no", "old"])


def ids(text: str, end: bool = True) -> list[int]:
    found = VOCABULARY.encode(text)[1:]
    return found if end else found[:-1]


def credit(by, discount, gains=None) -> Credit:
    return Credit(gains, by=by, discount=discount, period=PERIOD)


def test_a_report_is_cut_behind_its_sentences_and_its_end_is_apart():
    assert sentences([2, 1, 3, 3, 1, 0], 1) == [[2, 1], [3, 3, 1], [0]]
    assert sentences([2, 1, 3, 0], 1) == [[2, 1], [3], [0]]  # a flat system may end anywhere
    assert sentences([1, 1, 2], 1) == [[1], [1], [2]] and sentences([0], 1) == [[0]] and sentences([], 1) == []


REPORT, GAINS = [2, 1, 3, 3, 1, 0], [1.0, 2.0, 3.0, -4.0, 5.0, 8.0]


def test_by_sentence_every_word_has_what_its_sentence_and_the_next_earn():
    """Sentences earn 3, 4 and, the end, 8."""
    returns, groups = credit("sentence", 0.5).returns(REPORT, GAINS)
    assert returns == [3 + 0.5 * (4 + 0.5 * 8)] * 2 + [4 + 0.5 * 8] * 3 + [8]
    assert groups == [0, 0, 2, 2, 2, 4]
    assert credit("sentence", 1.0).returns(REPORT, GAINS)[0][0] == sum(GAINS)


def test_by_word_the_first_one_has_that_and_the_others_what_their_sentence_still_earns():
    returns, groups = credit("word", 0.5).returns(REPORT, GAINS)
    assert returns == [7.0, 2.0, 8.0, -4 + 0.5 * 5, 5.0, 8.0]
    assert groups == [0, 1, 2, 3, 3, 4]


def test_the_baseline_is_that_of_the_others_who_get_there():
    """Three samples; in group 2 the last is alone."""
    values = torch.tensor([[[4.0, 4.0, 0.0], [1.0, 0.0, 0.0], [2.0, 3.0, 5.0]]])
    groups = torch.tensor([[[1, 1, 0], [1, 0, 0], [1, 1, 2]]])
    expected = [[4 - (1 + 2.5) / 2] * 2 + [0], [1 - (4 + 2.5) / 2, 0, 0], [2 - 2.5, 3 - 2.5, 5]]
    torch.testing.assert_close(less_the_others(values, groups), torch.tensor([expected]))


@pytest.mark.parametrize("by", ["sentence", "word"])
def test_advantages_of_a_batch_and_of_none(by):
    places, reports = [4, 7], [[2, 1, 0], [1, 0], [0], [3, 3, 3]]

    def gains(every, written):
        assert every == [4, 4, 7, 7] and written == reports
        return [[1.0, 2.0, 0.5], [3.0, 1.0], [6.0], [1.0, 1.0, 1.0]]

    found, earned = credit(by, 1.0, gains).advantages(places, reports, 3)
    first, end = 3.5 - 4, 0.5 - 1
    rest = first if by == "sentence" else 2.0
    assert found[0].tolist() == [[first, rest, end], [-first, -end, 0]]
    assert found[1].tolist() == [[3, 0, 0], [-3, *([-3] * 2 if by == "sentence" else [2, 1])]]
    assert earned.tolist() == [[3.5, 4.0], [6.0, 3.0]]
    nothing, earned = credit(by, 1.0, lambda every, written: []).advantages([], [], 3)
    assert len(nothing) == len(earned) == 0


def test_cider_of_prefixes_is_that_of_each():
    random = np.random.default_rng(1)
    references = [[*random.integers(1, 6, length).tolist(), 0] for length in (0, 1, 5, 9, 14)]
    cider = Cider(references)
    for study, reference in enumerate(references):
        for hypothesis in (reference, [1, 1, 1, 1, 2, 3, 3, 1, 2, 0], [9], []):
            expected = [cider.score(hypothesis[: place + 1], study) for place in range(len(hypothesis))]
            assert cider.prefixes(hypothesis, study) == pytest.approx(expected, abs=1e-12)
    assert cider.prefixes(references[3], 3)[-1] == pytest.approx(10)


def test_a_sentence_with_a_word_of_normality_is_normal():
    assert {"no", "normal", "clear", "stable"} <= NORMAL
    assert [VOCABULARY.tokens[id - 1] for id in normal_words(VOCABULARY).nonzero().flatten().tolist()] == [
        "clear",
        "no",
    ]
    assert normal_words(VOCABULARY).shape == (len(VOCABULARY) + 1,)


def test_each_kind_earns_bleu_4_of_its_own_sentences():
    """By hand: matches of n-grams, smoothed from n = 2 on, and the penalty on shortness."""
    own = ids("lungs clear . heart large . no old heart .")  # normal: 3 + 4 words; abnormal: 3
    said = ids("heart large . lungs clear . old . no old .")
    abnormal = [1.0, ((3 / 5) * (3 / 5) * (2 / 4) * (1 / 3)) ** 0.25]  # one . of two matches
    first = (1.0 * 1.0 * 1.0 * 1.0) ** 0.25 * math.exp(1 - 7 / 3)
    both = ((6 / 6) * (5 / 6) * (4 / 5) * (3 / 4)) ** 0.25 * math.exp(1 - 7 / 6)
    expected = np.zeros(12)
    expected[[2, 5, 7, 10]] = abnormal[0], first, abnormal[1] - abnormal[0], both - first
    reward = Reward([own], VOCABULARY, cider=0.0, kinds=2.0)
    (gains,) = reward.gains([0], [said])
    np.testing.assert_allclose(gains, 2 * expected, atol=1e-12)
    assert reward([0], [said]) == pytest.approx(2 * (abnormal[1] + both))
    assert reward([0], [own]) == pytest.approx(2 * 2)
    assert reward([0], [ids("old .")]) == pytest.approx(2 * (1 / 2 * 1 / 2 * 1 * 1) ** 0.25 * math.exp(1 - 3 / 2))
    assert reward([0], [[0]]) == 0


def test_what_words_add_sums_up_to_what_the_report_earns():
    own, said = ids("lungs clear . heart large ."), [ids("heart large . no old ."), ids("heart", end=False), [0]]
    reward = Reward([own, ids("old .")], VOCABULARY, cider=0.5, kinds=2.0)
    sums = [gains.sum() for gains in reward.gains([0] * 3, said)]
    np.testing.assert_allclose(sums, reward([0] * 3, said), atol=1e-12)
    assert sums[0] > sums[1] != 0


LONGEST = 3
EVERY = [
    *(
        (*body, PERIOD, 0)
        for length in range(LONGEST - 1)
        for body in itertools.product(range(1, WORDS + 1), repeat=length)
    ),
    *itertools.product(range(1, WORDS + 1), repeat=LONGEST),  # cut off
]


@pytest.fixture
def toy():
    torch.manual_seed(0)
    return Toy(SentenceConfig(WORDS, "resnet18", width=4, attention=4, period=PERIOD)).double().eval()


def log_probs_of(toy) -> torch.Tensor:
    """(R, T) of each word of every report that there is, 0 behind its end."""
    tokens = torch.zeros(len(EVERY), LONGEST + 1, dtype=torch.int64)
    for row, written in enumerate(EVERY):
        tokens[row, 1 : len(written) + 1] = torch.tensor(written)
    log_probs = toy(given().double().expand(len(EVERY), -1, -1, -1), tokens, None).log_probs
    lengths = torch.tensor([len(written) for written in EVERY])
    return log_probs.gather(-1, tokens[:, 1:, None]).squeeze(-1) * (torch.arange(LONGEST) < lengths[:, None])


REWARD = Reward([[2, 3, 1, 0], [3, 1, 0]], Vocabulary([".", "<unk>", "no"]), cider=1.0, kinds=1.0)


def gradient(toy, monkeypatch, by, discount) -> torch.Tensor:
    """Of the loss in the mean over all pairs of reports that a study's two samples can be: each as a study of its own,
    which earns more the likelier the pair is."""
    pairs = torch.cartesian_prod(*[torch.arange(len(EVERY))] * 2)  # (R^2, 2)
    weights = log_probs_of(toy).sum(dim=1).exp().detach()[pairs].prod(dim=1) * len(pairs)
    tokens = torch.tensor([[*written, *[0] * (LONGEST - len(written))] for written in EVERY])[pairs]  # (R^2, 2, T)
    monkeypatch.setattr(scst, "sample", lambda *_, **__: tokens)

    def gains(places, reports):
        return [
            weights[place].item() * gain
            for place, gain in zip(places, REWARD.gains([0] * len(places), reports), strict=True)
        ]

    objective = Reinforce(lambda places, reports: np.zeros(len(places)), 2, LONGEST, credit(by, discount, gains))
    count = len(pairs)
    batch = Batch(
        given().double().expand(count, -1, -1, -1),
        torch.ones(count, 1, dtype=torch.bool),
        None,
        torch.zeros(count, 14),
        torch.arange(count),
    )
    losses = objective.losses(toy, batch)
    probabilities = log_probs_of(toy).sum(dim=1).exp()
    expected = (probabilities * torch.tensor(REWARD([0] * len(EVERY), EVERY))).sum()
    assert losses.reward.item() == pytest.approx(expected.item(), rel=1e-4)
    return torch.cat([each.flatten() for each in torch.autograd.grad(losses.total, weights_of(toy))])


def weights_of(toy):
    return [toy.head.weight, toy.next.weight, toy.stop.weight, toy.stop.bias]


def test_all_reports_are_there(toy):
    assert log_probs_of(toy).sum(dim=1).exp().sum().item() == pytest.approx(1, abs=1e-9)


def test_by_sentence_the_gradient_is_that_of_the_mean_reward(toy, monkeypatch):
    """With discount 1: by autograd, over every report, with the baseline of every other sample."""
    found = gradient(toy, monkeypatch, "sentence", 1.0)
    mean = (log_probs_of(toy).sum(dim=1).exp() * torch.tensor(REWARD([0] * len(EVERY), EVERY))).sum()
    expected = -torch.cat([each.flatten() for each in torch.autograd.grad(mean, weights_of(toy))])
    assert expected.norm() > 0.1
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("by", "discount"), [("sentence", 0.5), ("word", 1.0), ("word", 0.5)])
def test_the_baseline_adds_nothing_in_the_mean(toy, monkeypatch, by, discount):
    """The gradient is the score function's: sum over all reports of p(w) sum_t R_t grad log p(w_t)."""
    found = gradient(toy, monkeypatch, by, discount)
    own = log_probs_of(toy)
    returns = torch.zeros(own.shape, dtype=torch.float64)
    for row, (written, gains) in enumerate(zip(EVERY, REWARD.gains([0] * len(EVERY), EVERY), strict=True)):
        returns[row, : len(written)] = torch.tensor(credit(by, discount).returns(written, gains)[0])
    mean = (own.sum(dim=1).exp().detach() * (returns * own).sum(dim=1)).sum()
    expected = -torch.cat([each.flatten() for each in torch.autograd.grad(mean, weights_of(toy))])
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"credit": "sentence", "samples": 1},
            "compares a study's samples: samples 1 must be at least 2",
        ),
        ({"credit": "word", "meteor_reward": 0.5}, "credit word: METEOR is of whole reports: set meteor_reward=0"),
        ({"credit": "report", "cider_reward": 0.0}, "kind_reward are all 0: nothing is earned"),
        ({"discount": 1.1}, "less than or equal to 1"),
    ],
)
def test_an_impossible_credit_is_one_line(changes, line):
    given = RECIPE.model_dump() | {"phase": "scst", "start": "m"} | changes
    with pytest.raises(ValidationError, match=line):
        type(RECIPE).model_validate(given)


def test_the_kinds_alone_are_a_reward_and_cross_entropy_reads_none_of_it():
    for changes in (
        {"phase": "scst", "start": "m", "cider_reward": 0.0, "kind_reward": 1.0, "credit": "sentence"},
        {"credit": "word", "samples": 1, "meteor_reward": 1.0},
    ):
        assert type(RECIPE).model_validate(RECIPE.model_dump() | changes)
