"""From a rule's parameters to its timer. An error is a sentence for the rule's author."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

import msgspec

from attune_contract.calendar import cron, zones
from attune_contract.calendar.cron import CronError, DayMatch
from attune_sensor import InvalidRuleError, Rule
from attune_timer import instants
from attune_timer.cron import CronSchedule
from attune_timer.exclusions import NOTHING, ExclusionError, Exclusions, exclusions_of
from attune_timer.missed import DEFAULT_MOST, LARGEST_MOST, Missed, MissedPolicy
from attune_timer.schedule import IntervalSchedule, OnceSchedule, Schedule
from attune_timer.timer_heap import Timer

INTERVAL_TIMER: Final = "core.intervaltimer"
CRON_TIMER: Final = "core.crontimer"
DATETIME_TIMER: Final = "core.datetimetimer"

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
MAX_JITTER: Final = UNITS["days"]
#: The longest ``data`` (bytes of JSON): it is in every event.
MAX_DATA: Final = 16 * 1024

_COMMON: Final = frozenset({"jitter", "missed", "maxMissed", "data"})
_FIELDS: Final[Mapping[str, frozenset[str]]] = {
    INTERVAL_TIMER: _COMMON | {"interval", "unit", "anchor", "start", "end"},
    CRON_TIMER: _COMMON | {"cron", "timezone", "dayMatch", "exclude", "start", "end"},
    DATETIME_TIMER: frozenset({"at", "jitter", "missed", "data"}),
}


def timer_of(rule: Rule) -> Timer:
    """The rule's timer.

    Raises:
        InvalidRuleError: the parameters cannot be used.
    """
    schedule = schedule_of(rule)
    jitter = _jitter(rule.parameters)
    if isinstance(schedule, IntervalSchedule) and jitter > schedule.interval:
        raise InvalidRuleError("parameters.jitter is longer than the interval, so events would overtake each other")
    default = Missed.ONCE if rule.trigger_type == DATETIME_TIMER else Missed.SKIP
    return Timer(
        rule=rule,
        schedule=schedule,
        missed=_missed(rule.parameters, default=default),
        jitter=jitter,
        data=_data(rule.parameters),
    )


def schedule_of(rule: Rule) -> Schedule:
    """The rule's schedule.

    Raises:
        InvalidRuleError: the parameters cannot be used.
    """
    parameters = rule.parameters
    known = _FIELDS.get(rule.trigger_type)
    if known is None:
        raise InvalidRuleError(f"this sensor does not provide the trigger type {rule.trigger_type}")
    unknown = sorted(set(parameters) - known)
    if unknown:
        raise InvalidRuleError(f"unknown parameter {unknown[0]}; expected one of: {', '.join(sorted(known))}")
    match rule.trigger_type:
        case "core.crontimer":
            return _cron_schedule(parameters, created_at=instants.from_datetime(rule.created_at))
        case "core.datetimetimer":
            return _once_schedule(parameters)
        case _:
            return _interval_schedule(parameters, created_at=instants.from_datetime(rule.created_at))


def _interval_schedule(parameters: Mapping[str, Any], *, created_at: int) -> IntervalSchedule:
    interval = _interval(parameters)
    anchor = _instant(parameters, "anchor")
    start, end = _bounds(parameters)
    return IntervalSchedule(
        anchor=created_at if anchor is None else anchor,
        interval=interval,
        # A timer that was just made fires when its interval is over; one that names its anchor begins there.
        first_k=1 if anchor is None else 0,
        start=start,
        end=end,
    )


def _cron_schedule(parameters: Mapping[str, Any], *, created_at: int) -> CronSchedule | IntervalSchedule:
    expression, name = parameters.get("cron"), parameters.get("timezone", "UTC")
    if not isinstance(expression, str):
        raise InvalidRuleError(f"parameters.cron is {expression!r}; expected a cron expression, like 30 6 * * MON-FRI")
    if not isinstance(name, str):
        raise InvalidRuleError(f"parameters.timezone is {name!r}; expected an IANA name, like Europe/Berlin")
    match = parameters.get("dayMatch", DayMatch.CRON)
    if match not in list(DayMatch):
        raise InvalidRuleError(f"parameters.dayMatch is {match!r}; expected one of: {', '.join(DayMatch)}")
    start, end = _bounds(parameters)
    exclusions = _exclusions(parameters)
    try:
        zone = zones.zone(name)
    except zones.UnknownZoneError as error:
        raise InvalidRuleError(f"parameters.timezone: {error}") from None
    try:
        interval = cron.parse_every(expression)
        if interval is not None:
            if exclusions:
                raise CronError(f"{cron.EVERY} does not go with exclude, which needs local times")
            return IntervalSchedule(anchor=created_at, interval=interval, first_k=1, start=start, end=end)
        parsed = cron.parse(expression, day_match=DayMatch(match))
    except CronError as error:
        raise InvalidRuleError(f"parameters.cron: {expression[:200]!r} is not a cron expression: {error}") from None
    return CronSchedule(cron=parsed, zone=zone, start=start, end=end, exclusions=exclusions)


def _exclusions(parameters: Mapping[str, Any]) -> Exclusions:
    entries = parameters.get("exclude")
    if entries is None:
        return NOTHING
    try:
        return exclusions_of(entries)
    except ExclusionError as error:
        raise InvalidRuleError(f"parameters.exclude{error}") from None


def _once_schedule(parameters: Mapping[str, Any]) -> OnceSchedule:
    at = _instant(parameters, "at")
    if at is None:
        raise InvalidRuleError("parameters.at is missing; expected a time like 2026-11-23T12:00:00Z")
    return OnceSchedule(at=at)


def _bounds(parameters: Mapping[str, Any]) -> tuple[int | None, int | None]:
    start, end = _instant(parameters, "start"), _instant(parameters, "end")
    if start is not None and end is not None and end < start:
        raise InvalidRuleError("parameters.end is before parameters.start, so the timer would never fire")
    return start, end


def _missed(parameters: Mapping[str, Any], *, default: Missed) -> MissedPolicy:
    choice, most = parameters.get("missed", default), parameters.get("maxMissed", DEFAULT_MOST)
    if choice not in list(Missed):
        raise InvalidRuleError(f"parameters.missed is {choice!r}; expected one of: {', '.join(Missed)}")
    if isinstance(most, bool) or not isinstance(most, int) or not 1 <= most <= LARGEST_MOST:
        raise InvalidRuleError(f"parameters.maxMissed is {most!r}; expected a number from 1 to {LARGEST_MOST}")
    return MissedPolicy(missed=Missed(choice), most=most)


def _data(parameters: Mapping[str, Any]) -> Mapping[str, Any] | None:
    value = parameters.get("data")
    if value is None:
        return None
    if not isinstance(value, dict):
        raise InvalidRuleError(f"parameters.data is {value!r}; expected an object")
    if (size := len(msgspec.json.encode(value))) > MAX_DATA:
        raise InvalidRuleError(f"parameters.data has {size} bytes as JSON; at most {MAX_DATA} are allowed")
    return value


def _jitter(parameters: Mapping[str, Any]) -> int:
    value = parameters.get("jitter", 0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_JITTER // 1_000_000:
        raise InvalidRuleError(
            f"parameters.jitter is {value!r}; expected a number of seconds, at most {MAX_JITTER // 1_000_000}"
        )
    return int(Decimal(str(value)) * 1_000_000)


def _interval(parameters: Mapping[str, Any]) -> int:
    value = parameters.get("interval")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidRuleError(f"parameters.interval is {value!r}; expected a positive number, like 5")
    unit = parameters.get("unit", "seconds")
    if not isinstance(unit, str) or unit not in UNITS:
        raise InvalidRuleError(f"parameters.unit is {unit!r}; expected one of: {', '.join(UNITS)}")
    # Through its decimal form: 0.1 means a tenth, not the nearest binary fraction. A float too large is infinite.
    exact = Decimal(str(value)) * UNITS[unit]
    if not exact.is_finite() or exact > MAX_INTERVAL:
        raise InvalidRuleError(f"parameters.interval of {value} {unit} is longer than ten years")
    if exact < MIN_INTERVAL:
        raise InvalidRuleError(
            f"parameters.interval of {value} {unit} is shorter than 0.1 seconds, the shortest there is"
        )
    return int(exact.to_integral_value())


def _instant(parameters: Mapping[str, Any], name: str) -> int | None:
    value = parameters.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise InvalidRuleError(f"parameters.{name} is {value!r}; expected a time like 2026-11-23T12:00:00Z")
    try:
        return instants.parse(value)
    except ValueError as error:
        raise InvalidRuleError(f"parameters.{name}: {error}") from None
