"""Self-critical sequence training (Rennie, Marcheret, Mroueh, Ross, Goel, CVPR 2017), a second phase for any system.

    L = - mean over samples of sum_t A_t log p(w_t | w_<t),   A_t = r(w) - r(greedy)

A report is sampled word by word, and made likelier where it earns more than what the model writes greedily; or A_t is
of its sentences or words, and of what each of them earns (`xpronet/training/credit.py`). The model is in evaluation
mode, so that the policy that samples is the one that learns: no dropout, batch norm by its running statistics.
Gradients reach the visual extractor unless it is frozen.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from xpronet.common.shares import added, studies, total
from xpronet.data.dataset import Batch
from xpronet.data.reports import END
from xpronet.model.decoding import beam_search, sample
from xpronet.model.losses import token_nats
from xpronet.model.system import System
from xpronet.training.credit import Credit


class Rewarded(NamedTuple):
    """Each a scalar over the batch."""

    total: Tensor  # the loss
    reward: Tensor  # mean over the samples
    greedy_reward: Tensor  # mean over the studies, the baseline where whole reports have the credit


@dataclass(frozen=True)
class Reinforce:
    """What is sampled, and what it earns."""

    reward: Callable[[Sequence[int], Sequence[Sequence[int]]], np.ndarray]  # (places in the dataset, ids) -> (N,)
    samples: int  # per study
    max_length: int  # tokens of a sampled report
    credit: Credit | None = None  # None: each word is given what the whole report earns

    columns: ClassVar = Rewarded._fields

    def losses(self, model: System, batch: Batch) -> Rewarded:
        """Of one batch, or of this process's share of it; leaves the model in evaluation mode."""
        model.eval()
        features, _ = model.patch_features(batch.images, batch.views)  # (B, S, C)
        views = batch.views.shape[1]
        images = features.unflatten(1, (views, -1))  # (B, V, P, C): the extractor runs once
        with torch.no_grad():
            search = {"max_length": self.max_length}
            step = model.begin(images, batch.labels, batch.views, beams=self.samples, **search)
            tokens = sample(step, len(images), samples=self.samples, device=images.device, **search)  # (B, n, T)
            step = model.begin(images, batch.labels, batch.views, beams=1, **search)
            greedy = beam_search(step, len(images), beam_size=1, device=images.device, **search).tokens  # (B, T)
        places = batch.positions.tolist()
        reports = written(tokens.flatten(0, 1))
        baseline = self._earned(places, written(greedy))  # (B,)
        if self.credit is None:
            every = [place for place in places for _ in range(self.samples)]
            earned = self._earned(every, reports).view(len(places), self.samples)  # (B, n)
            advantage = (earned - baseline[:, None])[..., None]  # (B, n, 1)
        else:
            advantage, earned = self.credit.advantages(places, reports, tokens.shape[2])  # (B, n, T), (B, n)
        advantage = advantage.flatten(0, 1).to(images.device)

        given = torch.nn.functional.pad(tokens.flatten(0, 1), (1, 0), value=END)
        images, labels, present = (
            each.repeat_interleave(self.samples, dim=0) for each in (images, batch.labels, batch.views)
        )
        log_probs = model(images, given, labels, views=present).log_probs  # (B x n, T, V)
        nats, _ = token_nats(log_probs, given[:, 1:])
        count = studies(len(places))
        loss = added((advantage * nats).sum() / (count * self.samples))
        return Rewarded(loss, total(earned.sum()) / (count * self.samples), total(baseline.sum()) / count)

    def _earned(self, places: Sequence[int], reports: Sequence[Sequence[int]]) -> Tensor:
        """(N,) float32."""
        return torch.from_numpy(self.reward(places, reports)).float()


def written(tokens: Tensor) -> list[list[int]]:
    """Reports (N, T) up to their end, and with it."""
    return [ids[: ids.index(END) + 1] if END in ids else ids for ids in tokens.tolist()]
