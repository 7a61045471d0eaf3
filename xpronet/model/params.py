"""Group `model` of the parameters: the sizes of the network."""

from typing import Literal

from pydantic import model_validator

from xpronet.data.params import Count, Path, Share, Strict
from xpronet.labels.params import Backbone

Formulation = Literal["official", "paper"]  # rows 1-4, 9 and 11: the published code, or the equations to the letter


class ModelParams(Strict):
    backbone: Backbone
    visual_weights: Path  # imagenet, classifier, random, or a torchvision ResNet file
    d_model: Count
    d_ff: Count
    heads: Count
    layers: Count
    dropout: Share
    feature_dropout: Share  # row 8
    attention_dropout: Share  # row 36
    prototype_dropout: Share  # row 36

    @model_validator(mode="after")
    def _divides(self):
        if self.d_model % self.heads:
            raise ValueError(f"heads {self.heads} must divide d_model {self.d_model}")
        if self.d_model % 2:
            raise ValueError(f"d_model {self.d_model} must be even")
        return self


class DecodeParams(Strict):
    """Group `decode`."""

    beam_size: Count  # 1 is greedy
    max_length: Count  # of a generated report, in tokens
    batch_size: Count
