"""What training reads: the paper's symbols, and group `train` (row 27 of docs/paper-and-code.md)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from xpronet.common.params import Count, Nonfinite, NotNegative, Number, PathName, Positive, Precision, Rate, Strict
from xpronet.encoders.params import refuse_lone_study
from xpronet.model.params import Formulation, ModelParams, SystemName
from xpronet.systems.params import SystemsParams

FRESH = "xpronet/model/xpronet.py"  # the code that draws weights
TRAINED = "data/model"  # what stage train writes
ONE_COMPILES = "train.compile is for one process, as batch norm of several waits for others: set it false"
# What may differ from a model that training starts from: no weight has its shape from it.
FREE = {"gamma", "top", "dropout", "feature_dropout", "attention_dropout", "prototype_dropout"}


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

    start: PathName
    """What weights start from: `xpronet/model/xpronet.py`, which draws them, or a model folder (docs/training.md)."""
    start_prototypes: Literal["folder", "own"]
    """Where training starts from a folder: its prototypes, or this run's own, of stage prototypes."""
    phase: Literal["cross_entropy", "scst"]
    """`scst`: self-critical training of the model in `start`, by what its samples earn (docs/systems.md)."""
    samples: Count
    """With `scst`: reports drawn per study and step."""
    cider_reward: NotNegative
    """With `scst`: weight of CIDEr-D, 0 to 10 a report, in what a report earns."""
    meteor_reward: NotNegative
    """With `scst`: weight of METEOR, 0 to 1 a report."""
    kind_reward: NotNegative
    """With `scst`: weight of BLEU-4 of the normal and of the abnormal sentences apart, each 0 to 1 a report."""
    credit: Literal["report", "sentence", "word"]
    """With `scst`: what makes a word likelier, what its report earns, its sentence or its words (docs/systems.md)."""
    discount: Annotated[Number, Field(ge=0, le=1)]
    """With `credit` other than `report`: what a sentence's reward is worth to the sentence before it."""
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
    sync_batch_norm: bool
    """Of several processes: batch norm over the images of all; false: over each one's own (docs/scaling.md)."""
    val_beam_size: Count
    """Beams of the search on validation, by whose scores the epoch is chosen; the model folder keeps it as its own."""
    val_max_length: Count
    """Tokens of a report written for validation; the model folder keeps it as its own."""

    @model_validator(mode="after")
    def _starts_elsewhere(self):
        if Path(self.start).resolve().is_relative_to(Path(TRAINED).resolve()):
            raise ValueError(f"start {self.start}: training writes it itself; name a copy of it")
        return self

    @model_validator(mode="after")
    def _earns(self):
        if self.phase == "scst" and self.start == FRESH:
            raise ValueError("phase scst goes on from a trained model: set train.start to its folder")
        if self.phase == "scst" and not self.cider_reward + self.meteor_reward + self.kind_reward:
            raise ValueError("phase scst: cider_reward, meteor_reward and kind_reward are all 0: nothing is earned")
        if self.phase == "scst" and self.accumulate > 1:
            raise ValueError(f"accumulate {self.accumulate} is for phase cross_entropy: lower batch_size or samples")
        return self

    @model_validator(mode="after")
    def _credits(self):
        if self.phase == "cross_entropy" or self.credit == "report":
            return self
        if self.samples < 2:
            raise ValueError(
                f"credit {self.credit} compares a study's samples: samples {self.samples} must be at least 2"
            )
        if self.meteor_reward:
            raise ValueError(f"credit {self.credit}: METEOR is of whole reports: set meteor_reward=0, or credit=report")
        return self

    @model_validator(mode="after")
    def _warms_up(self):
        if self.warmup_epochs >= self.epochs:
            raise ValueError(
                f"warmup_epochs {self.warmup_epochs:g} must be below epochs {self.epochs}: 0 is none, or train longer"
            )
        return self

    @model_validator(mode="after")
    def _compiles_what_runs(self):
        if self.compile and self.checkpointing:
            raise ValueError("compile and checkpointing exclude each other: computed again, blocks run uncompiled")
        return self

    def refuse_lone_study(self, studies: int, *, crop: int) -> None:
        """As that of the encoders; an extractor that is frozen for good, and SCST's, norm by running statistics."""
        if self.phase != "scst" and self.freeze_epochs < self.epochs:
            sizes = {"batch_size": self.batch_size, "parts": self.accumulate}
            refuse_lone_study(studies, **sizes, crop=crop, key="train.batch_size")


class Training(Symbols):
    """All that sizes a model and says how it is trained; a stage's own keys are added to it."""

    system: SystemName
    """Which system of Table 1 writes the reports: `xpronet`, or another (docs/systems.md)."""
    model: ModelParams
    systems: SystemsParams
    train: TrainParams

    def sizes(self) -> dict[str, tuple[str, Any]]:
        """What a system's config may have a field for: by its name the parameter's key, and its value."""
        own = getattr(self.systems, self.system)
        return {
            **{name: (name, getattr(self, name)) for name in ("gamma", "n_prototypes", "cmpnet", "formulation")},
            **{name: (f"model.{name}", value) for name, value in self.model if name != "visual_weights"},
            **{name: (f"systems.{self.system}.{name}", value) for name, value in own},
        }

    def check_start(self, card: Any) -> None:
        """Raise ValueError, one line, where training starts from a model of another system or other sizes.

        `card`: what its model.json holds.
        """
        where = f"train.start = {self.train.start!r}"
        sizes = card.get("sizes") if isinstance(card, Mapping) else None
        if not (isinstance(sizes, Mapping) and "backbone" in sizes):
            raise ValueError(f"{where}: its model.json does not say its sizes: not a model of this version")
        found = card.get("system", "xpronet")
        if found != self.system:
            raise ValueError(f"{where}: a model of {found}: set system={found}")
        free = {*FREE, "n_prototypes"} if self.train.start_prototypes == "own" else FREE
        if not sizes.get("cmpnet"):
            free = {*FREE, "n_prototypes", "formulation"}
        ours = {name: it for name, it in self.sizes().items() if name in sizes and name not in free}
        others = [f"{key}={sizes[name]}".lower() for name, (key, value) in ours.items() if sizes[name] != value]
        if others:
            raise ValueError(f"{where}: a model of other sizes: set {' '.join(others)}")
