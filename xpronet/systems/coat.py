"""CoAT (Jing, Xie, Xing, ACL 2018): sentences from co-attention over patches and tags, words from a topic.

    p(tags) = softmax(W_mlc pooled);   a_m = the embedding of the m-th likeliest tag
    alpha_v = softmax_n(w_v^T tanh(W_v v_n + W_vh h_{s-1}));   alpha_a = softmax_m(w_a^T tanh(W_a a_m + W_ah h_{s-1}))
    ctx_s = W_fc [sum_n alpha_v,n v_n; sum_m alpha_a,m a_m];   h_s = LSTM(ctx_s, h_{s-1})
    topic_s = tanh(W_th h_s + W_tc ctx_s);   p(s is the last) = sigmoid(w_stop^T tanh(W_s1 h_{s-1} + W_s2 h_s))
    words: an LSTM that reads topic_s, a start and the words before, from a zero state in each sentence
    loss = words and stops + CE(p(tags), l / |l|_1) + mean_n (1 - sum_s alpha_v)^2 + mean_m (1 - sum_s alpha_a)^2

The tags are the labels' observations, of which the network reads its own guesses, never the labels. Sizes of the paper:
512 throughout, ten of 572 tags.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xpronet.common.devices import exact
from xpronet.data.reports import END
from xpronet.encoders.backbones import WIDTH
from xpronet.model.recurrent import AdditiveAttention, Cell, Context
from xpronet.model.sentences import SentenceConfig, Sentences, begins_sentence, word_log_probs
from xpronet.model.system import check_sizes


@dataclass(frozen=True)
class CoatConfig(SentenceConfig):
    n_conditions: int = 14  # observations, the tags there are
    tags: int = 5  # of them are read, the likeliest

    def __post_init__(self):
        super().__post_init__()
        check_sizes(self, "n_conditions", "tags")
        if self.tags > self.n_conditions:
            raise ValueError(f"tags {self.tags} must not exceed the {self.n_conditions} observations")


class Tags(NamedTuple):
    logits: Tensor  # (B, K)
    embeddings: Tensor  # (B, M, H), of the likeliest
    keys: Tensor  # (B, 1, M, A)


class State(NamedTuple):
    attention: Tensor  # (B, n, S), of the sentence at hand to patches
    tags: Tensor  # (B, n, M), to tags
    h: Tensor  # (B, n, H), of the sentences' LSTM
    c: Tensor
    last: Tensor  # (B, n), log-odds that the sentence at hand is the last
    word_h: Tensor  # (B, n, H), of the words' LSTM
    word_c: Tensor


class CoAT(Sentences):
    Config = CoatConfig

    def __init__(self, config: CoatConfig):
        super().__init__(config)
        width, channels = config.width, WIDTH[config.backbone]
        self.classifier = nn.Linear(channels, config.n_conditions)
        self.tag_embedding = nn.Embedding(config.n_conditions, width)
        self.patch_keys = nn.Linear(channels, config.attention, bias=False)
        self.tag_keys = nn.Linear(width, config.attention, bias=False)
        self.patch_attention = AdditiveAttention(width, config.attention)
        self.tag_attention = AdditiveAttention(width, config.attention)
        self.context = nn.Linear(channels + width, width)
        self.planning = Cell(width, width)
        self.topic = nn.Linear(2 * width, width)  # W_th, W_tc
        self.stopping = nn.Sequential(nn.Linear(2 * width, width), nn.Tanh(), nn.Linear(width, 1))  # W_s1, W_s2
        self.speaking = Cell(width, width)

    def read(self, context: Context) -> Context:
        logits = self.classifier(context.pooled.squeeze(1).to(self.classifier.weight.dtype))
        embeddings = self.tag_embedding(logits.topk(self.config.tags, dim=-1).indices)
        tags = Tags(logits, embeddings, self.tag_keys(embeddings)[:, None])
        return context._replace(keys=self.patch_keys(context.patches)[:, None], made=tags)

    def start(self, context: Context, n: int) -> State:
        zeros = self.zeros(context, n)  # (B, n, H)
        patches, tags = (zeros.new_zeros(*zeros.shape[:2], each.shape[1]) for each in (context.mask, context.made[1]))
        return State(patches, tags, zeros, zeros, zeros[..., 0], zeros, zeros)

    def sentence(self, context: Context, state: State) -> tuple[State, Tensor]:
        tags, kind = context.made, state.h.dtype
        patch_weights = self.patch_attention(state.h, context.keys, context.mask)  # (B, n, S)
        there = torch.ones_like(tags.embeddings[..., 0], dtype=torch.bool)
        tag_weights = self.tag_attention(state.h, tags.keys, there)  # (B, n, M)
        seen = torch.cat(
            [patch_weights.to(kind) @ context.patches.to(kind), tag_weights.to(kind) @ tags.embeddings.to(kind)], dim=-1
        )
        told = self.context(seen)
        h, c = self.planning(told, state.h, state.c)
        topic = torch.tanh(self.topic(torch.cat([h, told], dim=-1)))
        last = self.stopping(torch.cat([state.h, h], dim=-1)).squeeze(-1)
        zeros = torch.zeros_like(h)
        return State(patch_weights, tag_weights, h, c, last, *self.speaking(topic, zeros, zeros)), state.last

    def word(self, tokens: Tensor, context: Context, state: State) -> tuple[Tensor, State]:
        start = tokens.masked_fill(tokens == self.config.period, END)  # each sentence reads the same start
        h, c = self.speaking(self.dropout(self.word_embedding(start)), state.word_h, state.word_c)
        return word_log_probs(self.head(self.dropout(h))), state._replace(word_h=h, word_c=c)

    def auxiliary(self, context: Context, tokens: Tensor, labels: Tensor, states: Sequence[State]) -> Tensor:
        shares = labels / labels.sum(dim=1, keepdim=True).clamp(min=1)
        of_tags = -(shares * F.log_softmax(exact(context.made.logits), dim=-1)).sum(dim=1)
        begun = begins_sentence(tokens[:, :-1], self.config.period) & (tokens[:, 1:] != END)  # (B, T - 1)
        patches, tags = (
            (1 - (torch.cat(weights, dim=1) * begun[..., None]).sum(dim=1)).square()
            for weights in zip(*((state.attention, state.tags) for state in states), strict=True)
        )
        return of_tags + (patches * context.mask).sum(dim=1) / context.mask.sum(dim=1) + tags.mean(dim=1)


SYSTEM = CoAT
