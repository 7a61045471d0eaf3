"""The training objective (§3.4, Eq. 17-20)."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


def contrastive_loss(
    responses: Tensor, labels: Tensor, *, theta: float, alpha: float, adaptive: bool = True, clamp: bool = True
) -> Tensor:
    """Improved multi-label contrastive loss, Eq. 17-18: (B, D) mean responses, (B, K) 0/1 labels -> scalar.

    Studies with a common label are a positive pair: their similarity is drawn up to θ^(-h_d / h_t), which is lower the
    more their labels differ; others are negative, pushed below the margin α. `adaptive=False` puts one for that term
    (w/o IMLCS). `clamp=False` lets a positive pair above its term earn a negative loss, Eq. 17 to the letter; the
    published code clamps it at 0 (row 9). No Finding counts as a common label (row 18).
    """
    similarity = _cosine(responses)  # (B, B)
    common = labels @ labels.T  # (B, B)
    counts = labels.sum(dim=1)
    total = counts[:, None] + counts[None, :]  # h_t
    different = total - 2 * common  # h_d of 0/1 labels
    ceiling = theta ** (-different / total.clamp(min=1)) if adaptive else torch.ones_like(similarity)
    positive = ceiling - similarity
    if clamp:
        positive = positive.clamp(min=0)
    negative = (similarity - alpha).clamp(min=0)
    return torch.where(common > 0, positive, negative).sum() / len(responses) ** 2


def _cosine(responses: Tensor) -> Tensor:
    unit = F.normalize(responses, dim=-1)
    return unit @ unit.T


def cross_entropy(log_probs: Tensor, targets: Tensor) -> Tensor:
    """Eq. 19 over the tokens of the batch (row 13): (B, T, V) log-probabilities, (B, T) ids -> scalar.

    Padding does not count; the end token, id 0 like padding, counts once a report.
    """
    mask = token_mask(targets)
    picked = log_probs.gather(-1, targets.unsqueeze(-1)).squeeze(-1)  # (B, T)
    return -(picked * mask).sum() / mask.sum()


def token_mask(targets: Tensor) -> Tensor:
    """(B, T) float: words and the first 0 after them, the end."""
    words = targets > 0
    end = F.pad(words, (1, 0), value=True)[:, :-1] & ~words
    return (words | end).to(torch.float32)


class Losses(NamedTuple):
    """Each a scalar; `total` is Eq. 20."""

    total: Tensor
    cross_entropy: Tensor
    visual_contrastive: Tensor
    textual_contrastive: Tensor
