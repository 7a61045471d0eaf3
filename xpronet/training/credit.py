"""Which word of a sampled report is given credit for what: by its sentences (CMAS-RL), or by its words too (HRGR).

Sentence i earns r_i = f(first i sentences) - f(first i - 1), f what a report earns. What begins with a sentence has

    R_i = sum_{j >= i} discount^(j - i) r_j

By `sentence` (Jing, Wang, Xing, ACL 2019) every word of sentence i is given R_i. By `word` (Li, Liang, Hu, Xing,
NeurIPS 2018) its first word is, which decides what is said; another word t is given what the sentence still earns word
by word, sum_{u >= t} discount^(u - t) (f(first u words) - f(first u - 1)). The end of a report is a sentence of its
own: it is given what it makes of f itself.

The baseline is the mean of what the study's other samples are given at the same sentence, of those that get there (0
where none does); by `word` a first word's is that of first words, another's that of the others. No sample is in its
own, so that the gradient stays unbiased.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from xpronet.data.reports import sentences


@dataclass(frozen=True)
class Credit:
    gains: Callable[[Sequence[int], Sequence[Sequence[int]]], Sequence[Sequence[float]]]  # what each word adds to f
    by: Literal["sentence", "word"]
    discount: float
    period: int  # id of the word that ends a sentence

    def advantages(self, places: Sequence[int], reports: Sequence[Sequence[int]], length: int) -> tuple[Tensor, Tensor]:
        """Of n reports of each of B studies, as ids with their end, and the studies' places in the dataset (B,).

        Returns:
            (B, n, length) float32, 0 behind a report, and what each report earns, (B, n) float32.
        """
        samples = len(reports) // max(len(places), 1)
        every = np.repeat(places, samples).tolist()
        shape = len(places), samples, length
        given, groups = torch.zeros(len(reports), length, dtype=torch.float64), torch.zeros(len(reports), length).long()
        earned = torch.zeros(len(reports), dtype=torch.float64)
        for row, (ids, gains) in enumerate(zip(reports, self.gains(every, reports), strict=True)):
            returns, ranks = self.returns(ids, gains)
            given[row, : len(ids)], groups[row, : len(ids)] = torch.tensor(returns).double(), torch.tensor(ranks) + 1
            earned[row] = sum(gains)
        advantages = less_the_others(given.view(shape), groups.view(shape))
        return advantages.float(), earned.view(shape[:2]).float()

    def returns(self, ids: Sequence[int], gains: Sequence[float]) -> tuple[list[float], list[int]]:
        """What each word of a report is given, and which of those of other samples it is compared with, as a number."""
        ends = np.cumsum([len(part) for part in sentences(ids, self.period)])
        parts = [gains[start:end] for start, end in zip([0, *ends], ends, strict=False)]
        given, groups = [], []
        for number, (whole, part) in enumerate(zip(self._ahead([sum(part) for part in parts]), parts, strict=True)):
            others = [whole] * (len(part) - 1) if self.by == "sentence" else self._ahead(part)[1:]
            given += [whole, *others]
            groups += [2 * number, *(2 * number + (self.by == "word") for _ in others)]
        return given, groups

    def _ahead(self, gains: Sequence[float]) -> list[float]:
        """The discounted sum of each and those that follow it."""
        found, total = [], 0.0
        for gain in reversed(gains):
            total = gain + self.discount * total
            found.append(total)
        return found[::-1]


def less_the_others(given: Tensor, groups: Tensor) -> Tensor:
    """(B, n, T) less the mean of the other samples' own means in the same group, 0 where no other has it.

    `groups`: (B, n, T) int64, 0 where nothing counts.
    """
    zeros = given.new_zeros(*given.shape[:2], 2 * given.shape[2] + 1)
    counts = zeros.scatter_add(2, groups, torch.ones_like(given))
    means = zeros.scatter_add(2, groups, given) / counts.clamp(min=1)
    there = (counts > 0).to(given)
    others = (means.sum(1, keepdim=True) - means) / (there.sum(1, keepdim=True) - there).clamp(min=1)
    return (given - others.gather(2, groups)) * (groups > 0)
