"""Which encoders there are, and what they cannot be trained on."""

from typing import Literal

PATCH = 32  # pixels that the strides of a ResNet make one
Backbone = Literal["resnet18", "resnet50", "resnet101"]


def refuse_lone_study(studies: int, *, batch_size: int, crop: int, key: str, parts: int = 1) -> None:
    """Raise ValueError where batch norm would see a single value: a batch of one study, in pictures of one patch.

    Args:
        studies: of the train split.
        batch_size: of training, the parameter `key`.
        parts: in which a batch is computed.
    """
    if crop <= PATCH and any(0 < size < 2 * parts for size in (batch_size, studies % batch_size)):
        what = "batch or part" if parts > 1 else "batch"
        raise ValueError(
            f"{key} {batch_size} leaves a {what} of one study, and images.crop {crop} one patch "
            "of a picture: a single value, which batch norm cannot norm; set "
            f"{key} to another number, or images.crop to {PATCH + 1} or more"
        )
