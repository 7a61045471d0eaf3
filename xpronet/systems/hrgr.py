"""HRGR-Agent (Li, Liang, Hu, Xing, NeurIPS 2018): each sentence is a template, or is written word by word.

    c_i = attention(v, h_{i-1});   h_i = LSTM_s(c_i, h_{i-1});   q_i = sigmoid(W_q h_i + b_q)
    p(no sentence i) = sigmoid(w_z h_i + b_z);   u_i = softmax(W_u q_i + b_u): 0 writes freely, k says template k
    free words: c_t = attention_g(v, [e_{t-1}; q_i], h_{t-1});   h_t = LSTM_g([c_t; e_{t-1}; q_i], h_{t-1});
                a_t = softmax(W_y h_t + b_y)

Which of the two a sentence is is not drawn, but summed over: the state knows how likely each action is behind the words
so far, p(w) = sum_a p(a | words) p_a(w), where a template says its next word for certain. The loss has the
cross-entropy of u_i beside: the template of which the own sentence is a wording, or 0. Its reinforcement is the second
phase (docs/systems.md). Sizes of the paper: 512 throughout.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xpronet.common.devices import exact
from xpronet.data.reports import END
from xpronet.encoders.backbones import WIDTH
from xpronet.model.recurrent import AdditiveAttention, Cell, Context
from xpronet.model.sentences import (
    IMPOSSIBLE,
    TemplateConfig,
    Templated,
    begins_sentence,
    word_log_probs,
)

NEVER = -1e4  # of a template that has said another word: free words are never so unlikely, and it has a gradient
TINY = torch.finfo(torch.float32).tiny  # in place of 0, whose logarithm has no gradient


class State(NamedTuple):
    attention: Tensor  # (B, n, S), of the word at hand
    h: Tensor  # (B, n, H), of the sentences' LSTM
    c: Tensor
    topic: Tensor  # (B, n, H), q
    policy: Tensor  # (B, n, 1 + K), log u of the sentence at hand
    actions: Tensor  # (B, n, 1 + K), the same behind the words so far
    place: Tensor  # (B, n) int64, how many words the sentence has
    free: Tensor  # (B, n, vocab_size + 1), log-probabilities of the next word where it is free
    word_h: Tensor  # (B, n, H), of the words' LSTM
    word_c: Tensor


class HRGR(Templated):
    def __init__(self, config: TemplateConfig):
        super().__init__(config)
        width, channels = config.width, WIDTH[config.backbone]
        self.keys = nn.Linear(channels, 2 * config.attention, bias=False)  # of sentences, of words
        self.looking = AdditiveAttention(width, config.attention)
        self.planning = Cell(channels, width)
        self.topic = nn.Linear(width, width)
        self.stopping = nn.Linear(width, 1)
        self.policy = nn.Linear(width, 1 + config.templates)
        self.word_looking = AdditiveAttention(3 * width, config.attention)
        self.speaking = Cell(channels + 2 * width, width)

    def read(self, context: Context) -> Context:
        keys = self.keys(context.patches)[:, None].chunk(2, dim=-1)
        return context._replace(keys=keys[0], made=keys[1])

    def start(self, context: Context, n: int) -> State:
        zeros = self.zeros(context, n)  # (B, n, H)
        wide = [zeros.new_zeros(*zeros.shape[:2], size) for size in (context.mask.shape[1], 1 + self.config.templates)]
        words = zeros.new_zeros(*zeros.shape[:2], self.config.vocab_size + 1)
        place = torch.zeros(zeros.shape[:2], dtype=torch.int64, device=zeros.device)
        return State(wide[0], zeros, zeros, zeros, wide[1], wide[1], place, words, zeros, zeros)

    def sentence(self, context: Context, state: State) -> tuple[State, Tensor]:
        seen = self._seen(self.looking(state.h, context.keys, context.mask), context, state)
        h, c = self.planning(seen, state.h, state.c)
        topic = torch.sigmoid(self.topic(h))
        policy = F.log_softmax(exact(self.policy(topic)), dim=-1)
        zeros = torch.zeros_like(h)
        fresh = state._replace(
            h=h, c=c, topic=topic, policy=policy, actions=policy, place=torch.zeros_like(state.place), word_h=zeros
        )
        return fresh._replace(word_c=zeros), self.stopping(h).squeeze(-1)

    def word(self, tokens: Tensor, context: Context, state: State) -> tuple[Tensor, State]:
        begins = begins_sentence(tokens, self.config.period)
        words = self.dropout(self.word_embedding(tokens.masked_fill(begins, END)))
        asked = torch.cat([words, state.topic, state.word_h], dim=-1)
        attention = self.word_looking(asked, context.made, context.mask)
        told = torch.cat([self._seen(attention, context, state), words, state.topic], dim=-1)
        h, c = self.speaking(told, state.word_h, state.word_c)
        free = word_log_probs(self.head(self.dropout(h)))
        # What the word that was read says of how the sentence came about.
        said = torch.cat([state.free.gather(-1, tokens[..., None]), self._says(tokens, state.place - 1)], dim=-1)
        actions = torch.where(begins[..., None], state.actions, F.log_softmax(state.actions + said, dim=-1))
        state = state._replace(
            attention=attention, actions=actions, place=state.place + 1, free=free, word_h=h, word_c=c
        )
        return self._mixed(actions, free, state.place - 1), state

    def auxiliary(self, context: Context, tokens: Tensor, labels: Tensor, states: Sequence[State]) -> Tensor:
        """Mean over a report's sentences of the cross-entropy of the action."""
        policy = torch.cat([state.policy for state in states], dim=1)  # (B, T - 1, 1 + K)
        targets, there = self.targets(tokens)
        nats = F.nll_loss(policy.transpose(1, 2), targets + 1, reduction="none") * there
        return nats.sum(dim=1) / there.sum(dim=1).clamp(min=1)

    def _seen(self, weights: Tensor, context: Context, state: State) -> Tensor:
        return weights.to(state.h.dtype) @ context.patches.to(state.h.dtype)

    def _next(self, place: Tensor) -> Tensor:
        """(B, n) how many words a sentence has -> (B, n, K) the word that each template has there, 0 behind its end."""
        longest = self.templates.shape[1]
        found = self.templates.T[place.clamp(0, longest - 1)]
        return torch.where((place < longest)[..., None], found, END)

    def _says(self, tokens: Tensor, place: Tensor) -> Tensor:
        """(B, n) words and their places -> (B, n, K) log-probability that each template has them there."""
        return torch.where(self._next(place) == tokens[..., None], 0.0, NEVER)

    def _mixed(self, actions: Tensor, free: Tensor, place: Tensor) -> Tensor:
        """log p of the next word of a sentence, (B, n, vocab_size + 1); a template behind its end says free words."""
        following = self._next(place)  # (B, n, K)
        over = following == END
        own = torch.cat([actions[..., :1], actions[..., 1:].masked_fill(~over, -torch.inf)], dim=-1)
        freely = torch.logsumexp(own, dim=-1, keepdim=True)
        of_templates = (actions[..., 1:].exp() * ~over).to(free.dtype)
        said = torch.zeros_like(free).scatter_add(-1, following, of_templates)
        mixed = torch.logaddexp(freely + free, said.clamp(min=TINY).log())
        return torch.where(torch.arange(free.shape[-1], device=free.device) == END, IMPOSSIBLE, mixed)


SYSTEM = HRGR
