"""Group `train` of the parameters (row 27)."""

from typing import Annotated

from pydantic import Field

from xpronet.data.params import Count, NotNegative, Positive, Strict
from xpronet.labels.params import Precision


class TrainParams(Strict):
    epochs: Count
    batch_size: Count
    lr_visual: Positive  # of the visual extractor
    lr: Positive  # of everything else
    lr_decay: Annotated[Positive, Field(le=1)]  # factor of both rates
    lr_step: Count  # epochs between two decays
    weight_decay: NotNegative
    precision: Precision
