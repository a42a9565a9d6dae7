"""How many events go with one request to the API. Pure."""

from typing import Final

from attune_sensor._api_client import MAX_EVENTS

#: As many events whose reporters wait are a group of their own: what a request costs is small beside them.
ENOUGH: Final = 64
#: An API that takes longer (seconds) than this for a request gets as much as it takes with the next one.
_QUICK: Final = 0.2


def group_size(waiting: int, *, reporters_wait: bool, took: float) -> int:
    """How many events the next request carries at most.

    Of events whose reporters wait, half: while those are at the API, the sensor answers the other half's reporters and
    reads what they send next. With all of them in one request, the API and the sensor would take turns. From a slow API
    the last events would have to wait for several requests then, so it gets all.

    Args:
        waiting: how many events there are.
        reporters_wait: whether somebody waits for what becomes of them.
        took: seconds that the last request took.
    """
    if not reporters_wait or took > _QUICK:
        return MAX_EVENTS
    return min(MAX_EVENTS, max(ENOUGH, waiting // 2))
