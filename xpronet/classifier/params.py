"""Group `classifier` of the parameters."""

from typing import Literal

from xpronet.common.params import Count, Nonfinite, NotNegative, PathName, Precision, Rate, Strict
from xpronet.encoders.params import Backbone

Thresholds = Literal["shared", "each"]


class ClassifierParams(Strict):
    """Group `classifier`: the image classifier and its training."""

    backbone: Backbone
    """Its ResNet."""
    weights: PathName
    """What it starts from: `imagenet`, `random` or a torchvision ResNet file."""
    epochs: Count
    """Passes over the train split; the one with the best macro AUROC on validation is kept."""
    batch_size: Count
    """Studies per step."""
    lr: Rate
    """Highest rate of the one-cycle schedule of AdamW."""
    weight_decay: NotNegative
    """Of AdamW."""
    nonfinite: Nonfinite
    """A loss or gradient that is no number: `stop` ends the run and saves the batch, `skip` leaves the step out."""
    precision: Precision
    """Of matrix products and convolutions."""
    sync_batch_norm: bool
    """Of several processes: batch norm over the images of all; false: over each one's own (docs/scaling.md)."""
    thresholds: Thresholds
    """From which probability an observation is there, by F1 on validation: one for all, or one for each."""
