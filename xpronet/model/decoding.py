"""Beam search as in the published code (row 29): no length penalty, the best sum of log-probabilities wins.

It stops as soon as no unfinished beam of any study can win: a sum of log-probabilities never grows, so a study is
decided when its best finished report is at least as good as its best unfinished one. The reports are the same.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from xpronet.common.shares import total, uniform
from xpronet.data.reports import END

# (newest token of each beam (B, beam), its position, which beam each goes on from (B, beam) or None) ->
# log-probabilities of the next token (B, beam, V).
Step = Callable[[Tensor, int, Tensor | None], Tensor]
FINISHED = -1000.0  # what the published code subtracts from a finished beam, so that it is not extended


class NoNumbers(ValueError):
    """Log-probabilities that are no numbers: a network whose weights are broken, or an input that is."""

    def __init__(self, rows: list[int]):
        super().__init__(f"studies {rows} of the batch: their log-probabilities are no numbers")
        self.rows = rows  # of the batch


class Generation(NamedTuple):
    tokens: Tensor  # (B, max_length) int64, without the start, padded with 0
    log_probs: Tensor  # (B,) float32, sum over the report's tokens, its end included


def beam_search(
    step: Step,
    batch: int,
    *,
    beam_size: int,
    max_length: int,
    device: torch.device | str = "cpu",
    watch: Callable[[Tensor], None] | None = None,
) -> Generation:
    """The best finished report of each study.

    Args:
        step: what the search asks for log-probabilities; its first tokens are the start, 0.
        batch: number of studies B.
        watch: called after each step with the tokens (B, n) of each study's likeliest unfinished beam: what the report
            would be if the search ended here, which another beam may still change. What it raises ends the search.

    Raises:
        NoNumbers: of some studies a log-probability is NaN, or none is finite.
    """
    rows = torch.arange(batch, device=device)
    past = torch.zeros(batch, beam_size, max_length, dtype=torch.int64, device=device)  # tokens of each beam
    sums = torch.full((batch, beam_size), -torch.inf, device=device)
    sums[:, 0] = 0.0  # all beams are alike at first: one of them suffices
    best = torch.full((batch,), -torch.inf, device=device)
    reports = torch.zeros(batch, max_length, dtype=torch.int64, device=device)
    newest = torch.full((batch, beam_size), END, device=device)
    parents = None
    for position in range(max_length):
        log_probs = step(newest, position, parents)  # (B, beam, V)
        size = log_probs.shape[-1]
        candidates = (sums[:, :, None] + log_probs).flatten(1)  # (B, beam x V)
        sums, chosen = candidates.topk(beam_size, dim=1)
        parents, newest = chosen // size, chosen % size  # (B, beam)
        past = past.gather(1, parents[:, :, None].expand_as(past))
        past[:, :, position] = newest
        ended = (newest == END) | (position == max_length - 1)
        score, winner = sums.masked_fill(~ended, -torch.inf).max(dim=1)
        better = score > best
        best = torch.where(better, score, best)
        reports = torch.where(better[:, None], past[rows, winner], reports)
        sums = torch.where(ended, sums + FINISHED, sums)
        if bool((best >= sums.amax(dim=1)).all()):
            break
        if watch is not None:
            watch(past[rows, sums.argmax(dim=1), : position + 1])
    broken = sums.isnan().any(dim=1) | ~best.isfinite()  # a NaN ranks first and stays
    if broken.any():
        raise NoNumbers(broken.nonzero().flatten().tolist())
    return Generation(reports, best)


@torch.no_grad()
def sample(step: Step, batch: int, *, samples: int, max_length: int, device: torch.device | str = "cpu") -> Tensor:
    """Reports drawn word by word from a model's own probabilities: (B, samples, max_length) ids, padded with 0.

    Draws belong to places in the batch: processes that share one draw what one process would.
    """
    newest = torch.full((batch, samples), END, device=device)
    alive, words = torch.ones_like(newest, dtype=torch.bool), []
    parents = torch.arange(samples, device=device).expand(batch, -1)
    for position in range(max_length):
        log_probs = step(newest, position, parents if position else None)  # (B, n, V)
        # The largest sum with noise of Gumbel's distribution is a draw from the probabilities.
        noise = -torch.log(-torch.log(uniform(log_probs)))
        newest = torch.where(alive, (log_probs + noise).argmax(dim=-1), END)
        words.append(newest)
        alive = alive & (newest != END)
        if total(alive.sum()) == 0:  # of all processes, so that they draw alike
            break
    return F.pad(torch.stack(words, dim=-1), (0, max_length - len(words)))
