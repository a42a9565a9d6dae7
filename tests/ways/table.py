"""The table in docs/ways-not-to-fire.md, from what was found. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ways.way import PLACES, Found, Way

_BEGIN = "<!-- table: made by `make ways` -->"
_END = "<!-- end of the table -->"
_LONGEST = 220


def verdict(ways: Sequence[Way], found: Sequence[Found]) -> dict[str, object]:
    """How many were told, how soon, and how many wrongly."""
    by_name = {way.name: way for way in ways}
    times = [one.slowest(by_name[one.name]) for one in found if not one.error]
    told = [time for time in times if time is not None]
    return {
        "ways": len(found),
        "could not be made to happen": [one.name for one in found if one.error],
        "told everywhere": len(told),
        "not told somewhere": [one.name for one in found if not one.error and one.slowest(by_name[one.name]) is None],
        "wrong": [one.name for one in found if one.wrong],
        "within 10 s": sum(time <= 10 for time in told),
        "within 20 s": sum(time <= 20 for time in told),
        "slowest": max(told, default=None),
    }


def rows(ways: Sequence[Way], found: Sequence[Found]) -> list[str]:
    """The table's lines."""
    by_name = {one.name: one for one in found}
    lines = [
        "| way | the sentence | `get -o wide` | `describe` | `attune status` | of that, Kubernetes |",
        "|---|---|---|---|---|---|",
    ]
    for way in ways:
        one = by_name.get(way.name)
        if one is None:
            continue
        seconds = [_seconds(way, one, place) for place in PLACES]
        kubelet = "" if one.kubelet is None else f"{one.kubelet:.1f}"
        what = f"{way.what} ({way.but})" if way.but else way.what
        lines.append("| " + " | ".join([what, _sentence(one), *seconds, kubelet]) + " |")
    return lines


def into(page: str, lines: Sequence[str], figures: str) -> str:
    """The page with this table in place of the old one."""
    table = "\n".join([_BEGIN, "", figures, "", *lines, "", _END])
    return re.sub(f"{re.escape(_BEGIN)}.*?{re.escape(_END)}", lambda _: table, page, flags=re.DOTALL)


def figures(summary: dict[str, object]) -> str:
    """The verdict as a sentence."""
    return (
        f"{summary['ways']} ways. Told in all places: {summary['told everywhere']}, within 10 seconds "
        f"{summary['within 10 s']}, within 20 seconds {summary['within 20 s']}. Wrong: {len(_list(summary['wrong']))}."
    )


def _list(value: object) -> list[object]:
    return list(value) if isinstance(value, list) else []


def _seconds(way: Way, one: Found, place: str) -> str:
    if place not in way.places:
        return "-"
    return f"{one.seconds[place]:.1f}" if place in one.seconds else "never"


def _sentence(one: Found) -> str:
    line = next(
        (one.lines[place] for place in ("describe", "get", "status") if place in one.lines), one.error or "none"
    )
    line = re.sub(r"^(Rule|Sensor) \S+: (Event \w+ )?", r"\1 ", line)
    line = re.sub(r"-[0-9a-f]{8,10}-[a-z0-9]{5}\b", "-…", line)
    line = line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"
    return line.replace("|", "\\|").replace("<", "&lt;")
