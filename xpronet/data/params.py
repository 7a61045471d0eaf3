"""Group `reports` of the parameters."""

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field

from xpronet.common.params import Count, Plausible, Strict
from xpronet.data.reports import Style, clean_report, without_marks


class ReportParams(Strict):
    """Group `reports`: how reports are cleaned, and their words counted (rows 22, 24 and 25)."""

    style: Style
    """Which published cleaner."""
    xxxx: Literal["keep", "drop", "unk"]
    """Open-i's marks of removed words: keep them as a word, as published; drop them; or make them `<unk>`."""
    min_count: Count
    """Occurrences in the train split that make a word; rarer ones become `<unk>`."""
    max_length: Annotated[int, Field(ge=3), Plausible]
    """Tokens that training keeps of a report, both ends included."""

    def clean(self, reports: Iterable[str]) -> list[str]:
        """What training, scoring and `xpronet doctor` make of raw reports."""
        return [without_marks(clean_report(report, self.style), self.xxxx) for report in reports]
