"""What training reads: the paper's symbols, and group `train` (row 27)."""

from typing import Annotated, Literal

from pydantic import Field

from xpronet.data.params import Count, NotNegative, Number, Positive, Strict
from xpronet.labels.params import Precision
from xpronet.model.params import Formulation


class Symbols(Strict):
    """The paper's symbols and switches that training reads; top-level keys, because users type them."""

    gamma: Count
    theta: Positive
    alpha: Number
    lambda_visual: NotNegative
    delta_textual: NotNegative
    n_prototypes: Count
    imlcs: bool
    cmpnet: bool
    formulation: Formulation
    test_labels: Literal["predicted", "reference"]


class TrainParams(Strict):
    epochs: Count
    batch_size: Count
    lr_visual: Positive  # of the visual extractor
    lr: Positive  # of everything else
    lr_decay: Annotated[Positive, Field(le=1)]  # factor of both rates
    lr_step: Count  # epochs between two decays
    weight_decay: NotNegative
    precision: Precision
