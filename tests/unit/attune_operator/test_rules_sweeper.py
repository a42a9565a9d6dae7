"""How often everything is listed."""

import pytest

from attune_operator.rules.sweeper import pause_after


@pytest.mark.parametrize("spent", [0.0, 0.1, 0.49])
def test_cheap_lists_are_made_as_often_as_asked(spent: float) -> None:
    assert pause_after(spent, interval=60) == 60
    assert pause_after(spent, interval=0.2) == 0.2


@pytest.mark.parametrize(("spent", "pause"), [(0.5, 60), (0.7, 70), (4, 400), (30, 900)])
def test_lists_take_a_hundredth_of_a_core_and_come_within_a_quarter_of_an_hour(spent: float, pause: float) -> None:
    assert pause_after(spent, interval=60) == pytest.approx(pause)


def test_lists_that_should_be_rare_stay_rare() -> None:
    assert pause_after(30, interval=3600) == 3600
