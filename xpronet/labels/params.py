"""Group `labels` of the parameters."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from xpronet.common.params import Number, PathName, Rate, Strict
from xpronet.labels.conditions import Order, Uncertain


class LabelParams(Strict):
    """Group `labels`: the pseudo labels (paper §3.2)."""

    labeller: Literal["rules", "chexbert", "file"]
    """What labels reports: rules without weights, CheXbert, or a file of labels."""
    section: Literal["findings", "impression", "both"]
    """Which text the labeller reads."""
    uncertain: Uncertain
    """What an uncertain observation counts as (row 17)."""
    chexbert_path: PathName | None
    """The published checkpoint, chexbert.pth."""
    file: PathName | None
    """Labels to import: .csv, .json, or a published .pickle."""
    file_order: Order
    """Class order of a pickle or published prototypes: `chexbert` (IU-Xray) or `alphabetical` (MIMIC-CXR), row 19."""
    threshold: Annotated[Number, Field(gt=0, le=1)] | None
    """Probability of `file` that makes a label; null where it holds CheXpert's values: 1, 0, -1 (uncertain), blank."""

    @model_validator(mode="after")
    def _has_its_file(self):
        if self.labeller == "chexbert" and self.chexbert_path is None:
            raise ValueError(
                "labeller chexbert needs chexbert_path: chexbert.pth of StanfordAIMI/RRG_scorers (Hugging Face)"
            )
        if self.labeller == "file" and self.file is None:
            raise ValueError("labeller file needs file: a .csv, .json or .pickle of labels")
        return self


class TemplateParams(Strict):
    """Group `templates`: which sentences of train reports become templates (HRGR, KERP)."""

    min_share: Rate
    """Of the train reports, that a sentence must be in."""
    min_overlap: Rate
    """Of the content words of two sentences, from which on they say the same, classes and sides being equal."""
