"""CMAS-RL (Jing, Wang, Xing, ACL 2019): a planner that looks, and says which of two writers describes what it sees.

    alpha = softmax_k(w^T tanh(W_v v_k + W_g gs_{i-1} + W_l ls_{i-1}));   c_i = sum_k alpha_k v_k
    gs_i = LSTM_PL([c_i; ls_{i-1}], gs_{i-1});   p(idx_i) = softmax(W_idx gs_i), idx: normality, abnormality, stop
    a writer: ls_{i,t} = LSTM_A([c_i; gs_i; W_e y_{t-1}], ls_{i,t-1});   p_A(y_t) = softmax(W_A ls_{i,t})

Who writes is not drawn, but summed over: the state knows how likely each writer is behind the words so far, and
ls_{i-1} is the mean of both writers' last states by that. Imitation has two cross-entropies beside, by the kind of each
own sentence (`xpronet/data/sentence_kinds.py`): of idx_i, and of its words by the writer of that kind, without which
writers share sentences out by wording and what is planned decides little. Cooperation by rewards is the second phase
(docs/systems.md); without it this is the paper's CMAS-IL. Its sizes are not known here: 512 throughout.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xpronet.common.devices import exact
from xpronet.data.reports import END
from xpronet.data.sentence_kinds import normal_words
from xpronet.encoders.backbones import WIDTH
from xpronet.model.recurrent import AdditiveAttention, Cell, Context
from xpronet.model.sentences import SentenceConfig, Sentences, begins_sentence, word_log_probs
from xpronet.model.system import Material

NORMALITY, ABNORMALITY = 0, 1  # of the two writers


class State(NamedTuple):
    attention: Tensor  # (B, n, S), of the planner
    seen: Tensor  # (B, n, C), c
    h: Tensor  # (B, n, H), gs
    c: Tensor
    plan: Tensor  # (B, n, 2), log-probabilities of the writers of the sentence at hand
    writers: Tensor  # (B, n, 2), the same behind the words so far
    said: Tensor  # (B, n, 2, vocab_size + 1), each one's log-probabilities of the next word
    word_h: Tensor  # (B, n, 2, H), ls
    word_c: Tensor


class CMAS(Sentences):
    def __init__(self, config: SentenceConfig):
        super().__init__(config)
        width, channels = config.width, WIDTH[config.backbone]
        self.keys = nn.Linear(channels, config.attention, bias=False)
        self.looking = AdditiveAttention(2 * width, config.attention)
        self.planning = Cell(channels + width, width)
        self.plan = nn.Linear(width, 3)  # a writer, or stop
        self.speaking = nn.ModuleList(Cell(channels + 2 * width, width) for _ in range(2))
        self.abnormality_head = nn.Linear(width, config.vocab_size + 1)  # `head` is the normality writer's
        self.register_buffer("normal_words", torch.zeros(config.vocab_size + 1, dtype=torch.bool))

    def furnish(self, material: Material) -> None:
        self.normal_words.copy_(normal_words(material.vocabulary))

    def read(self, context: Context) -> Context:
        return context._replace(keys=self.keys(context.patches)[:, None])

    def start(self, context: Context, n: int) -> State:
        zeros = self.zeros(context, n)  # (B, n, H)
        shape, config = zeros.shape[:2], self.config
        attention, seen = (zeros.new_zeros(*shape, size) for size in context.patches.shape[1:])
        plan, said = zeros.new_zeros(*shape, 2), zeros.new_zeros(*shape, 2, config.vocab_size + 1)
        words = zeros.new_zeros(*shape, 2, config.width)
        return State(attention, seen, zeros, zeros, plan, plan, said, words, words)

    def sentence(self, context: Context, state: State) -> tuple[State, Tensor]:
        ended = F.log_softmax(state.writers + state.said[..., self.config.period], dim=-1)  # by the `.` that was read
        local = (ended.exp().to(state.h.dtype)[..., None] * state.word_h).sum(dim=2)  # (B, n, H)
        attention = self.looking(torch.cat([state.h, local], dim=-1), context.keys, context.mask)
        seen = attention.to(state.h.dtype) @ context.patches.to(state.h.dtype)
        h, c = self.planning(torch.cat([seen, local], dim=-1), state.h, state.c)
        choice = exact(self.plan(h))
        plan, zeros = F.log_softmax(choice[..., :2], dim=-1), torch.zeros_like(state.word_h)
        fresh = State(attention, seen, h, c, plan, plan, state.said, zeros, zeros)
        return fresh, choice[..., 2] - choice[..., :2].logsumexp(dim=-1)

    def word(self, tokens: Tensor, context: Context, state: State) -> tuple[Tensor, State]:
        begins = begins_sentence(tokens, self.config.period)
        read = state.said.gather(-1, tokens[..., None, None].expand(-1, -1, 2, -1)).squeeze(-1)  # (B, n, 2)
        writers = torch.where(begins[..., None], state.writers, F.log_softmax(state.writers + read, dim=-1))
        words = self.dropout(self.word_embedding(tokens.masked_fill(begins, END)))
        given, states, said = torch.cat([state.seen, state.h, words], dim=-1), [], []
        for writer, (cell, head) in enumerate(zip(self.speaking, (self.head, self.abnormality_head), strict=True)):
            states.append(cell(given, state.word_h[:, :, writer], state.word_c[:, :, writer]))
            said.append(word_log_probs(head(self.dropout(states[-1][0]))))
        word_h, word_c = (torch.stack(each, dim=2) for each in zip(*states, strict=True))
        said = torch.stack(said, dim=2)
        state = state._replace(writers=writers, said=said, word_h=word_h, word_c=word_c)
        return torch.logsumexp(writers[..., None] + said, dim=2), state

    def auxiliary(self, context: Context, tokens: Tensor, labels: Tensor, states: Sequence[State]) -> Tensor:
        """Mean over a report's sentences of the cross-entropy of who writes, and over its words of the right one's."""
        kinds, there = self.kinds(tokens)
        plans = torch.cat([state.plan for state in states], dim=1)  # (B, T - 1, 2)
        choices = F.nll_loss(plans.transpose(1, 2), kinds, reduction="none") * there
        said = torch.cat([state.said for state in states], dim=1)  # (B, T - 1, 2, V + 1)
        right = said.take_along_dim(kinds[..., None, None], dim=2).squeeze(2)
        words = F.nll_loss(right.transpose(1, 2), tokens[:, 1:], reduction="none", ignore_index=END)
        counts = there.sum(dim=1), (tokens[:, 1:] != END).sum(dim=1)
        return sum(nats.sum(dim=1) / n.clamp(min=1) for nats, n in zip((choices, words), counts, strict=True))

    def kinds(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Of reports (B, T): the kind of the sentence behind each of the T - 1 ids, and whether one begins there."""
        begins = begins_sentence(tokens[:, :-1], self.config.period)
        number = begins.cumsum(dim=1)  # which sentence the next word is of
        normal = self.normal_words[tokens[:, 1:]].int()
        counts = torch.zeros_like(number).scatter_add(1, number - 1, normal.to(number.dtype))
        kinds = torch.where(counts.gather(1, number - 1) > 0, NORMALITY, ABNORMALITY)
        return kinds, begins & (tokens[:, 1:] != END)


SYSTEM = CMAS
