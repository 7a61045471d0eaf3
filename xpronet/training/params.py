"""What training reads: the paper's symbols, and group `train` (row 27 of docs/paper-and-code.md)."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from xpronet.common.params import Count, Nonfinite, NotNegative, Number, Positive, Precision, Rate, Strict
from xpronet.model.params import Formulation


class Symbols(Strict):
    """The paper's symbols and switches that training reads; top-level keys, because users type them."""

    gamma: Count
    """γ: how many prototypes respond to a query; at most `n_prototypes`."""
    theta: Positive
    """θ: tolerance of the contrastive loss."""
    alpha: Number
    """α: its margin for negative pairs."""
    lambda_visual: NotNegative
    """λ: weight of the visual contrastive loss."""
    delta_textual: NotNegative
    """δ: weight of the textual one."""
    n_prototypes: Count
    """N^p: prototypes per observation."""
    imlcs: bool
    """False is w/o IMLCS: the label-difference term of the loss becomes one."""
    cmpnet: bool
    """False is w/o CMPNet: visual extractor and encoder-decoder only."""
    formulation: Formulation
    """`official`: the published code where it differs from the paper; `paper`: Eq. 10-13 and 17 to the letter."""
    test_labels: Literal["predicted", "reference"]
    """Labels of the studies that choose the epoch: from their images, or from their own reports as in the paper."""


class TrainParams(Strict):
    """Group `train`: how the model is trained (row 27), and how the epoch is chosen (row 28)."""

    epochs: Count
    """Passes over the train split; the best on validation is kept (row 28)."""
    batch_size: Count
    """Studies per step."""
    accumulate: Count
    """Parts that a step computes its batch in, one after the other: less memory and more time, the same result."""
    checkpointing: bool
    """Compute the ResNet's blocks again in the backward pass instead of keeping them: less memory, the same result."""
    compile: bool
    """Compile the visual extractor by torch.compile, which takes minutes; not together with `checkpointing`."""
    lr_visual: Rate
    """Rate of the visual extractor."""
    lr: Rate
    """Rate of everything else."""
    optimiser: Literal["adam", "adamw"]
    """`adam`: the published one, weight decay on the gradient; `adamw`: decay apart from it."""
    weight_decay: NotNegative
    """Of the optimiser."""
    schedule: Literal["steps", "cosine"]
    """`steps`: the published one, by `lr_decay` and `lr_step`; `cosine`: down to zero over all epochs."""
    lr_decay: Rate
    """Factor of both rates, with `steps`."""
    lr_step: Count
    """Epochs between two of its decays."""
    warmup_epochs: NotNegative
    """Over which both rates rise from zero, in fractions of an epoch too."""
    clip_norm: Positive | None
    """The gradient's largest norm; null: not clipped."""
    nonfinite: Nonfinite
    """A loss or gradient that is no number: `stop` ends the run and saves the batch, `skip` leaves the step out."""
    freeze_epochs: Annotated[int, Field(ge=0)]
    """Epochs at the beginning with the visual extractor as it starts, from stored patch features; `epochs`: all."""
    crops: Count
    """Crops per image of which the frozen extractor's patch features are stored."""
    precision: Precision
    """Of matrix products and convolutions; weights, optimiser, softmaxes and losses stay in float32."""
    val_beam_size: Count
    """Beams of the search on validation, by whose scores the epoch is chosen; the model folder keeps it as its own."""
    val_max_length: Count
    """Tokens of a report written for validation; the model folder keeps it as its own."""

    @model_validator(mode="after")
    def _warms_up(self):
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs {self.warmup_epochs:g} must be below epochs {self.epochs}")
        return self

    @model_validator(mode="after")
    def _compiles_what_runs(self):
        if self.compile and self.checkpointing:
            raise ValueError("compile and checkpointing exclude each other: computed again, blocks run uncompiled")
        return self
