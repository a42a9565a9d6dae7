"""How many events go with one request to the API."""

import pytest

from attune_sensor._grouping import group_size


@pytest.mark.parametrize(
    ("waiting", "took", "expected"),
    [
        (1, 0.0, 64),
        (100, 0.01, 64),  # a request for fewer is not worth it
        (500, 0.01, 250),
        (5000, 0.01, 1000),  # what the API takes
        (500, 0.5, 1000),  # nobody waits for several requests of a slow API
    ],
)
def test_half_of_those_whose_reporters_wait_leave_while_the_api_is_quick(
    waiting: int, took: float, expected: int
) -> None:
    assert group_size(waiting, reporters_wait=True, took=took) == expected


def test_all_others_leave_together() -> None:
    assert group_size(500, reporters_wait=False, took=0.01) == 1000
