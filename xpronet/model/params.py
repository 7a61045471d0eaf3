"""Groups `model` and `decode` of the parameters."""

from typing import Literal

from pydantic import model_validator

from xpronet.common.params import Count, PathName, Share, Strict
from xpronet.encoders.params import Backbone

# Modules of xpronet/systems.
SystemName = Literal[
    "xpronet",
    "r2gencmn",
    "st",
    "att2in",
    "adaatt",
    "topdown",
    "ratchet",
    "coat",
    "sentsat_kg",
    "hrgr",
    "kerp",
    "cmas_rl",
]
Formulation = Literal["official", "paper"]  # rows 1-4, 9 and 11: the published code, or the equations to the letter


class ModelParams(Strict):
    """Group `model`: the sizes of the network."""

    backbone: Backbone
    """The ResNet of the visual extractor."""
    visual_weights: PathName
    """What it, and the network of stage features, starts from: `imagenet`, `classifier`, `random`, or a ResNet file."""
    d_model: Count
    """Width of the Transformer, and of the prototypes as they are queried."""
    d_ff: Count
    """Width inside its feed-forward layers."""
    heads: Count
    """Attention heads, of the prototype query too."""
    layers: Count
    """Of the encoder, and of the decoder."""
    dropout: Share
    """Of embeddings and residual branches."""
    feature_dropout: Share
    """After the first linear on patch features (row 8)."""
    attention_dropout: Share
    """Of attention weights (row 36)."""
    prototype_dropout: Share
    """Of the weights of Eq. 11 (row 36)."""

    @model_validator(mode="after")
    def _divides(self):
        if self.d_model % self.heads:
            raise ValueError(f"heads {self.heads} must divide d_model {self.d_model}")
        if self.d_model % 2:
            raise ValueError(f"d_model {self.d_model} must be even")
        return self


class DecodeParams(Strict):
    """Group `decode`: how the reports of validation and test are written."""

    beam_size: Count | None
    """Beams of the search; 1 is greedy; null: as the model folder says."""
    max_length: Count | None
    """Tokens of a generated report; null: as the model folder says."""
