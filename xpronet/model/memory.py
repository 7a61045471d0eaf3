"""Cross-modal prototype querying and responding (§3.2, Eq. 9-13). One module serves both modalities (row 5).

Two formulations (rows 1-4 and 36 of docs/paper-and-code.md):

- `official`, the published code: several heads, each of which chooses its own top γ for every token; a softmax over
  these γ and dropout on it; a linear of their own for the values, and one for the output.
- `paper`, Eq. 10-13 to the letter: one head, similarities divided by d, each one's share of their sum as its weight,
  and W_e on the projected prototypes. Similarities have signs, so the sum can vanish, and weights then know no bound:
  it is kept away from 0 by half the sum of their magnitudes (row 2).
"""

import math

import torch
from torch import Tensor, nn

from xpronet.common.devices import exact
from xpronet.common.shares import Dropout
from xpronet.model.params import Formulation
from xpronet.model.transformer import as_bias

GUARD = 0.5  # Eq. 11's sum is at least this share of the sum of magnitudes: then magnitudes of weights sum to 2 at most
SMALLEST_SUM = 1e-6  # where all similarities are 0


class PrototypeMemory(nn.Module):
    """Its linears: `query` is W_v and `key` W_p (Eq. 9), `value` W_e (Eq. 12); `out` is the published code's."""

    def __init__(self, width: int, heads: int, gamma: int, dropout: float, formulation: Formulation = "official"):
        super().__init__()
        self.paper = formulation == "paper"
        self.heads, self.gamma = 1 if self.paper else heads, gamma
        self.scale = width if self.paper else math.sqrt(width // heads)  # row 1
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Identity() if self.paper else nn.Linear(width, width)
        self.dropout = Dropout(dropout, dim=1)

    def project(self, prototypes: Tensor) -> tuple[Tensor, Tensor]:
        """(M, d) -> keys and values, each (h, M, d/h): once for all studies of a batch. Keys carry Eq. 10's divisor."""
        keys = self.key(prototypes)  # Eq. 9
        values = self.value(keys if self.paper else prototypes)  # Eq. 12, row 4
        return self._split(keys / self.scale), self._split(values)

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        """Responses to the queries x (B, T, d) from the prototypes that mask (B, M) allows each study -> (B, T, d).

        Heads come first: the keys and values, which all studies share, are then multiplied as they are, without a copy
        per study.
        """
        chosen, weights = self.select(x, keys, mask)
        # Scattered back over all prototypes the weighted sum is one matrix product, and no γ rows per token are copied.
        spread = weights.new_zeros(*weights.shape[:-1], mask.shape[1]).scatter_(-1, chosen, weights)  # (h, B, T, M)
        responses = spread.flatten(1, 2) @ values  # (h, B x T, d/h), Eq. 13
        return self.out(responses.transpose(0, 1).flatten(1)).unflatten(0, x.shape[:2])  # (B, T, d)

    def select(self, x: Tensor, keys: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Which γ prototypes respond to each query, and their weights: both (h, B, T, γ), most similar first.

        Where the mask allows a study fewer than γ, the others weigh 0.
        """
        queries = self._split(self.query(x).flatten(0, 1))  # (h, B x T, d/h), Eq. 9
        scores = (queries @ keys.transpose(-2, -1)).unflatten(1, x.shape[:2])  # (h, B, T, M), Eq. 10
        top, chosen = scores.add_(as_bias(mask, scores)[:, None]).topk(self.gamma, dim=-1)  # (h, B, T, γ)
        weights = self._weights(exact(top)).to(scores.dtype)  # Eq. 11
        return chosen, weights

    def _weights(self, top: Tensor) -> Tensor:
        """Eq. 11 over the last axis; -inf, where a study has fewer than γ prototypes, weighs nothing.

        In the paper's formulation weights are the letter's where the γ similarities have one sign, and where the
        others are outweighed three to one; elsewhere they are the letter's but for a factor that bounds them.
        """
        if not self.paper:
            return self.dropout(torch.softmax(top, dim=-1))  # row 2
        similarities = top.masked_fill(top == -torch.inf, 0.0)
        total = similarities.sum(dim=-1, keepdim=True)
        least = (GUARD * similarities.abs().sum(dim=-1, keepdim=True)).clamp(min=SMALLEST_SUM)
        return similarities / torch.copysign(torch.maximum(total.abs(), least), total)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(0, 1)  # (N, d) -> (h, N, d/h)
