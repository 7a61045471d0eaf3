"""Captioners that write step by step: what Show-Tell, ATT2IN, ADAATT and TopDown have in common, and others with them.

A state has the axes (B, n, ...): n beams or samples of each study, which share what was made of its images.
"""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xpronet.common.devices import exact
from xpronet.common.shares import Dropout
from xpronet.encoders.params import Backbone
from xpronet.model.decoding import Step
from xpronet.model.system import Output, System, check_sizes

State = tuple[Tensor, ...]  # each (B, n, ...); a NamedTuple where parts need names


@dataclass(frozen=True)
class RecurrentConfig:
    """Every size of such a network."""

    vocab_size: int  # words, <unk> among them; the output has one more: id 0
    backbone: Backbone = "resnet101"
    width: int = 512  # of word embeddings and LSTM
    attention: int = 512  # inside the additive attention, where there is one
    dropout: float = 0.5

    def __post_init__(self):
        check_sizes(self, "width", "attention")


class Context(NamedTuple):
    """What is made of the images once, for all steps."""

    patches: Tensor  # (B, S, C) features, zero where a view is absent
    mask: Tensor  # (B, S) bool, patches of views that are there
    pooled: Tensor  # (B, 1, C), the mean over those
    keys: Tensor | None = None  # (B, 1, S, A), of the attention
    made: Any = None  # what else a system makes of them


class Stepwise(System):
    """A subclass says what its images give (`read`), how a report begins (`start`) and what a word does (`step`)."""

    @abstractmethod
    def read(self, context: Context) -> Context:
        """The context with what this system makes of it once."""

    @abstractmethod
    def start(self, context: Context, n: int) -> State:
        """Before the first word."""

    @abstractmethod
    def step(self, tokens: Tensor, context: Context, state: State) -> tuple[Tensor, State]:
        """(B, n) newest tokens -> (B, n, ·), of which the next word's log-probabilities are made, and the state."""

    @abstractmethod
    def log_probs(self, found: Tensor) -> Tensor:
        """(B, T, ·), what steps found -> (B, T, vocab_size + 1)."""

    def looks(self, states: Sequence[State]) -> Tensor | None:
        """Of the states after T steps: (B, T, S), where each word looked; None: as its attention modules say."""

    def auxiliary(self, context: Context, tokens: Tensor, labels: Tensor, states: Sequence[State]) -> Tensor | None:
        """(B,) a loss of each study beside that of its words; `states` after each of the T - 1 steps."""

    def forward(self, images: Tensor, tokens: Tensor, labels: Tensor, *, views: Tensor | None = None) -> Output:
        """Teacher forcing, as `System` has it; labels are read by `auxiliary` alone."""
        context = self._context(images, views)
        state, found, states = self.start(context, 1), [], []
        for position in range(tokens.shape[1] - 1):
            each, state = self.step(tokens[:, position : position + 1], context, state)
            found.append(each)
            states.append(state)
        return Output(
            self.log_probs(torch.cat(found, dim=1)),
            patches=context.mask,
            attention=self.looks(states),
            auxiliary=self.auxiliary(context, tokens, labels, states),
        )

    def begin(self, images: Tensor, labels: Tensor, views: Tensor | None, *, beams: int, max_length: int) -> Step:
        context = self._context(images, views)
        state = self.start(context, beams)

        def step(tokens: Tensor, position: int, parents: Tensor | None) -> Tensor:
            nonlocal state
            if parents is not None:
                state = each_of(lambda part: part.gather(1, like(parents, part).expand_as(part)), state)
            found, state = self.step(tokens, context, state)
            return self.log_probs(found)

        return step

    def _context(self, images: Tensor, views: Tensor | None) -> Context:
        patches, mask = self.patch_features(images, views)
        pooled = (exact(patches) * mask[:, :, None]).sum(dim=1, keepdim=True) / mask.sum(dim=1)[:, None, None]
        return self.read(Context(patches, mask, pooled))


class Recurrent(Stepwise):
    """Its step gives a hidden state, of which one linear layer makes logits."""

    Config = RecurrentConfig

    def __init__(self, config: RecurrentConfig):
        super().__init__(config)
        self.word_embedding = nn.Embedding(config.vocab_size + 1, config.width)
        self.head = nn.Linear(config.width, config.vocab_size + 1)
        self.dropout = Dropout(config.dropout)

    def zeros(self, context: Context, n: int) -> Tensor:
        return context.pooled.new_zeros(len(context.pooled), n, self.config.width)

    def log_probs(self, found: Tensor) -> Tensor:
        return F.log_softmax(exact(self.head(self.dropout(found))), dim=-1)


def each_of(change: Callable[..., Tensor], state: State, *others: State) -> State:
    """A state of the same kind, part by part."""
    parts = [change(*each) for each in zip(state, *others, strict=True)]
    return state._make(parts) if hasattr(state, "_make") else tuple(parts)


def like(x: Tensor, part: Tensor) -> Tensor:
    """(B, n) -> (B, n, 1, ...) with as many axes as a part of a state."""
    return x.reshape(*x.shape, *[1] * (part.dim() - x.dim()))


class Cell(nn.Module):
    """An LSTM's step on axes (B, n, ·): PyTorch's cell, i, f, o by sigmoid, g by tanh, c = f c + i g, h = o tanh(c)."""

    def __init__(self, inputs: int, width: int):
        super().__init__()
        self.lstm = nn.LSTMCell(inputs, width)

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """(B, n, inputs), (B, n, H) twice -> h and c, each (B, n, H)."""
        found = self.lstm(x.flatten(0, 1), (h.flatten(0, 1), c.flatten(0, 1)))
        return tuple(each.unflatten(0, x.shape[:2]) for each in found)


class AdditiveAttention(nn.Module):
    """a_i = w^T tanh(keys_i + W_h h + b), softmax over the patches that are there."""

    def __init__(self, width: int, hidden: int, *, bias: bool = True):
        super().__init__()
        self.query = nn.Linear(width, hidden, bias=bias)
        self.score = nn.Linear(hidden, 1, bias=False)  # a constant would fall out of the softmax

    def forward(self, h: Tensor, keys: Tensor, mask: Tensor, other: Tensor | None = None) -> Tensor:
        """h (B, n, H), keys (B, 1, S, A), mask (B, S) -> weights (B, n, S), rows sum to one.

        `other`: (B, n, A), the key of something else than patches to look at: its weight stands last, (B, n, S + 1).
        """
        query = self.query(h)
        scores = self.score(torch.tanh(keys + query[:, :, None])).squeeze(-1)  # (B, n, S)
        scores = exact(scores).masked_fill(~mask[:, None], -torch.inf)
        if other is not None:
            scores = torch.cat([scores, exact(self.score(torch.tanh(other + query)))], dim=-1)
        return torch.softmax(scores, dim=-1)
