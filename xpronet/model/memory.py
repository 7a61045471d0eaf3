"""Cross-modal prototype querying and responding (§3.2, Eq. 9-13), as the published code computes it.

Rows 1-5 and 36 of docs/paper-and-code.md: 8 heads instead of one, each head and token choosing its own top γ; a softmax
over these γ instead of the similarities' share; a separate linear for values and one for the output; dropout on the
weights. One module serves both modalities.
"""

import math

import torch
from torch import Tensor, nn


def exact(x: Tensor) -> Tensor:
    """At least float32: softmaxes, means and losses are not for half precision."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


class PrototypeMemory(nn.Module):
    def __init__(self, width: int, heads: int, gamma: int, dropout: float):
        super().__init__()
        self.query, self.key, self.value, self.out = (
            nn.Linear(width, width) for _ in range(4)
        )  # Eq. 9: W_v, W_p; Eq. 12: W_e
        self.heads, self.gamma = heads, gamma
        self.dropout = nn.Dropout(dropout)

    def project(self, prototypes: Tensor) -> tuple[Tensor, Tensor]:
        """(M, d) -> keys and values, each (h, M, d/h): once for all studies of a batch."""
        return self._split(self.key(prototypes)), self._split(self.value(prototypes))

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        """Responses to the queries x (B, T, d) from the prototypes that mask (B, M) allows each study -> (B, T, d).

        Heads come first: the keys and values, which all studies share, are then multiplied as they are, without a copy
        per study.
        """
        size = x.shape[:2]
        queries = self._split(self.query(x).flatten(0, 1))  # (h, B x T, d/h)
        scores = queries @ keys.transpose(-2, -1) / math.sqrt(keys.shape[-1])  # (h, B x T, M), Eq. 10
        scores = scores.unflatten(1, size).masked_fill(~mask[None, :, None, :], -torch.inf)  # (h, B, T, M)
        top, chosen = scores.topk(self.gamma, dim=-1)  # (h, B, T, γ)
        weights = self.dropout(torch.softmax(exact(top), dim=-1)).to(top.dtype)  # Eq. 11, row 2
        # Scattered back over all prototypes the weighted sum is one matrix product, and no γ rows per token are copied.
        spread = torch.zeros_like(scores).scatter(-1, chosen, weights)  # (h, B, T, M)
        responses = spread.flatten(1, 2) @ values  # (h, B x T, d/h), Eq. 13
        return self.out(responses.transpose(0, 1).flatten(1)).unflatten(0, size)  # (B, T, d)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(0, 1)  # (N, d) -> (h, N, d/h)
