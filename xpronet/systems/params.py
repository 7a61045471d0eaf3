"""Group `systems` of the parameters: what each system of Table 1 has beside group `model`."""

from typing import Annotated

from pydantic import Field, model_validator

from xpronet.common.params import Count, Share, Strict
from xpronet.labels.conditions import CONDITIONS


class NoSizes(Strict):
    """Of a system whose sizes are all in group `model`."""


class MemorySizes(Strict):
    memory: Count
    """Rows of the memory."""
    top: Count
    """Of them respond to a query."""

    @model_validator(mode="after")
    def _has_them(self):
        if self.top > self.memory:
            raise ValueError(f"top {self.top} must not exceed memory {self.memory}")
        return self


class RecurrentSizes(Strict):
    width: Count
    """Of word embeddings and LSTM."""
    attention: Count
    """Inside the additive attention."""
    dropout: Share
    """Of the words that go into the LSTM, and of what goes into the output."""


class PooledSizes(Strict):
    width: Count
    """Of word embeddings and LSTM."""
    dropout: Share
    """Of what goes into the LSTM, and into the output."""


class RatchetSizes(Strict):
    d_model: Count
    """Width of the decoder."""
    d_ff: Count
    """Inside its feed-forward layers."""
    heads: Count
    """Attention heads."""
    layers: Count
    """Of the decoder."""
    dropout: Share
    """Of embeddings and residual branches."""

    @model_validator(mode="after")
    def _divides(self):
        if self.d_model % self.heads or self.d_model % 2:
            raise ValueError(f"d_model {self.d_model} must be even, and heads {self.heads} must divide it")
        return self


class CoatSizes(RecurrentSizes):
    tags: Annotated[int, Field(ge=1, le=len(CONDITIONS))]
    """Of the 14 observations are read as tags, the likeliest."""


class KerpSizes(Strict):
    width: Count
    """Of nodes, sentence slots and words."""
    d_ff: Count
    """Inside its feed-forward layers."""
    heads: Count
    """Attention heads."""
    slots: Count
    """Sentences of a report, at most."""
    dropout: Share
    """Of embeddings and residual branches."""

    @model_validator(mode="after")
    def _divides(self):
        if self.width % self.heads:
            raise ValueError(f"heads {self.heads} must divide width {self.width}")
        return self


class SystemsParams(Strict):
    """Group `systems`: the sizes of each system of Table 1 (docs/systems.md); those of group `model` are common."""

    xpronet: NoSizes
    """All its sizes are in group `model`."""
    r2gencmn: MemorySizes
    """Its Transformer has the sizes of group `model`."""
    st: PooledSizes
    """The image embedding is as wide."""
    att2in: RecurrentSizes
    adaatt: RecurrentSizes
    topdown: RecurrentSizes
    ratchet: RatchetSizes
    coat: CoatSizes
    sentsat_kg: RecurrentSizes
    hrgr: RecurrentSizes
    kerp: KerpSizes
    cmas_rl: RecurrentSizes
