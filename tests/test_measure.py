"""How `make bench` takes the times that it compares."""

import pytest

from benchmarks.measure import alternate, at_least, at_most


@pytest.mark.parametrize("repeats", [1, 3])
def test_two_sides_take_turns_after_one_each_that_warms_up(repeats):
    """Even where one turn is all that there is time for."""
    turns = []
    times = alternate(lambda: turns.append("ours"), lambda: turns.append("limit"), repeats=repeats)
    assert turns == ["ours", "limit"] * (1 + repeats)
    assert all(isinstance(seconds, float) and seconds >= 0 for seconds in times)


def test_a_row_holds_on_its_side_of_the_limit():
    assert at_most("step", 3.0, 2.0, 1.5)["holds"] and not at_most("step", 3.1, 2.0, 1.5)["holds"]
    assert at_least("speed", 3.0, 2.0, 1.5, "images/s")["holds"] and not at_least("speed", 2.9, 2.0, 1.5, "x")["holds"]
