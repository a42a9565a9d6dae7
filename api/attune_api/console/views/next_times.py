"""When a timer's Rule fires next, as far as can be said: the first time is the sensor's own, the others follow from it.

The sensor computes the exact times (``attune lint --next`` does so by its code). Here they are carried on from the one that
the sensor named, which is enough to see whether a Rule is what its author meant.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, Final

from attune_contract.calendar import cron, zones

_UNITS: Final = {
    "milliseconds": 0.001, "seconds": 1, "minutes": 60, "hours": 3600, "days": 86_400, "weeks": 604_800,
}  # fmt: skip
_INTERVAL: Final = ("core.intervaltimer", "core.timer")
_CRON: Final = "core.crontimer"


def next_times(trigger: Mapping[str, Any], *, first: str | None, most: int = 5) -> list[datetime]:
    """The next occurrences in UTC; none where the sensor names none.

    Args:
        trigger: ``spec.trigger`` of the Rule.
        first: ``status.nextTime``.
        most: how many at most.
    """
    if not first:
        return []
    begin = datetime.fromisoformat(first).astimezone(UTC)
    parameters = trigger.get("parameters") or {}
    try:
        times = _carried_on(str(trigger.get("type")), parameters, begin)
        found = list(islice(times, most))
    except (TypeError, ValueError, ArithmeticError):
        return [begin]  # the sensor takes them, and this does not: then only what it said
    end = parameters.get("end")
    if isinstance(end, str):
        try:
            limit = datetime.fromisoformat(end)
        except ValueError:
            return found[:1]
        if limit.tzinfo is not None:
            found = [time for time in found if time < limit]
    return found


def _carried_on(kind: str, parameters: Mapping[str, Any], begin: datetime) -> Iterator[datetime]:
    yield begin
    if kind in _INTERVAL:
        step = timedelta(seconds=float(parameters["interval"]) * _UNITS[parameters.get("unit", "seconds")])
        if step <= timedelta():
            return
        while True:
            begin += step
            yield begin
    if kind != _CRON or parameters.get("exclude"):
        return
    expression = str(parameters["cron"])
    match = cron.DayMatch(parameters.get("dayMatch", cron.DayMatch.CRON))
    if cron.parse_every(expression) is not None:
        return
    schedule, zone = cron.parse(expression, day_match=match), zones.zone(str(parameters.get("timezone", "UTC")))
    local = begin.astimezone(zone).replace(tzinfo=None)
    while (following := schedule.after(local)) is not None:
        local = following
        yield local.replace(tzinfo=zone).astimezone(UTC)
