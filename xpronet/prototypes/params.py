"""Group `features` of the parameters, and the keys of the prototype matrix."""

from typing import Literal

from xpronet.data.params import Count, Path, Strict

PrototypeInit = Literal["kmeans", "random"]


class FeatureParams(Strict):
    text_encoder: Path  # chexbert, minilm, or a folder with a Hugging Face BERT (row 16)
    flips: Literal[
        "joint", "separate"
    ]  # K-means over both orientations together, or half of the clusters each (row 14)
    batch_size: Count
