"""From a rule's parameters to its schedule; what is wrong with them is said in a sentence for the rule's author."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from attune_sensor import InvalidRule, Rule
from attune_timer import instants
from attune_timer.schedule import IntervalSchedule, Schedule

INTERVAL_TIMER: Final = "core.intervaltimer"

#: Microseconds in each unit.
UNITS: Final[Mapping[str, int]] = {
    "milliseconds": 1_000,
    "seconds": 1_000_000,
    "minutes": 60_000_000,
    "hours": 3_600_000_000,
    "days": 86_400_000_000,
    "weeks": 604_800_000_000,
}

#: Shorter intervals are not for a timer that stores an event for each.
MIN_INTERVAL: Final = 100_000
#: Ten years.
MAX_INTERVAL: Final = 3653 * UNITS["days"]

_INTERVAL_FIELDS: Final = frozenset({"interval", "unit", "anchor", "start", "end"})


def schedule_of(rule: Rule) -> Schedule:
    """The rule's schedule.

    Raises:
        InvalidRule: the parameters cannot be used.
    """
    if rule.trigger_type == INTERVAL_TIMER:
        return _interval_schedule(rule.parameters, created_at=instants.from_datetime(rule.created_at))
    raise InvalidRule(f"this sensor does not provide the trigger type {rule.trigger_type}")


def _interval_schedule(parameters: Mapping[str, Any], *, created_at: int) -> IntervalSchedule:
    unknown = sorted(set(parameters) - _INTERVAL_FIELDS)
    if unknown:
        known = ", ".join(sorted(_INTERVAL_FIELDS))
        raise InvalidRule(f"parameters.{unknown[0]} is not known; an interval timer has {known}")
    interval = _interval(parameters)
    anchor = _instant(parameters, "anchor")
    start, end = _instant(parameters, "start"), _instant(parameters, "end")
    if start is not None and end is not None and end < start:
        raise InvalidRule("parameters.end is before parameters.start, so the timer would never fire")
    return IntervalSchedule(
        anchor=created_at if anchor is None else anchor,
        interval=interval,
        # A timer that was just made fires when its interval is over; one that names its anchor begins there.
        first_k=1 if anchor is None else 0,
        start=start,
        end=end,
    )


def _interval(parameters: Mapping[str, Any]) -> int:
    value = parameters.get("interval")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidRule(f"parameters.interval is {value!r}; write a positive number, like 5")
    unit = parameters.get("unit", "seconds")
    if not isinstance(unit, str) or unit not in UNITS:
        raise InvalidRule(f"parameters.unit is {unit!r}; write one of {', '.join(UNITS)}")
    # Through its decimal form: 0.1 means a tenth, not the nearest binary fraction. A float too large is infinite.
    exact = Decimal(str(value)) * UNITS[unit]
    if not exact.is_finite() or exact > MAX_INTERVAL:
        raise InvalidRule(f"parameters.interval of {value} {unit} is longer than ten years")
    if exact < MIN_INTERVAL:
        raise InvalidRule(f"parameters.interval of {value} {unit} is shorter than 0.1 seconds, the shortest there is")
    return int(exact.to_integral_value())


def _instant(parameters: Mapping[str, Any], name: str) -> int | None:
    value = parameters.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise InvalidRule(f"parameters.{name} is {value!r}; write a time like 2026-11-23T12:00:00Z")
    try:
        return instants.parse(value)
    except ValueError as error:
        raise InvalidRule(f"parameters.{name}: {error}") from None
