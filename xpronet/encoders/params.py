"""Which encoders there are."""

from typing import Literal

Backbone = Literal["resnet18", "resnet50", "resnet101"]
