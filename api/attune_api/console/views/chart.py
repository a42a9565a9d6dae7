"""A chart of counts per interval as what an SVG needs: bars, lines and labels in its own units."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

#: The spans that can be chosen: their length, and the interval of a bar, in seconds.
SPANS: Final[Mapping[str, tuple[int, int]]] = {
    "1h": (3600, 60),
    "6h": (21_600, 300),
    "1d": (86_400, 900),
    "7d": (604_800, 21_600),
    "30d": (2_592_000, 86_400),
}
#: The same in words.
WORDS: Final[Mapping[str, tuple[str, str]]] = {
    "1h": ("the last hour", "a minute"),
    "6h": ("the last six hours", "five minutes"),
    "1d": ("the last day", "a quarter of an hour"),
    "7d": ("the last seven days", "six hours"),
    "30d": ("the last thirty days", "a day"),
}
WIDE: Final = 720
HIGH: Final = 150
_LEFT: Final = 46
_TOP: Final = 10
_BOTTOM: Final = 22
_GAP: Final = 0.18
_LINES: Final = 3
_LABELS: Final = 6


@dataclass(frozen=True, slots=True)
class Bar:
    """One interval: where it is drawn, and what it says."""

    x: float
    y: float
    wide: float
    high: float
    says: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A label at a place: of a line across, or of a time below."""

    at: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """What is drawn."""

    bars: list[Bar]
    lines: list[Mark]
    times: list[Mark]
    total: int
    most: int
    wide: int = WIDE
    high: int = HIGH
    left: int = _LEFT
    floor: int = HIGH - _BOTTOM


def bounds(span: str, now: datetime) -> tuple[datetime, datetime, int]:
    """From when to when a span is, in whole intervals, and how long these are in seconds."""
    length, interval = SPANS[span]
    end = (int(now.timestamp()) // interval + 1) * interval
    return datetime.fromtimestamp(end - length, UTC), datetime.fromtimestamp(end, UTC), interval


def chart(counts: Mapping[datetime, int], *, after: datetime, before: datetime, interval: int) -> Chart:
    """The chart of some counts.

    Args:
        counts: how many, by the beginning of the interval; those that are left out are zero.
        after: where it begins.
        before: where it ends.
        interval: seconds of one bar.
    """
    begins = [after + timedelta(seconds=at) for at in range(0, int((before - after).total_seconds()), interval)]
    values = [counts.get(begin, 0) for begin in begins]
    top = ceiling(max(values, default=0))
    floor = HIGH - _BOTTOM
    step = (WIDE - _LEFT) / max(1, len(begins))
    bars = []
    for place, (begin, value) in enumerate(zip(begins, values, strict=True)):
        if value:
            high = max(1.5, (floor - _TOP) * value / top)
            x = _LEFT + place * step + step * _GAP / 2
            says = f"{value:,} from {_time(begin, interval)}"
            bars.append(Bar(round(x, 2), round(floor - high, 2), round(step * (1 - _GAP), 2), round(high, 2), says))
    lines = [
        Mark(round(floor - (floor - _TOP) * part / _LINES, 2), _number(top * part / _LINES))
        for part in range(1, _LINES + 1)
    ]
    every = max(1, round(len(begins) / _LABELS))
    times = [
        Mark(round(_LEFT + place * step, 2), _time(begins[place], interval)) for place in range(0, len(begins), every)
    ]
    return Chart(bars=bars, lines=lines, times=times, total=sum(values), most=max(values, default=0))


def ceiling(most: int) -> int:
    """The top of the scale: the next of 3, 6, 15, 30, 60, 150, …, whose thirds are round."""
    power = 1
    while True:
        for digit in (3, 6, 15):
            if digit * power >= most:
                return digit * power
        power *= 10


def _number(value: float) -> str:
    whole = round(value)
    if whole >= 10_000:
        return f"{whole / 1000:,.0f}k"
    return f"{whole:,}"


def _time(time: datetime, interval: int) -> str:
    return time.strftime("%d %b" if interval >= 21_600 else "%H:%M")
