"""A search that is wide enough is exhaustive: it must find what trying every report finds; one beam is greedy."""

import itertools

import pytest
import torch

from xpronet.model.decoding import NoNumbers, beam_search

VOCABULARY, LENGTH = 3, 4


def tables(batch, seed):
    """Log-probabilities of the next token given position and last token: (batch, LENGTH, V, V)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.log_softmax(2 * torch.randn(batch, LENGTH, VOCABULARY, VOCABULARY, generator=generator), dim=-1)


def search(table, beam_size, length=LENGTH):
    calls = []

    def step(tokens, position, parents):
        calls.append(position)
        return table[torch.arange(len(table))[:, None], position, tokens]

    return beam_search(step, len(table), beam_size=beam_size, max_length=length), len(calls)


def score(table, report):
    last, total = 0, 0.0
    for position, token in enumerate(report):
        total += table[position, last, token].item()
        last = token
    return total


def every_report():
    """Reports that end with 0, and those cut at the greatest length."""
    for length in range(LENGTH):
        for words in itertools.product(range(1, VOCABULARY), repeat=length):
            yield (*words, 0)
    yield from itertools.product(range(1, VOCABULARY), repeat=LENGTH)


@pytest.mark.parametrize("seed", range(10))
def test_a_wide_beam_is_exhaustive(seed):
    table = tables(5, seed)
    result, _ = search(table, beam_size=VOCABULARY**LENGTH)
    for row in range(5):
        best = max(every_report(), key=lambda report: score(table[row], report))
        assert result.tokens[row].tolist() == list(best) + [0] * (LENGTH - len(best))
        assert result.log_probs[row].item() == pytest.approx(score(table[row], best), abs=1e-5)


@pytest.mark.parametrize("seed", range(10))
def test_one_beam_is_greedy(seed):
    table = tables(5, seed)
    result, _ = search(table, beam_size=1)
    for row in range(5):
        report, last = [], 0
        for position in range(LENGTH):
            last = table[row, position, last].argmax().item()
            report.append(last)
            if last == 0:
                break
        assert result.tokens[row].tolist() == report + [0] * (LENGTH - len(report))


def test_work_stops_when_every_study_is_decided():
    table = tables(2, 0)
    table[:, 1:, :, 0] = 0.0  # after one word the end is certain
    table[:, 1:, :, 1:] = -50.0
    _, steps = search(table, beam_size=2)
    assert steps == 2


def patient_search(table, beam_size):
    """The published search, which never stops before the last token: a finished beam goes on 1000 below."""
    beams, done = [((), 0.0)], []
    for position in range(len(table)):
        extended = [
            ((*words, token), total + table[position, words[-1] if words else 0, token].item())
            for words, total in beams
            for token in range(table.shape[-1])
        ]
        beams = []
        for words, total in sorted(extended, key=lambda beam: beam[1], reverse=True)[:beam_size]:
            if words[-1] == 0 or position == len(table) - 1:
                done.append((words, total))
                total -= 1000.0
            beams.append((words, total))
    return max(done, key=lambda beam: beam[1])


@pytest.mark.parametrize("beam_size", [1, 2, 3, 5])
def test_stopping_early_finds_what_patience_finds(beam_size):
    generator = torch.Generator().manual_seed(beam_size)
    logits = 2 * torch.randn(40, 9, 7, 7, generator=generator)
    logits[::2, :, :, 0] += 2.0  # half of the studies end sooner
    table = torch.log_softmax(logits, dim=-1).double()
    saved = 0
    for row in table:
        result, steps = search(row[None], beam_size, length=9)
        words, total = patient_search(row, beam_size)
        assert result.tokens[0].tolist() == list(words) + [0] * (9 - len(words))
        assert result.log_probs[0].item() == pytest.approx(total, abs=1e-5)
        saved += 9 - steps
    assert saved > 40


@pytest.mark.parametrize("position", [0, 2])
@pytest.mark.parametrize("beam_size", [1, 3])
def test_what_is_no_number_is_no_empty_report(position, beam_size):
    """Nor a finished one: what is NaN after some words says nothing about which report is likely."""
    table = tables(3, seed=1)
    table[1, position] = torch.nan
    with pytest.raises(NoNumbers, match=r"studies \[1\] of the batch: their log-probabilities are no numbers") as error:
        search(table, beam_size)
    assert error.value.rows == [1]


@pytest.mark.parametrize("beam_size", [1, 3])
def test_whoever_watches_sees_the_leading_beam_and_can_end_the_search(beam_size):
    """A page shows the report as it is written."""
    table, seen = tables(1, 3), []
    table[:, :-1, :, 0] -= 50  # no report ends before its greatest length
    rows = torch.arange(1)[:, None]

    def step(tokens, position, parents):
        return table[rows, position, tokens]

    def search(watch=None):
        return beam_search(step, 1, beam_size=beam_size, max_length=LENGTH, watch=watch)

    result = search(lambda tokens: seen.append(tokens[0].tolist()))
    assert [len(tokens) for tokens in seen] == [1, 2, 3]
    for tokens in seen:
        assert 0 not in tokens and score(table[0], tokens) > -50
    if beam_size == 1:
        assert seen[-1] == result.tokens[0, :-1].tolist()
    assert torch.equal(search().tokens, result.tokens)

    def enough(tokens):
        raise TimeoutError

    with pytest.raises(TimeoutError):
        search(enough)
