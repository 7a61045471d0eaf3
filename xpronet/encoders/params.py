"""Which encoders there are, and what they cannot be trained on."""

from typing import Literal

PATCH = 32  # pixels that the strides of a ResNet make one
Backbone = Literal["resnet18", "resnet50", "resnet101"]


def refuse_lone_study(studies: int, *, batch_size: int, crop: int, key: str) -> None:
    """Raise ValueError where batch norm would see a single value: a batch of one study, in pictures of one patch.

    Args:
        studies: of the train split.
        batch_size: of training, the parameter `key`.
    """
    if crop <= PATCH and (batch_size == 1 or studies % batch_size == 1):
        raise ValueError(
            f"{key} {batch_size} leaves a batch of one study, and images.crop {crop} one patch of a picture: a single "
            f"value, which batch norm cannot norm; set {key} to another number, or images.crop to {PATCH + 1} or more"
        )
