"""The training objective (§3.4, Eq. 17-20)."""

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from xpronet.common.devices import exact
from xpronet.common.shares import added, rows, studies, total
from xpronet.data.reports import END
from xpronet.model.params import Formulation
from xpronet.model.xpronet import Output


class Losses(NamedTuple):
    """Each a scalar; `total` is Eq. 20."""

    total: Tensor
    cross_entropy: Tensor
    visual_contrastive: Tensor
    textual_contrastive: Tensor
    auxiliary: Tensor  # of another system than XProNet


@dataclass(frozen=True)
class Objective:
    """The weights of Eq. 17 and 20, and whose Eq. 17 it is."""

    theta: float
    alpha: float
    lambda_visual: float
    delta_textual: float
    imlcs: bool = True  # False: w/o IMLCS
    formulation: Formulation = "official"  # rows 9 and 11; the model's own

    columns: ClassVar = Losses._fields


class Together(NamedTuple):
    """What the losses of a study need of its whole batch; without gradients."""

    words: Tensor | None  # (), what Eq. 19 is the mean over; None: those at hand, in all processes
    labels: Tensor  # (B, K)
    visual: Tensor | None  # (B, d), σ of Eq. 17; None without CMPNet, and as above
    textual: Tensor | None


def training_losses(
    output: Output, tokens: Tensor, labels: Tensor, *, objective: Objective, together: Together | None = None
) -> Losses:
    """Eq. 17-20 for one batch of tokens (B, T) and labels (B, K).

    σ is the mean over the patches that are there, and over all tokens with padding; in the paper's formulation over the
    words (row 11), and positive pairs are not clamped (row 9). Without CMPNet only Eq. 19 is left. Of a batch that
    processes share, the losses are those of all of it, and the gradient is this process's part.

    Args:
        together: of a batch in parts, of which this is one: the sum of what `seen_together` gives for each. Then the
            cross-entropy and the auxiliary loss are this part's addends.
    """
    visual, textual = _means(output, tokens, objective)
    together = together or Together(None, rows(labels), None, None)
    ce = cross_entropy(output.log_probs, tokens[:, 1:], together.words)
    none = torch.zeros_like(ce)
    more = none if output.auxiliary is None else added(output.auxiliary.sum() / studies(len(tokens)))
    if visual is None:
        return Losses(ce + more, ce, none, none, more)
    terms = {
        "theta": objective.theta,
        "alpha": objective.alpha,
        "adaptive": objective.imlcs,
        "clamp": objective.formulation == "official",
    }
    visual_loss, textual_loss = (
        contrastive_loss(rows(own, whole), together.labels, **terms)
        for own, whole in ((visual, together.visual), (textual, together.textual))
    )
    whole = ce + objective.lambda_visual * visual_loss + objective.delta_textual * textual_loss  # Eq. 20
    return Losses(whole + more, ce, visual_loss, textual_loss, more)


@torch.no_grad()
def seen_together(output: Output, tokens: Tensor, labels: Tensor, *, objective: Objective) -> Together:
    """That of a batch; of one in parts the addend of this part."""
    words = total(_counted(tokens[:, 1:]).sum())
    means = _means(output, tokens, objective)
    return Together(words, rows(labels), *(None if mean is None else rows(mean) for mean in means))


def _means(output: Output, tokens: Tensor, objective: Objective) -> tuple[Tensor | None, Tensor | None]:
    """σ of visual and of textual responses, each (B, d), or None without CMPNet."""
    if output.visual_responses is None:
        return None, None
    official = objective.formulation == "official"
    words = torch.ones_like(tokens[:, :-1]) if official else tokens[:, :-1] != END
    return mean_response(output.visual_responses, output.patches), mean_response(output.textual_responses, words)


def mean_response(responses: Tensor, mask: Tensor) -> Tensor:
    """σ of Eq. 17: (B, N, d), (B, N) -> (B, d) float32 at least: the mean over what counts, zero where nothing does."""
    mask = mask.unsqueeze(-1)
    return (exact(responses) * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)


def contrastive_loss(
    responses: Tensor, labels: Tensor, *, theta: float, alpha: float, adaptive: bool = True, clamp: bool = True
) -> Tensor:
    """Improved multi-label contrastive loss, Eq. 17-18: (B, D) mean responses, (B, K) 0/1 labels -> scalar.

    Studies with a common label are a positive pair: their similarity is drawn up to θ^(-h_d / h_t), which is lower the
    more their labels differ; others are negative, pushed below the margin α. `adaptive=False` puts one for that term
    (w/o IMLCS). `clamp=False` lets a positive pair above its term earn a negative loss, Eq. 17 to the letter; the
    published code clamps it at 0 (row 9). No Finding counts as a common label (row 18).
    """
    common, counts = labels @ labels.T, labels.sum(dim=1).clamp(min=0.5)  # without labels nothing is in common
    positive = common.clamp(max=1)  # 1 or 0
    of_both = counts[:, None] + counts  # h_t, Eq. 18; h_d is it less twice the common labels
    # Written for few passes over all pairs.
    rate = math.log(theta) if adaptive else 0.0
    exponent = torch.addcdiv(common.new_full((), -rate), common, of_both, value=2 * rate)  # Eq. 18
    ceiling = torch.exp(exponent)  # θ^(-h_d / h_t)
    # Ceiling less similarity of a positive pair, similarity less α of a negative one.
    offset = torch.addcmul(common.new_full((), -alpha), positive, ceiling + alpha)
    return _Gaps.apply(responses, offset, torch.rsub(positive, 1, alpha=2), clamp)


class _Gaps(torch.autograd.Function):
    """Eq. 17 of responses (B, D): the mean over all pairs of max(0, offset + sign · cosine), both symmetric (B, B).

    Where not `clamp`, the maximum is taken of negative pairs alone, whose sign is +1. Of a row of zeros cosines are 0.
    The gradient is known pair by pair, and instead of rows their products are normalised, and so is it: that is one
    product where normalised rows by themselves would need two, and no pass over pairs more than needed.
    """

    @staticmethod
    def forward(ctx, x: Tensor, offset: Tensor, sign: Tensor, clamp: bool) -> Tensor:
        products = x @ x.T
        inverse = products.diagonal().clamp(min=1e-24).rsqrt()  # (B,), of the norms
        scale = inverse[:, None] * inverse
        cosines = products * scale
        gap = torch.addcmul(offset, sign, cosines)  # Eq. 17
        counted = gap > 0 if clamp else (gap > 0) | (sign < 0)
        ctx.save_for_backward(x, cosines, inverse, scale, (sign * counted).to(x.dtype))
        return (gap * counted).sum() / len(x) ** 2  # Eq. 17

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor):
        x, cosines, inverse, scale, slope = ctx.saved_tensors
        slope = slope * (gradient / len(x) ** 2)  # of each cosine
        weights = slope * scale
        weights.diagonal().sub_(torch.linalg.vecdot(slope, cosines) * inverse.square())  # of the norms
        return 2 * (weights @ x), None, None, None


def cross_entropy(log_probs: Tensor, targets: Tensor, words: Tensor | None = None) -> Tensor:
    """Eq. 19 over the tokens of the batch (row 13): (B, T, V) log-probabilities, (B, T) ids -> scalar.

    `words`: how many targets count in the whole batch, of which this is a part: then its addend.
    """
    nats, counted = token_nats(log_probs, targets)
    return added(nats.sum() / (total(counted.sum()) if words is None else words))  # Eq. 19


def token_nats(log_probs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Negative log-probability of each target, 0 where it does not count, and whether it counts: (B, T), (B, T)."""
    counted = _counted(targets)
    return F.nll_loss(log_probs.transpose(1, 2), targets, reduction="none") * counted, counted


def _counted(targets: Tensor) -> Tensor:
    """Words count, and the first 0 after them, the end; padding, id 0 too, does not: (B, T) ids -> (B, T) bool."""
    words = targets != END
    return words | (F.pad(words, (1, 0), value=True)[:, :-1] & ~words)
