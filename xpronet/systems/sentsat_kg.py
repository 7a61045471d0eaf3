"""SentSAT+KG (Zhang, Wang, Xu, Yu, Yuille, Xu, AAAI 2020): a graph of observations, into which each sentence looks.

    n_k = sum_s softmax_s(w_k v_s) v_s;   X = [mean v; n_1 .. n_K], a column for each node
    three layers: u = [ReLU(BN(W_c X)); ReLU(BN(W_f X S_f)); ReLU(BN(W_b X S_b))];   X = ReLU(BN(W_u u) + X)
    observations: sigmoid(W mean_nodes X + b), whose cross-entropy is in the loss
    a sentence: ctx = attention(X, h);   h = LSTM_s(ctx, h), from a linear layer on the mean of v
    its words: LSTM_w([W_e w_{t-1}; h; ctx]), whose state goes on from sentence to sentence;   p = softmax(W LSTM_w)

S_f joins the global node to all others, and those of an organ to each other (`xpronet/model/findings_graph.yaml`); S_b
is its transpose; both with a diagonal, and normalised by the sums of their rows. No stop: the words' LSTM says the end
itself. Sizes of the paper: 1,024 features, 512 for LSTMs and attention.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
import yaml
from torch import Tensor, nn

import xpronet.model
from xpronet.common.devices import exact
from xpronet.common.shares import counted_as, studies, total
from xpronet.encoders.backbones import WIDTH
from xpronet.labels.conditions import CONDITIONS
from xpronet.model.recurrent import AdditiveAttention, Cell, Context, Recurrent, each_of, like
from xpronet.model.sentences import SentenceConfig, begins_sentence

LAYERS = 3


@dataclass(frozen=True)
class SentSATConfig(SentenceConfig):
    n_conditions: int = 14  # of the labels, those of the graph

    def __post_init__(self):
        super().__post_init__()
        if self.n_conditions != len(CONDITIONS):
            raise ValueError(f"n_conditions {self.n_conditions} must be {len(CONDITIONS)}, the graph's observations")


class Graph(NamedTuple):
    nodes: Tensor  # (B, N, C), the global one first
    places: Tensor  # (B, N, S), where on the patches each node comes from
    logits: Tensor  # (B, K)


class State(NamedTuple):
    attention: Tensor  # (B, n, S), of the sentence at hand, through the nodes
    told: Tensor  # (B, n, C), ctx
    h: Tensor  # (B, n, H), of the sentences' LSTM
    c: Tensor
    word_h: Tensor  # (B, n, H), of the words' LSTM
    word_c: Tensor


class SentSATKG(Recurrent):
    Config = SentSATConfig

    def __init__(self, config: SentSATConfig):
        super().__init__(config)
        width, channels = config.width, WIDTH[config.backbone]
        self.places = nn.Linear(channels, config.n_conditions, bias=False)
        self.layers = nn.ModuleList(GraphLayer(channels) for _ in range(LAYERS))
        self.classifier = nn.Linear(channels, config.n_conditions)
        self.register_buffer("edges", normalised(adjacency()))
        self.first = nn.Linear(channels, 2 * width)
        self.keys = nn.Linear(channels, config.attention, bias=False)
        self.looking = AdditiveAttention(width, config.attention, bias=False)
        self.planning = Cell(channels, width)
        self.speaking = Cell(channels + 2 * width, width)

    def read(self, context: Context) -> Context:
        if self.training:  # a part of a batch moves running statistics by its share
            seen = context.mask.any(dim=1)
            part = int(total(seen.sum())) / studies(len(seen))
            counted_as(part, [norm for layer in self.layers for norm in layer.norms])
        scores = exact(self.places(context.patches)).transpose(1, 2)  # (B, K, S)
        places = torch.softmax(scores.masked_fill(~context.mask[:, None], -torch.inf), dim=-1)
        mean = (context.mask / context.mask.sum(dim=1, keepdim=True))[:, None].to(places.dtype)
        places = torch.cat([mean, places], dim=1)  # (B, N, S)
        nodes = (places.to(context.patches.dtype) @ context.patches).transpose(1, 2)  # (B, C, N)
        for layer in self.layers:
            nodes = layer(nodes, self.edges)
        nodes = nodes.transpose(1, 2)
        graph = Graph(nodes, places, self.classifier(nodes.mean(dim=1)))
        return context._replace(keys=self.keys(nodes)[:, None], made=graph)

    def start(self, context: Context, n: int) -> State:
        zeros = self.zeros(context, n)
        pooled = context.pooled.to(self.first.weight.dtype)
        h, c = self.first(pooled).expand(-1, n, -1).chunk(2, dim=-1)
        attention, told = (zeros.new_zeros(*zeros.shape[:2], size) for size in context.patches.shape[1:])
        return State(attention, told.to(h.dtype), h, c, zeros, zeros)

    def step(self, tokens: Tensor, context: Context, state: State) -> tuple[Tensor, State]:
        begins = begins_sentence(tokens, self.config.period)
        if self.training or begins.any():  # in training always, as in `Sentences`
            fresh = self.sentence(context, state)
            state = each_of(lambda new, old: torch.where(like(begins, new), new, old), fresh, state)
        words = self.dropout(self.word_embedding(tokens))
        h, c = self.speaking(torch.cat([words, state.h, state.told], dim=-1), state.word_h, state.word_c)
        return h, state._replace(word_h=h, word_c=c)

    def sentence(self, context: Context, state: State) -> State:
        graph = context.made
        there = torch.ones_like(graph.nodes[..., 0], dtype=torch.bool)
        weights = self.looking(state.h, context.keys, there)  # (B, n, N)
        told = weights.to(graph.nodes.dtype) @ graph.nodes
        h, c = self.planning(told, state.h, state.c)
        return state._replace(attention=weights @ graph.places, told=told, h=h, c=c)

    def looks(self, states: Sequence[State]) -> Tensor:
        return torch.cat([state.attention for state in states], dim=1)

    def auxiliary(self, context: Context, tokens: Tensor, labels: Tensor, states: Sequence[State]) -> Tensor:
        """Mean over the observations of their cross-entropy."""
        logits = exact(context.made.logits)
        return F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype), reduction="none").mean(dim=1)


class GraphLayer(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        narrow = channels // 4
        self.own, self.forth, self.back = (nn.Linear(channels, narrow, bias=False) for _ in range(3))
        self.out = nn.Linear(3 * narrow, channels, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(size) for size in (narrow, narrow, narrow, channels))

    def forward(self, nodes: Tensor, edges: Tensor) -> Tensor:
        """(B, C, N), and S_f and S_b as (2, N, N) -> (B, C, N)."""
        columns = nodes.transpose(1, 2)
        forth, back = edges
        sums = [self.own(columns), forth.T @ self.forth(columns), back.T @ self.back(columns)]  # (B, N, C / 4)
        told = [F.relu(_norm(norm, each.transpose(1, 2))) for norm, each in zip(self.norms, sums, strict=False)]
        update = self.out(torch.cat(told, dim=1).transpose(1, 2)).transpose(1, 2)
        return F.relu(_norm(self.norms[3], update) + nodes)


def _norm(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """Over studies and nodes, (B, C, N); two-dimensional, as those are which several processes can share.

    Nodes stand beside studies: on a CPU PyTorch 2.14 computes wrong gradients of (B, C, N, 1) where only one of it and
    its gradient has its channels last in memory.
    """
    rows = x.transpose(1, 2)  # (B, N, C)
    return norm(rows.flatten(0, 1)[..., None, None])[..., 0, 0].view_as(rows).transpose(1, 2)


def adjacency() -> Tensor:
    """(2, N, N): S_f, whose row i says which nodes hear node i, and S_b; the global node is the first."""
    groups = yaml.safe_load((Path(xpronet.model.__file__).parent / "findings_graph.yaml").read_text())["observations"]
    edges = torch.eye(1 + len(CONDITIONS))
    edges[0] = 1
    for organ, names in groups.items():
        places = [1 + CONDITIONS.index(name) for name in names]
        if organ != "none":
            edges[torch.tensor(places)[:, None], torch.tensor(places)] = 1
    return torch.stack([edges, edges.T])


def normalised(edges: Tensor) -> Tensor:
    """D^-1/2 S D^-1/2, D the sums of the rows."""
    scale = edges.sum(dim=-1).rsqrt()
    return scale[..., :, None] * edges * scale[..., None, :]


SYSTEM = SentSATKG
