"""What the published code has set for each dataset, for commands that read no parameter file."""

from dataclasses import dataclass

from xpronet.data.params import ReportParams
from xpronet.data.reports import Style
from xpronet.labels.conditions import Order


@dataclass(frozen=True)
class Published:
    """What the published code has set for a dataset (rows 19, 25 and 27)."""

    min_count: int
    max_length: int
    order: Order

    def reports(self, style: Style) -> ReportParams:
        """Cleaning and the published protocol's words and lengths, where no parameter file says otherwise."""
        return ReportParams(style=style, xxxx="keep", min_count=self.min_count, max_length=self.max_length)


SETTINGS = {
    "iu_xray": Published(min_count=3, max_length=60, order="chexbert"),
    "mimic_cxr": Published(min_count=10, max_length=100, order="alphabetical"),
}
