"""Groups `phantom`, `openi`, `mimic` and `images` of the parameters: where studies come from."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from xpronet.common.params import Count, PathName, Seed, Strict

LARGEST = 4096  # side of an image, in pixels

Dataset = Literal["phantom", "iu_xray", "mimic_cxr"]


class PhantomParams(Strict):
    """Group `phantom`: the embedded dataset."""

    seed: Seed
    """Of what is drawn: another seed, other patients. `seed` of the training leaves them as they are."""
    train: Count
    """Studies of the train split."""
    val: Count
    """Studies of validation."""
    test: Count
    """Studies of the test split."""
    size: Annotated[int, Field(ge=64, le=LARGEST)]
    """Side of a drawn image, in pixels."""


class OpenIParams(Strict):
    """Group `openi`: which of Open-i's reports become studies, where `source` is not an annotation."""

    seed: Seed
    """Of the split, where it is drawn."""
    split: PathName | None
    """An annotation whose ids and splits to take; null draws patients 7 : 1 : 2."""
    min_views: Count
    """A report with fewer images is left out, also where some are broken and dropped; the published set has 2."""
    max_views: Count
    """Further images are left out."""

    @model_validator(mode="after")
    def _ordered(self):
        if self.min_views > self.max_views:
            raise ValueError(f"min_views {self.min_views} must not exceed max_views {self.max_views}")
        return self


class MimicParams(Strict):
    """Group `mimic`: how MIMIC-CXR's tables become studies, where `source` is its table of splits."""

    reports: PathName | None
    """Folder `files` or the .zip of the reports; null where they lie beside the images."""
    views: Literal["each", "all"]
    """A study is an image, as the published annotation has it, or an examination with all its images."""
    positions: list[str] | None
    """ViewPosition of the images to use, as [PA, AP]; null uses all."""


class ImageParams(Strict):
    """Group `images`: where the pictures lie, and the sizes that they are packed in (row 26)."""

    folder: PathName | None
    """Where the annotation's image paths start, or a tar of the images; null for phantom."""
    broken: Literal["fail", "drop"]
    """Images that cannot be read end the run, or are left out and reported."""
    resize: Annotated[int, Field(ge=32, le=LARGEST)]
    """Shorter side before the random crop of training, in pixels."""
    crop: Annotated[int, Field(ge=32, le=LARGEST)]
    """Side of what the model sees, in pixels."""

    @model_validator(mode="after")
    def _fits(self):
        if self.crop > self.resize:
            raise ValueError(f"crop {self.crop} must not exceed resize {self.resize}")
        return self
