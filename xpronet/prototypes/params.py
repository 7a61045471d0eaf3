"""Group `features` of the parameters, and the keys of the prototype matrix."""

from typing import Annotated, Literal

from pydantic import Field

from xpronet.common.params import PathName, Strict

# kmeans, random (w/o PI), or published matrices: one file, or two of half the prototypes, flipped images first.
PrototypeInit = PathName | Annotated[list[PathName], Field(min_length=2, max_length=2)]


def published_files(init: PrototypeInit) -> list[str]:
    """The files that `prototype_init` names; none for kmeans and random."""
    if isinstance(init, str):
        return [] if init in ("kmeans", "random") else [init]
    return list(init)


class FeatureParams(Strict):
    """Group `features`: what the prototypes are clusters of."""

    text_encoder: PathName
    """`chexbert`, `minilm`, or a folder with a Hugging Face BERT (row 16)."""
    flips: Literal["joint", "separate"]
    """K-means over both orientations of the images together, or half of the clusters each (row 14)."""
