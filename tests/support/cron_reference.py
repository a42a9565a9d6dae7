"""A second, slow implementation of what docs/timers.md says about cron timers, to hold the product against.

It shares no code with the product but the zones: fields are looked at value by value, and times are found by looking at every
minute (or second) of the real clock, or at every local time of the day.
"""

import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

from attune_contract.calendar import zones

_NAMES = {
    "month": ["", "JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"],
    "weekday": ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"],
}
_RANGES = {"second": (0, 59), "minute": (0, 59), "hour": (0, 23), "day": (1, 31), "month": (1, 12), "weekday": (0, 6)}


def _number(kind: str, text: str) -> int:
    names = _NAMES.get(kind, [])
    return names.index(text.upper()) if text.upper() in names and text else int(text)


def _allowed(kind: str, term: str) -> set[int]:
    low, high = _RANGES[kind]
    base, _, step_text = term.partition("/")
    step = int(step_text or 1)
    if base in {"*", "?"}:
        walk = list(range(low, high + 1))
    elif "-" in base:
        begin, end = (_number(kind, part) for part in base.split("-"))
        if kind == "weekday" and begin == 7 and end != 7:
            begin = 0
        walk = [begin]
        while walk[-1] != end and len(walk) <= high - low:
            # Sunday is both 0 and 7, so a walk over the week may pass it by either name.
            following = walk[-1] + 1
            walk.append(low if following > (7 if kind == "weekday" and end == 7 else high) else following)
    elif step_text:
        walk = list(range(_number(kind, base) % (7 if kind == "weekday" else 1000), high + 1))
    else:
        walk = [_number(kind, base)]
    return {value % 7 if kind == "weekday" else value for value in walk[::step]}


def _day_matches(day: datetime, numbers: str, weekdays: str, *, both: bool) -> bool:
    length = ((day.replace(day=28) + timedelta(days=4)).replace(day=1) - timedelta(days=1)).day
    weekday = day.isoweekday() % 7
    by_number = by_weekday = False
    for term in numbers.upper().split(","):
        if term == "L":
            by_number |= day.day == length
        elif term == "LW":
            last = day.replace(day=length)
            while last.isoweekday() > 5:
                last -= timedelta(days=1)
            by_number |= day.day == last.day
        else:
            by_number |= day.day in _allowed("day", term)
    for term in weekdays.upper().split(","):
        if "#" in term:
            name, which = term.split("#")
            by_weekday |= weekday == _number("weekday", name) % 7 and (day.day + 6) // 7 == int(which)
        elif term.endswith("L"):
            by_weekday |= weekday == _number("weekday", term[:-1]) % 7 and day.day + 7 > length
        else:
            by_weekday |= weekday in _allowed("weekday", term)
    stars = numbers[0] in "*?" or weekdays[0] in "*?"
    return (by_number and by_weekday) if both or stars else (by_number or by_weekday)


@dataclass(frozen=True)
class Case:
    """An expression in a zone, from one instant to another (both seconds since 1970)."""

    expression: str
    zone: str
    begin: int
    end: int
    both: bool = False


def expected(case: Case) -> list[int]:
    """When it fires in [begin, end], in seconds since 1970, in order."""
    parts = case.expression.split()
    second, minute, hour, number, month, weekday = parts if len(parts) == 6 else ["0", *parts]
    fields = [
        {value for term in text.split(",") for value in _allowed(kind, term)}
        for kind, text in (("second", second), ("minute", minute), ("hour", hour), ("month", month))
    ]
    zone = zones.zone(case.zone)
    step = 1 if second not in {"0", "00"} else 60
    days: dict[tuple[int, int, int], bool] = {}

    def matches(local: datetime) -> bool:
        if local.second not in fields[0] or local.minute not in fields[1] or local.hour not in fields[2]:
            return False
        key = (local.year, local.month, local.day)
        if key not in days:
            days[key] = local.month in fields[3] and _day_matches(
                local,
                number,
                weekday,
                both=case.both,
            )
        return days[key]

    begin = -(-case.begin // step) * step
    if minute.startswith("*") or hour.startswith("*"):
        # An interval of real time: whenever the local clock matches.
        return [at for at in range(begin, case.end + 1, step) if matches(_local(zone, at))]
    # Times of the day: each local time once, the first time that it comes; what is skipped at the end of the gap.
    found: set[int] = set()
    local = _local(zone, case.begin) - timedelta(days=2)
    local = local.replace(second=0, microsecond=0) if step == 60 else local
    last = _local(zone, case.end) + timedelta(days=2)
    while local <= last:
        if matches(local):
            at = _first_instant(zone, local)
            if case.begin <= at <= case.end:
                found.add(at)
        local += timedelta(seconds=step)
    return sorted(found)


def _local(zone: ZoneInfo, at: int) -> datetime:
    return datetime.fromtimestamp(at, UTC).astimezone(zone).replace(tzinfo=None)


def _first_instant(zone: ZoneInfo, local: datetime) -> int:
    offsets = {_offset(zone, int(local.replace(tzinfo=UTC).timestamp()) + hours * 3600) for hours in range(-30, 31, 2)}
    instants = sorted(int(local.replace(tzinfo=UTC).timestamp()) - offset for offset in offsets)
    for at in instants:
        if _local(zone, at) == local:
            return at
    # In a gap: the first instant whose local time is later. It is between the two readings.
    low, high = instants[0] - 1, instants[-1]
    while _local(zone, low) > local:
        low -= 3600
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _local(zone, middle) < local else (low, middle)
    return high


def _offset(zone: ZoneInfo, at: int) -> int:
    offset = datetime.fromtimestamp(at, UTC).astimezone(zone).utcoffset()
    return 0 if offset is None else int(offset.total_seconds())


def changes(zone: str, begin: int, end: int) -> list[int]:
    """The instants in [begin, end) at which a zone's offset changes."""
    info = zones.zone(zone)
    found = []
    for low, high in pairwise(range(begin, end, 3 * 86_400)):
        if _offset(info, low) != _offset(info, high):
            new = _offset(info, high)
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (low, middle) if _offset(info, middle) == new else (middle, high)
            found.append(high)
    return found


def random_expression(chance: random.Random) -> str:
    """Any kind of expression that can be written."""

    def field(kind: str) -> str:
        low, high = _RANGES[kind]
        names = _NAMES.get(kind)

        def value() -> str:
            number = chance.randint(low, 7 if kind == "weekday" else high)
            named = names is not None and chance.random() < 0.3 and names[number % 7 if kind == "weekday" else number]
            return str(named or number)

        def term() -> str:
            shape = chance.random()
            if shape < 0.5:
                return value()
            if shape < 0.75:
                return f"{value()}-{value()}"
            if shape < 0.9:
                return f"{value()}-{value()}/{chance.randint(1, 9)}"
            return f"{value()}/{chance.randint(1, 9)}"

        shape = chance.random()
        if shape < 0.35 or (kind == "month" and shape < 0.7):
            return "*"
        if shape < 0.5:
            return f"*/{chance.randint(1, high)}"
        if kind == "day" and shape < 0.6:
            return chance.choice(["L", "LW", "?", "1,L"])
        if kind == "weekday" and shape < 0.65:
            return chance.choice(["5L", "FRIL", "1#2", "SUN#1", "?", "MON,3#3"])
        return ",".join(term() for _ in range(chance.choice([1, 1, 1, 2, 3])))

    return " ".join(field(kind) for kind in ("minute", "hour", "day", "month", "weekday"))


def cases(number: int, seed: int) -> list[Case]:
    """Random expressions, most of them around a change of a random zone's clocks in 2024 to 2040."""
    chance = random.Random(seed)
    names = sorted(zones.shipped().names)
    begin = int(datetime(2024, 1, 1, tzinfo=UTC).timestamp())
    end = int(datetime(2040, 12, 31, tzinfo=UTC).timestamp())
    known: dict[str, list[int]] = {}
    found: list[Case] = []
    while len(found) < number:
        zone = chance.choice(names)
        if zone not in known:
            known[zone] = changes(zone, begin, end)
        if not known[zone] and chance.random() < 0.8:
            continue
        at = chance.choice(known[zone]) if known[zone] else chance.randint(begin, end)
        expression = random_expression(chance)
        hours = 30
        if chance.random() < 0.15:
            expression, hours = f"{chance.choice(['30', '*/20', '5,50', '*'])} {expression}", 5
        before = chance.randint(0, hours * 3600)
        found.append(Case(expression, zone, at - before, at - before + hours * 3600, chance.random() < 0.1))
    return found
