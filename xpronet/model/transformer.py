"""The Transformer encoder-decoder of the published code (§3.3, Eq. 15-16): pre-norm, post-norm of the stack.

Its LayerNorm is not PyTorch's: it divides by the unbiased standard deviation with eps added to it (row 34).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xpronet.common.shares import Dropout, dropout, shared
from xpronet.data.reports import END

FEW = 16  # queries of which PyTorch's fused kernel takes longer on a CPU than products and a softmax: up to twice


class LayerNorm(nn.Module):
    """scale * (x - mean) / (std + eps) + shift over the last axis, std with N - 1 (row 34)."""

    def __init__(self, width: int, eps: float = 1e-6):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))
        self.shift = nn.Parameter(torch.zeros(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(dim=-1, keepdim=True)
        # Not torch.std_mean, which is six times slower here.
        std = torch.linalg.vector_norm(centred, dim=-1, keepdim=True) / math.sqrt(x.shape[-1] - 1)
        return torch.addcmul(self.shift, self.scale, centred / (std + self.eps))


class Attention(nn.Module):
    """Multi-head scaled dot-product attention; keys and values are projected apart so that decoding can keep them."""

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.heads, self.dropout = heads, dropout

    def split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, T, d) -> (B, h, T, d/h)

    def project(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """(B, S, d) -> keys and values, each (B, h, S, d/h)."""
        return self.split(self.key(memory)), self.split(self.value(memory))

    def joined(self) -> tuple[Tensor, Tensor]:
        """Weight (3 d, d) and bias (3 d,) of query, key and value as one linear, stored transposed as they are."""
        parts = self.query, self.key, self.value
        return torch.cat([part.weight.t() for part in parts], dim=1).t(), torch.cat([part.bias for part in parts])

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        """x (B, T, d), mask broadcastable to (B, h, T, S), True (or 0, see `as_bias`) where x may look -> (B, T, d)."""
        return self.merge(self.attend(self.split(self.query(x)), keys, values, mask))

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        """Queries (B, h, T, d/h) -> what each head finds, (B, h, T, d/h)."""
        drop, cpu = self.dropout * self.training, queries.device.type == "cpu"
        if (drop and (cpu or shared())) or (cpu and queries.shape[2] <= FEW):
            return dropout(self._weights(queries, keys, mask), self.dropout, self.training) @ values
        return F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, dropout_p=drop)

    def merge(self, attended: Tensor) -> Tensor:
        """What the heads have found, (B, h, T, d/h) -> (B, T, d)."""
        return self.out(attended.transpose(1, 2).flatten(2))

    def weights(self, x: Tensor, keys: Tensor, mask: Tensor | None) -> Tensor:
        """What `forward` weighs values with, before dropout: (B, h, T, S), rows sum to one."""
        return self._weights(self.split(self.query(x)), keys, mask)

    def _weights(self, queries: Tensor, keys: Tensor, mask: Tensor | None) -> Tensor:
        scores = queries @ keys.transpose(-2, -1) / math.sqrt(keys.shape[-1])  # (B, h, T, S)
        return torch.softmax(scores if mask is None else scores + as_bias(mask, scores), dim=-1)


class FeedForward(nn.Module):
    def __init__(self, width: int, hidden: int, dropout: float):
        super().__init__()
        self.inner, self.outer = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.outer(self.dropout(F.relu(self.inner(x))))


class EncoderLayer(nn.Module):
    def __init__(self, width: int, heads: int, hidden: int, dropout: float, attention_dropout: float):
        super().__init__()
        self.attention = Attention(width, heads, attention_dropout)
        self.feed_forward = FeedForward(width, hidden, dropout)
        self.norms = nn.ModuleList(LayerNorm(width) for _ in range(2))
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        normed = self.norms[0](x)
        x = x + self.dropout(self.attention(normed, *self.attention.project(normed), mask))
        return x + self.dropout(self.feed_forward(self.norms[1](x)))


@dataclass
class LayerCache:
    """What one decoder layer keeps between the steps of a search.

    The beams of a study share it: token t of beam j stands at row t x beam + j whatever becomes of the beam, and which
    rows are a beam's own past is said by a mask. So nothing is ever moved when beams fork or die.
    """

    keys: Tensor  # (B, h, max_length x beam, d/h), filled as the search goes on
    values: Tensor
    memory_keys: Tensor  # (B, h, S, d/h), of the encoder's output: once per study
    memory_values: Tensor
    joined: tuple[Tensor, Tensor]  # of self-attention: of few rows one product is faster than three, to the same bits


class DecoderLayer(nn.Module):
    def __init__(self, width: int, heads: int, hidden: int, dropout: float, attention_dropout: float):
        super().__init__()
        self.attention = Attention(width, heads, attention_dropout)
        self.cross_attention = Attention(width, heads, attention_dropout)
        self.feed_forward = FeedForward(width, hidden, dropout)
        self.norms = nn.ModuleList(LayerNorm(width) for _ in range(3))
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor, memory: Tensor, memory_mask: Tensor | None) -> Tensor:
        x = self.branch(0, x, lambda x: self.attention(x, *self.attention.project(x), mask))
        return self._rest(x, *self.cross_attention.project(memory), memory_mask)

    def step(self, x: Tensor, cache: LayerCache, past: Tensor, memory_mask: Tensor | None) -> Tensor:
        """The newest token of each beam (B, beam, d) -> (B, beam, d); its key and value join the cache.

        `past` (B, 1, beam, n): 0 for those of the cache's first n rows that a beam sees, else -inf; the last are new.
        """
        count = past.shape[-1]
        new = slice(count - x.shape[1], count)

        def attend(x: Tensor) -> Tensor:
            queries, keys, values = map(self.attention.split, F.linear(x, *cache.joined).chunk(3, dim=-1))
            cache.keys[:, :, new], cache.values[:, :, new] = keys, values
            known = cache.keys[:, :, :count], cache.values[:, :, :count]
            return self.attention.merge(self.attention.attend(queries, *known, past))

        return self._rest(self.branch(0, x, attend), cache.memory_keys, cache.memory_values, memory_mask)

    def _rest(self, x: Tensor, memory_keys: Tensor, memory_values: Tensor, memory_mask: Tensor | None) -> Tensor:
        x = self.branch(1, x, lambda x: self.cross_attention(x, memory_keys, memory_values, memory_mask))
        return self.branch(2, x, self.feed_forward)

    def branch(self, number: int, x: Tensor, of: Callable[[Tensor], Tensor]) -> Tensor:
        """x and what one of the three sublayers makes of it, normalised before."""
        return x + self.dropout(of(self.norms[number](x)))


class Encoder(nn.Module):
    """Eq. 15: (B, S, d), mask (B, 1, 1, S) or None -> (B, S, d)."""

    def __init__(self, layers: int, **sizes):
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(**sizes) for _ in range(layers))
        self.norm = LayerNorm(sizes["width"])

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        for layer in self.layers:
            x = layer(x, mask)
        return self.norm(x)


class Decoder(nn.Module):
    """Eq. 16: teacher forcing over a whole report, or one step at a time with a cache."""

    def __init__(self, layers: int, *, kind: type[DecoderLayer] = DecoderLayer, norm: nn.Module | None = None, **sizes):
        """`norm`: of the stack; the published code's where None."""
        super().__init__()
        self.layers = nn.ModuleList(kind(**sizes) for _ in range(layers))
        self.norm = norm or LayerNorm(sizes["width"])

    def forward(self, x: Tensor, mask: Tensor, memory: Tensor, memory_mask: Tensor | None) -> Tensor:
        for layer in self.layers:
            x = layer(x, mask, memory, memory_mask)
        return self.norm(x)

    def start(self, memory: Tensor, rows: int) -> list[LayerCache]:
        """Caches with room for `rows` tokens of all beams of a study, for the memory (B, S, d)."""
        caches = []
        for layer in self.layers:
            keys, values = (x.contiguous() for x in layer.cross_attention.project(memory))  # for many products
            room = (*keys.shape[:2], rows, keys.shape[-1])
            own = keys.new_empty(room), keys.new_empty(room)
            caches.append(LayerCache(*own, keys, values, layer.attention.joined()))
        return caches

    def step(self, x: Tensor, caches: list[LayerCache], past: Tensor, memory_mask: Tensor | None) -> Tensor:
        for layer, cache in zip(self.layers, caches, strict=True):
            x = layer.step(x, cache, past, memory_mask)
        return self.norm(x)


def decoder_steps(
    decoder: Decoder, memory: Tensor, patches: Tensor, *, beams: int, max_length: int
) -> Callable[[Tensor, Tensor | None], Tensor]:
    """A decoder that has read the memory (B, S, d), of which patches (B, S) are there, as a step of a search.

    The step takes the newest words (B, beam, d) and which beam each goes on from -> (B, beam, d).
    """
    caches = decoder.start(memory, max_length * beams)
    memory_mask = as_bias(patches[:, None, None, :], memory)
    itself = as_bias(torch.eye(beams, dtype=torch.bool, device=memory.device), memory)
    itself = itself.expand(len(memory), -1, -1)
    past = itself[:, :, :0]  # (B, beam, n): 0 for the rows of the caches that each beam descends from

    def step(words: Tensor, parents: Tensor | None) -> Tensor:
        nonlocal past
        if parents is not None:
            past = past.gather(1, parents[:, :, None].expand(-1, -1, past.shape[-1]))
        past = torch.cat([past, itself], dim=-1)
        return decoder.step(words, caches, past[:, None], memory_mask)

    return step


def causal(tokens: Tensor) -> Tensor:
    """(B, T) -> (B, 1, T, T) bool: a word sees itself, what stands before it, and no padding."""
    length = tokens.shape[1]
    words = tokens != END
    words[:, 0] = True
    lower = torch.ones(length, length, dtype=torch.bool, device=tokens.device).tril()
    return lower & words[:, None, None, :]


def transposed(network: nn.Module) -> None:
    """Store the weights of linears transposed, in place: products of few rows, as in decoding, are faster."""
    for module in network.modules():
        if isinstance(module, nn.Linear):
            module.weight.data = module.weight.data.t().contiguous().t()


def as_bias(mask: Tensor, like: Tensor) -> Tensor:
    """True -> 0 and False -> -inf, in the type of `like`: to be added, in less time than numbers are filled in.

    A mask of numbers is one already.
    """
    if mask.is_floating_point():
        return mask
    return torch.zeros_like(mask, dtype=like.dtype).masked_fill(~mask, -torch.inf)


def sine_positions(length: int, width: int) -> Tensor:
    """(length, width) float32 table of the usual sines and cosines."""
    position = torch.arange(length).float().unsqueeze(1)  # (length, 1)
    frequency = torch.exp(torch.arange(0, width, 2).float() * -(math.log(10000.0) / width))  # (width / 2,)
    table = torch.zeros(length, width)
    table[:, 0::2] = torch.sin(position * frequency)
    table[:, 1::2] = torch.cos(position * frequency)
    return table
