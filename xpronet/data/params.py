"""Parameters: strict models, each beside the code that reads it. This one has the base and the data's own groups."""

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator


class Strict(BaseModel):
    """Unknown keys are errors, and no value changes its type on the way in."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def _exponent(value: Any) -> Any:
    # DVC writes 5e-05, which YAML 1.1 reads as text for want of a decimal point.
    return float(value) if isinstance(value, str) and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", value) else value


Number = Annotated[float, BeforeValidator(_exponent), Field(allow_inf_nan=False)]
Positive = Annotated[Number, Field(gt=0)]
NotNegative = Annotated[Number, Field(ge=0)]
Share = Annotated[Number, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Path = Annotated[str, Field(min_length=1)]

Dataset = Literal["phantom", "iu_xray", "mimic_cxr"]


class PhantomParams(Strict):
    """Group `phantom`: how many studies to draw."""

    train: Count
    val: Count
    test: Count
    size: Annotated[int, Field(ge=64)]  # side of a drawn image, in pixels


class OpenIParams(Strict):
    """Group `openi`: which of Open-i's reports become studies, where `source` is not an annotation."""

    split: Path | None  # an annotation whose ids and splits to take; None draws patients 7 : 1 : 2
    min_views: Count  # a report with fewer images is left out; the published set has 2
    max_views: Count  # further images are left out

    @model_validator(mode="after")
    def _ordered(self):
        if self.min_views > self.max_views:
            raise ValueError(f"min_views {self.min_views} must not exceed max_views {self.max_views}")
        return self


class MimicParams(Strict):
    """Group `mimic`: how MIMIC-CXR's tables become studies, where `source` is its table of splits."""

    reports: Path | None  # folder `files` or the .zip of the reports; None where they lie beside the images
    views: Literal["each", "all"]  # a study is an image, as the published annotation has it, or an examination
    positions: list[str] | None  # ViewPosition of the images to use; None uses all


class ImageParams(Strict):
    """Group `images`: row 26."""

    folder: Path | None  # where the annotation's image paths start, or a tar of the images; null for phantom
    broken: Literal["fail", "drop"]  # images that cannot be read end the run, or are left out and reported
    resize: Annotated[int, Field(ge=32)]  # shorter side before the random crop of training, in pixels
    crop: Annotated[int, Field(ge=32)]  # side of what the model sees, in pixels

    @model_validator(mode="after")
    def _fits(self):
        if self.crop > self.resize:
            raise ValueError(f"crop {self.crop} must not exceed resize {self.resize}")
        return self


class ReportParams(Strict):
    """Group `reports`: rows 22, 24 and 25."""

    style: Literal["iu_xray", "mimic_cxr"]  # which published cleaner
    xxxx: Literal["keep", "drop", "unk"]  # Open-i's marks of removed words: a word as published, nothing, or <unk>
    min_count: Count  # rarer words become <unk>
    max_length: Annotated[int, Field(ge=3)]  # tokens that training keeps of a report, both ends included


class RuntimeParams(Strict):
    """Group `runtime`: what must never rerun a stage, and so must never change a result."""

    device: Literal["auto", "cpu", "cuda", "mps"]
    workers: Annotated[int, Field(ge=0)]  # processes that load data; 0: one, and packing on all cores
    processes: Count  # that extract features, each on a GPU of its own or on its share of the cores
