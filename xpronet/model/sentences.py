"""Systems that write sentence by sentence: a level that begins sentences, above one that says their words.

Cleaned reports mark their sentences: each ends with the word `.`, behind which, as at the start of a report, another
begins or the report ends:

    p(0) = p_stop,   p(w) = (1 - p_stop) p_word(w);   within a sentence p(0) = 0,   and no report is empty

So search, samples, log-probabilities and rewards of reports are those of every other system. Where a sentence can come
about in several ways (a template or free words, one writer or another) they are summed over, and none is drawn.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from xpronet.common.devices import exact
from xpronet.data.reports import END, Vocabulary
from xpronet.model.recurrent import Context, Recurrent, RecurrentConfig, State, each_of, like
from xpronet.model.system import Material, check_sizes

IMPOSSIBLE = -30.0  # a log-probability that is as good as none in float32, and yet a number


@dataclass(frozen=True)
class SentenceConfig(RecurrentConfig):
    """Every size of such a network, and the word that ends a sentence."""

    period: int = 1  # its id

    def __post_init__(self):
        super().__post_init__()
        check_sizes(self, "period")
        if self.period > self.vocab_size:
            raise ValueError(f"period {self.period} must be one of the {self.vocab_size} words")


@dataclass(frozen=True)
class TemplateConfig(SentenceConfig):
    """Every size of such a network that chooses from templates."""

    templates: int = 28  # groups of wordings
    wordings: int = 28  # of all groups
    longest: int = 15  # words of a wording

    def __post_init__(self):
        super().__post_init__()
        if self.templates == 0:
            raise ValueError("templates 0: no sentence is in enough train reports: lower templates.min_share")
        check_sizes(self, "templates", "wordings", "longest")


class Sentences(Recurrent):
    """A subclass says what begins a sentence (`sentence`) and what says a word of it (`word`).

    Its state is a NamedTuple, of which `attention` (B, n, S) is where the sentence at hand, or its word, looked.
    """

    Config = SentenceConfig

    @abstractmethod
    def sentence(self, context: Context, state: State) -> tuple[State, Tensor]:
        """The state with which a sentence after this one begins, and the log-odds (B, n) that there is none."""

    @abstractmethod
    def word(self, tokens: Tensor, context: Context, state: State) -> tuple[Tensor, State]:
        """(B, n) newest words, 0 or `.` where a sentence begins -> log-probabilities (B, n, V + 1) of the sentence's
        next word, the end impossible, and the state after it."""

    def step(self, tokens: Tensor, context: Context, state: State) -> tuple[Tensor, State]:
        begins, stop = begins_sentence(tokens, self.config.period), None
        if self.training or begins.any():  # in training always: what is dropped out must not depend on the others
            fresh, stop = self.sentence(context, state)
            state = each_of(lambda new, old: torch.where(like(begins, new), new, old), fresh, state)
        words, state = self.word(tokens, context, state)
        if stop is not None:
            words = torch.where(begins[..., None], or_end(words, stop.masked_fill(tokens == END, IMPOSSIBLE)), words)
        return words, state

    def log_probs(self, found: Tensor) -> Tensor:
        return found

    def looks(self, states: Sequence[State]) -> Tensor | None:
        return torch.cat([state.attention for state in states], dim=1)


class Templated(Sentences):
    """One that chooses from templates, whose words it holds: of each group the commonest wording is its template."""

    Config = TemplateConfig

    def __init__(self, config: TemplateConfig):
        super().__init__(config)
        sizes = {"templates": (config.templates, config.longest), "wordings": (config.wordings, config.longest)}
        for name, shape in {**sizes, "group": (config.wordings,)}.items():
            self.register_buffer(name, torch.zeros(shape, dtype=torch.int64))

    def furnish(self, material: Material) -> None:
        wordings, group = encoded(material.templates, material.vocabulary)
        self.templates.copy_(wordings[torch.searchsorted(group, torch.arange(self.config.templates))])
        self.wordings.copy_(wordings)
        self.group.copy_(group)

    def texts(self, vocabulary: Vocabulary) -> list[list[str]]:
        """The groups of wordings that it was furnished with, as far as its vocabulary knows their words."""
        found = [[] for _ in range(self.config.templates)]
        for ids, group in zip(self.wordings.tolist(), self.group.tolist(), strict=True):
            found[group].append(vocabulary.decode(ids))
        return found

    def targets(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Of reports (B, T): which template the sentence behind each of the T - 1 ids is a wording of, -1 where of
        none, and bool, whether a sentence begins there."""
        there = begins_sentence(tokens[:, :-1], self.config.period) & (tokens[:, 1:] != END)
        following = F.pad(tokens[:, 1:], (0, self.config.longest - 1)).unfold(
            1, self.config.longest, 1
        )  # (B, T - 1, L)
        same = ((following[:, :, None] == self.wordings) | (self.wordings == END)).all(dim=-1)  # (B, T - 1, W)
        found = torch.where(same.any(dim=-1), self.group[same.int().argmax(dim=-1)], -1)
        return torch.where(there, found, -1), there


def begins_sentence(tokens: Tensor, period: int) -> Tensor:
    """(B, T) ids that are read -> bool, behind which of them a sentence begins, or the report ends."""
    return (tokens == END) | (tokens == period)


def places(tokens: Tensor, period: int) -> tuple[Tensor, Tensor]:
    """(B, T) ids that are read -> which sentence the word behind each is of, and which word of it, both from 0 up."""
    begins, position = begins_sentence(tokens, period), torch.arange(tokens.shape[1], device=tokens.device)
    return begins.cumsum(dim=1) - 1, position - torch.where(begins, position, 0).cummax(dim=1).values


def sentence_targets(
    tokens: Tensor, wordings: Tensor, group: Tensor, *, period: int, vocab_size: int, slots: int
) -> tuple[Tensor, Tensor]:
    """Which template each of the first sentences of reports is nearest to.

    It is the group of a wording that the sentence equals; else of the wording with the greatest share of words in
    common (Jaccard), the first of such.

    Args:
        tokens: (B, T) ids, 0 at the start.
        wordings, group: as `encoded` has them.

    Returns:
        (B, slots) int64 groups, and (B, slots) bool, where there is such a sentence.
    """
    number, place = places(tokens[:, :-1], period)
    words, length = tokens[:, 1:], wordings.shape[1]
    number = torch.where(words == END, slots, number.clamp(max=slots))  # the row behind the last is thrown away
    written = tokens.new_zeros(len(tokens), slots + 1, length + 1)  # what is longer than wordings fills the last column
    written.flatten(1).scatter_(1, number * (length + 1) + place.clamp(max=length), words)
    same = (written[:, :-1, None] == F.pad(wordings, (0, 1))).all(dim=-1)  # (B, slots, W)
    bags = wordings.new_zeros(len(tokens), slots + 1, vocab_size + 1, dtype=torch.float32)
    bags.flatten(1).scatter_(1, number * (vocab_size + 1) + words, 1.0)
    known = bags.new_zeros(len(wordings), vocab_size + 1).scatter(1, wordings, 1.0)  # (W, vocab_size + 1)
    bags, known = bags[:, :-1, 1:], known[:, 1:]
    common = bags @ known.T  # (B, slots, W)
    share = common / (bags.sum(dim=-1, keepdim=True) + known.sum(dim=-1) - common).clamp(min=1)
    return group[(share + same).argmax(dim=-1)], bags.any(dim=-1)


def word_log_probs(logits: Tensor) -> Tensor:
    """(..., V + 1) -> the same, of words: the end is impossible."""
    return F.pad(F.log_softmax(exact(logits[..., 1:]), dim=-1), (1, 0), value=IMPOSSIBLE)


def or_end(words: Tensor, stop: Tensor) -> Tensor:
    """(..., V + 1) of words and (...) log-odds of the end -> (..., V + 1) of both."""
    stop = exact(stop)[..., None]
    return torch.cat([F.logsigmoid(stop), F.logsigmoid(-stop) + words[..., 1:]], dim=-1)


def encoded(templates: Sequence[Sequence[str]], vocabulary: Vocabulary) -> tuple[Tensor, Tensor]:
    """Groups of wordings -> their ids (W, L), each with its `.`, padded with 0, and the group (W,) of each."""
    rows = [(vocabulary.encode(wording)[1:-1], group) for group, each in enumerate(templates) for wording in each]
    ids = torch.zeros(len(rows), max((len(row) for row, _ in rows), default=0), dtype=torch.int64)
    for place, (row, _) in enumerate(rows):
        ids[place, : len(row)] = torch.tensor(row)
    return ids, torch.tensor([group for _, group in rows], dtype=torch.int64)
