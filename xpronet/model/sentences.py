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

from xpronet.data.reports import END, Vocabulary
from xpronet.model.memory import exact
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


@dataclass(frozen=True)
class TemplateConfig(SentenceConfig):
    """And of the templates that the train split gives."""

    templates: int = 1  # K, groups of sentences that say the same
    wordings: int = 1  # W, sentences in them
    longest: int = 1  # L, words of the longest, with its `.`

    def __post_init__(self):
        super().__post_init__()
        if self.templates == 0:
            raise ValueError("no sentence is in enough train reports to be a template: lower templates.min_share")
        check_sizes(self, "templates", "wordings", "longest")


class TemplateSentences(Sentences):
    """Knows the templates of the train split, as ids that are padded with 0."""

    Config = TemplateConfig

    def __init__(self, config: TemplateConfig):
        super().__init__(config)
        rows = {"templates": config.templates, "wordings": config.wordings}
        for name, count in rows.items():
            self.register_buffer(name, torch.zeros(count, config.longest, dtype=torch.int64))
        self.register_buffer("group", torch.zeros(config.wordings, dtype=torch.int64))  # of each wording

    def furnish(self, material: Material) -> None:
        wordings, group = encoded(material.templates, material.vocabulary)
        self.wordings.copy_(wordings)
        self.group.copy_(group)
        self.templates.copy_(wordings[[group.tolist().index(number) for number in range(len(self.templates))]])

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
