"""Nobody reads of "1 epochs"."""

import pytest

from xpronet.common.wording import number


@pytest.mark.parametrize(
    ("count", "what", "said"), [(1, "study", "1 study"), (2000, "study", "2,000 studies"), (0, "epoch", "0 epochs")]
)
def test_a_number_and_its_noun(count, what, said):
    assert number(count, what) == said
