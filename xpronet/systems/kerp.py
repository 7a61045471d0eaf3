"""KERP-style (after Li, Liang, Hu, Xing, AAAI 2019): encode the images as a graph, retrieve templates, paraphrase them.

One unit does all of it, the Graph Transformer, from sources S to targets T, with a prior P where there is one:

    GTR(S, T):   e_ij = (W_k S_i) . (W_q T_j) / sqrt(d_h) + log P_ij
                 T = LN(T + heads of sum_i softmax_i(e_ij) W_v S_i);  T = LN(T + self-attention(T));  T = LN(T + FFN(T))
    encode:      U = GTR(patches, 13 findings);   u_k = sigmoid(w_k . U_k + b_k)
                 Z = GTR(U, 14 observations; P);  z_k = sigmoid(w . Z_k + b)
    retrieve:    Q = GTR(U, slots);               softmax(W Q_s + b) over K templates and "none"
    paraphrase:  Y_s = GTR([U; words of template t_s + Q_s], words of sentence s), causal;   p = softmax(W Y + b)

Sentence s of a report fills slot s, "none" ends the report, and t_s is the likeliest template; in training it is the
one nearest to the reference's sentence s. Beside the words' cross-entropy are learnt: the binary ones of u and z, and
that of the templates. The abstract and introduction of the paper could be read and its method could not: equations
beyond them, sizes and training are decisions (docs/systems.md), and no number of it is replicated.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xpronet.common.devices import exact
from xpronet.common.shares import Dropout
from xpronet.data.reports import END
from xpronet.encoders.backbones import WIDTH
from xpronet.labels.conditions import CONDITIONS, NO_FINDING
from xpronet.model.recurrent import Context
from xpronet.model.sentences import (
    IMPOSSIBLE,
    TemplateConfig,
    Templated,
    begins_sentence,
    or_end,
    places,
    sentence_targets,
    word_log_probs,
)
from xpronet.model.system import Material, Output, check_sizes
from xpronet.model.transformer import Attention, FeedForward

SPAN = 40  # words of a sentence with places of their own; of longer ones the first and the newest are seen


@dataclass(frozen=True)
class KerpConfig(TemplateConfig):
    """Every size of the network."""

    width: int = 512  # of nodes, slots and words
    d_ff: int = 512
    heads: int = 8
    dropout: float = 0.1  # of embeddings and branches
    slots: int = 12  # N, sentences of a report at most

    def __post_init__(self):
        super().__post_init__()
        check_sizes(self, "d_ff", "slots")
        if not (isinstance(self.heads, int) and self.heads >= 1) or self.width % self.heads:
            raise ValueError(f"heads {self.heads!r} must be a whole number from 1 up that divides width {self.width}")


class GraphTransformer(nn.Module):
    """The unit, with learnt embeddings of its targets where they are no words."""

    def __init__(self, config: KerpConfig, targets: int = 0):
        super().__init__()
        self.source, self.own = (Attention(config.width, config.heads, 0.0) for _ in range(2))
        self.feed_forward = FeedForward(config.width, config.d_ff, 0.0)
        self.norms = nn.ModuleList(nn.LayerNorm(config.width) for _ in range(3))
        self.dropout = Dropout(config.dropout)
        self.targets = nn.Parameter(torch.randn(1, targets, config.width)) if targets else None

    def forward(self, sources: Tensor, edges: Tensor | None = None) -> Tensor:
        """Sources (B, S, d) -> targets (B, T, d); `edges` as `Attention` has its mask, log P or True where one is."""
        x = self.hear(self.targets.expand(len(sources), -1, -1), *self.source.project(sources), edges)
        return self.settle(x, *self.own.project(x), None)

    def hear(self, targets: Tensor, keys: Tensor, values: Tensor, edges: Tensor | None) -> Tensor:
        """Targets (B, T, d) after they have heard sources, the first sum above."""
        return self.norms[0](targets + self.dropout(self.source(targets, keys, values, edges)))

    def settle(self, x: Tensor, keys: Tensor, values: Tensor, edges: Tensor | None) -> Tensor:
        """The other two, keys and values being those of all targets."""
        x = self.norms[1](x + self.dropout(self.own(x, keys, values, edges)))
        return self.norms[2](x + self.dropout(self.feed_forward(x)))

    @torch.no_grad()
    def looks(self, sources: Tensor, there: Tensor) -> Tensor:
        """Where targets look, mean over heads: (B, T, S), rows sum to one."""
        return exact(self.source.weights(self.targets, self.source.project(sources)[0], there)).mean(dim=1)


class Made(NamedTuple):
    """What is made of the images once."""

    findings: Tensor  # (B, 13, d), U
    nodes: tuple[Tensor, Tensor]  # logits of u (B, 13) and of z (B, 14)
    slots: Tensor  # (B, N, d), Q
    shelf: Tensor  # (B, N, K + 1) logits of templates and, last, of "none"
    stop: Tensor  # (B, N + 1) log-odds that a sentence is none; beyond the last slot that is as good as certain
    looked: Tensor  # (B, N, S), where slots looked: at findings, and these at patches
    keys: Tensor | None = None  # (B, h, 13 + N x L, d/h), of U and of the words of a template per slot
    values: Tensor | None = None
    words: Tensor | None = None  # (B, N, L) bool, which of those are words


class State(NamedTuple):
    number: Tensor  # (B, n) int64, of the sentence at hand, from 0 up
    place: Tensor  # (B, n) int64, of the newest word in it
    keys: Tensor  # (B, n, SPAN, d), of its words
    values: Tensor


class Kerp(Templated):
    Config = KerpConfig

    def __init__(self, config: KerpConfig):
        super().__init__(config)
        d = config.width
        self.patch_embedding = nn.Linear(WIDTH[config.backbone], d)
        self.to_findings, self.to_observations, self.to_slots, self.to_words = (
            GraphTransformer(config, targets) for targets in (NO_FINDING, len(CONDITIONS), config.slots, 0)
        )
        self.finding, self.observation = nn.Linear(d, NO_FINDING), nn.Linear(d, 1)
        self.template = nn.Linear(d, config.templates + 1)
        self.place_embedding = nn.Embedding(SPAN, d)
        self.register_buffer("prior", torch.ones(NO_FINDING, len(CONDITIONS)))

    def furnish(self, material: Material) -> None:
        super().furnish(material)
        self.prior.copy_(co_occurrence(material.labels))

    def read(self, context: Context) -> Context:
        """Encode, retrieve, and open what is retrieved; in training `forward` opens the reference's templates."""
        regions, there = self.dropout(self.patch_embedding(context.patches)), context.mask[:, None, None]
        findings = self.to_findings(regions, there)
        observations = self.to_observations(findings, self.prior.log().T.to(findings.dtype))
        evident = (findings * self.finding.weight).sum(dim=-1) + self.finding.bias
        slots = self.to_slots(findings)
        shelf = exact(self.template(slots))
        stop = F.pad(shelf[..., -1] - shelf[..., :-1].logsumexp(dim=-1), (0, 1), value=-IMPOSSIBLE)
        looked = self.to_slots.looks(findings, there.new_ones(1)) @ self.to_findings.looks(regions, there)
        nodes = exact(evident), exact(self.observation(observations)[..., 0])
        made = Made(findings, nodes, slots, shelf, stop, looked)
        return context._replace(made=made if self.training else self.open(made, shelf[..., :-1].argmax(dim=-1)))

    def open(self, made: Made, chosen: Tensor) -> Made:
        """With the words of the templates (B, N), each with the state of its slot: two may hold the same template."""
        ids = self.templates[chosen]  # (B, N, L)
        words = self.embed(ids, torch.arange(ids.shape[-1], device=ids.device)) + made.slots[:, :, None]
        words = words.flatten(1, 2)
        keys, values = self.to_words.source.project(torch.cat([made.findings, words], dim=1))
        keys, values = keys.contiguous(), values.contiguous()
        return made._replace(keys=keys, values=values, words=ids != 0)

    def embed(self, ids: Tensor, place: Tensor) -> Tensor:
        return self.dropout(self.word_embedding(ids) + self.place_embedding(place.clamp(max=SPAN - 1)))

    def hear(self, ids: Tensor, place: Tensor, number: Tensor, made: Made) -> Tensor:
        """Words at places of sentences, all (B, T) -> (B, T, d), which have heard findings and their own template."""
        own = F.one_hot(number.clamp(max=self.config.slots - 1), self.config.slots).bool()  # (B, T, N)
        own = (own[..., None] & made.words[:, None]).flatten(2)  # (B, T, N x L)
        edges = F.pad(own, (NO_FINDING, 0), value=True)[:, None]  # (B, 1, T, 13 + N x L)
        return self.to_words.hear(self.embed(ids, place), made.keys, made.values, edges)

    def forward(self, images: Tensor, tokens: Tensor, labels: Tensor, *, views: Tensor | None = None) -> Output:
        """Teacher forcing, as `System` has it, all words at once; labels are for losses alone."""
        context, ids, auxiliary = self._context(images, views), tokens[:, :-1], None
        made, slots, period = context.made, self.config.slots, self.config.period
        if self.training:
            sizes = {"period": period, "vocab_size": self.config.vocab_size, "slots": slots}
            targets, there = sentence_targets(tokens, self.wordings, self.group, **sizes)
            made, auxiliary = self.open(made, targets), losses(made, labels, targets, there)
        number, place = places(ids, period)  # (B, T)
        x = self.hear(ids, place, number, made)
        seen = (number[:, :, None] == number[:, None]) & (place[:, :, None] >= place[:, None])  # (B, T, T)
        seen &= (place[:, None] < SPAN - 1) | (place[:, :, None] == place[:, None])
        x = self.to_words.settle(x, *self.to_words.own.project(x), seen[:, None])
        words = word_log_probs(self.head(self.dropout(x)))  # (B, T, V + 1)
        stop = made.stop.gather(1, number.clamp(max=slots)).masked_fill(ids == END, IMPOSSIBLE)
        words = torch.where(begins_sentence(ids, period)[..., None], or_end(words, stop), words)
        slot = number.clamp(max=slots - 1)[..., None].expand(-1, -1, made.looked.shape[-1])
        return Output(words, patches=context.mask, attention=made.looked.gather(1, slot), auxiliary=auxiliary)

    def start(self, context: Context, n: int) -> State:
        past = context.made.findings.new_zeros(len(context.patches), n, SPAN, self.config.width)
        number = past.new_full(past.shape[:2], -1, dtype=torch.int64)
        return State(number, number, past, past)

    def sentence(self, context: Context, state: State) -> tuple[State, Tensor]:
        number = state.number + 1
        stop = context.made.stop.gather(1, number.clamp(max=self.config.slots))
        return state._replace(number=number, place=torch.full_like(number, -1)), stop

    def word(self, tokens: Tensor, context: Context, state: State) -> tuple[Tensor, State]:
        place, own = (state.place + 1).clamp(max=SPAN - 1), self.to_words.own
        x, span = self.hear(tokens, place, state.number, context.made), torch.arange(SPAN, device=tokens.device)
        newest = (span == place[..., None])[..., None]  # (B, n, SPAN, 1)
        keys = torch.where(newest, own.key(x)[:, :, None], state.keys)
        values = torch.where(newest, own.value(x)[:, :, None], state.values)
        past = (own.split(each.flatten(0, 1)) for each in (keys, values))  # (B x n, h, SPAN, d/h)
        seen = (span <= place[..., None]).flatten(0, 1)[:, None, None]  # (B x n, 1, 1, SPAN)
        x = self.to_words.settle(x.flatten(0, 1)[:, None], *past, seen).view_as(x)
        return word_log_probs(self.head(self.dropout(x))), State(state.number, place, keys, values)


def co_occurrence(labels: Tensor) -> Tensor:
    """Labels (N, 14) 0/1 -> (13, 14), p(j | i) of observation j beside finding i: (n_ij + 1) / (n_i + 2)."""
    findings = labels[:, :NO_FINDING]
    return (findings.T @ labels + 1) / (findings.sum(dim=0)[:, None] + 2)


def losses(made: Made, labels: Tensor, targets: Tensor, there: Tensor) -> Tensor:
    """(B,): of findings and of observations, each a mean over nodes, and of templates (B, N), over those there."""
    loss = F.cross_entropy(made.shelf[..., :-1].transpose(1, 2), targets, reduction="none") * there  # (B, N)
    loss = loss.sum(dim=1) / there.sum(dim=1).clamp(min=1)
    for nodes in made.nodes:
        wanted = labels[:, : nodes.shape[1]].to(nodes.dtype)
        loss = loss + F.binary_cross_entropy_with_logits(nodes, wanted, reduction="none").mean(dim=1)
    return loss


SYSTEM = Kerp
