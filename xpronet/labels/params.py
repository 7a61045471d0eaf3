"""Groups `labels` and `classifier` of the parameters."""

from typing import Literal

from pydantic import model_validator

from xpronet.data.params import Count, NotNegative, Path, Positive, Strict

Backbone = Literal["resnet18", "resnet50", "resnet101"]
Precision = Literal["float32", "bf16"]


class LabelParams(Strict):
    labeller: Literal["rules", "chexbert", "file"]
    section: Literal["findings", "impression", "both"]  # which text the labeller reads
    uncertain: Literal["positive", "negative"]  # row 17
    chexbert_path: Path | None  # the published checkpoint, chexbert.pth
    file: Path | None  # labels to import: .csv, .json, or a published .pickle
    file_order: Literal["chexbert", "alphabetical"]  # class order of a pickle: IU-Xray's or MIMIC-CXR's (row 19)

    @model_validator(mode="after")
    def _has_its_file(self):
        if self.labeller == "chexbert" and self.chexbert_path is None:
            raise ValueError(
                "labeller chexbert needs chexbert_path: chexbert.pth of StanfordAIMI/RRG_scorers (Hugging Face)"
            )
        if self.labeller == "file" and self.file is None:
            raise ValueError("labeller file needs file: a .csv, .json or .pickle of labels")
        return self


class ClassifierParams(Strict):
    backbone: Backbone
    weights: Path  # imagenet, random or a torchvision ResNet file
    epochs: Count
    batch_size: Count
    lr: Positive
    weight_decay: NotNegative
    precision: Precision
