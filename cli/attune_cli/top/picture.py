"""Draws a view in so many columns and lines. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from attune_cli.output import Tone, printable, width
from attune_cli.top.view import SensorRow, View

#: The narrowest and lowest picture: a smaller terminal cuts it.
MIN_WIDTH: Final = 60
MIN_HEIGHT: Final = 12
_UNKNOWN: Final = "-"
_HEADS: Final = ("READY", "RULES", "EVENTS/S", "LATE P99", "QUEUED", "SPOOL", "API P99")
_WIDTHS: Final = (7, 6, 9, 9, 7, 6, 9)
#: By the status of the condition Ready; another one (Paused, Unknown) waits for something.
_TONES: Final[dict[str, Tone | None]] = {"True": None, "False": "bad"}


@dataclass(frozen=True, slots=True)
class Line:
    """One line, and what its colour says."""

    text: str
    tone: Tone | None = None
    bold: bool = False


def picture(view: View, *, asked: str, columns: int, lines: int | None) -> list[Line]:
    """The picture, what is wrong first.

    Args:
        view: what is shown.
        asked: the system.
        columns: of the terminal; longer lines are cut.
        lines: of the terminal; None for as many as it takes.
    """
    columns = max(columns, MIN_WIDTH)
    totals = [Line(f"{name:<9}{text}", tone) for name, text, tone in _totals(view)]
    fixed = 1 + 1 + len(totals) + 1 + 1  # the title, and lines between the blocks
    room = None if lines is None else max(lines, MIN_HEIGHT) - fixed
    problems = list(_problems(view, None if room is None else max(1, room - min(len(view.sensors) + 1, room // 2))))
    left = None if room is None else room - len(problems)
    drawn = [
        Line(f"{view.at[11:19]}  {asked}", bold=True),
        *problems,
        Line(""),
        *totals,
        Line(""),
        *_sensors(view.sensors, columns, left),
    ]
    return [Line(cut(line.text, columns), line.tone, line.bold) for line in drawn][:lines]


def _problems(view: View, most: int | None) -> Iterator[Line]:
    if not view.problems:
        yield Line("Nothing is wrong." if not view.unknown else "Nothing is wrong as far as can be seen.", "good")
    listed = view.problems if most is None or len(view.problems) <= most else view.problems[: max(0, most - 1)]
    for problem in listed:
        yield Line(f"! {problem}", "bad")
    if len(view.problems) > len(listed):
        yield Line(f"! {len(view.problems) - len(listed)} more: attune status", "bad")
    for what in view.unknown[:2]:
        yield Line(f"? {what}", "waiting")


def _totals(view: View) -> Iterator[tuple[str, str, Tone | None]]:
    refused, dropped = view.refused_per_second, view.dropped_per_second
    yield (
        "EVENTS",
        f"{rate(view.stored_per_second)} stored, {rate(refused)} refused, {rate(dropped)} dropped, "
        f"{number(view.waiting_for_database)} wait for the database",
        "bad" if refused or dropped else None,
    )
    yield "TIMERS", f"99 of 100 are less than {seconds(view.lateness_p99_seconds)} late", None
    yield "OUTBOX", f"{number(view.outbox_lag)} events behind", None
    yield "SPOOL", f"{number(view.spooled)} events on sensors' disks", "bad" if view.spooled else None
    yield (
        "RUNS",
        f"{rate(view.runs_succeeded_per_second)} succeed, {rate(view.runs_failed_per_second)} fail, "
        f"{number(view.runs_under_way)} under way, {seconds(view.run_delay_p99_seconds)} after the event",
        "bad" if view.runs_failed_per_second else None,
    )
    yield "RULES", ", ".join(f"{count} {reason}" for reason, count in view.rules.items()) or _UNKNOWN, None


def _sensors(rows: Sequence[SensorRow], columns: int, room: int | None) -> Iterator[Line]:
    wide = columns - sum(_WIDTHS)
    yield Line(_columns("SENSOR", _HEADS, wide), bold=True)
    # What is not ready, then what does most.
    ordered = sorted(rows, key=lambda row: (row.ready == "True", -(row.events_per_second or 0), row.sensor))
    shown = ordered if room is None or len(ordered) + 1 <= room else ordered[: max(0, room - 2)]
    for row in shown:
        cells = (
            row.ready,
            str(row.rules),
            _UNKNOWN if row.events_per_second is None else f"{row.events_per_second:.1f}",
            seconds(row.lateness_p99_seconds),
            number(row.queued),
            number(row.spooled),
            seconds(row.api_p99_seconds),
        )
        tone = _TONES.get(row.ready, "waiting")
        yield Line(_columns(row.sensor, cells, wide), tone)
    if len(shown) < len(ordered):
        yield Line(f"{len(ordered) - len(shown)} more: attune sensors list -A")


def _columns(first: str, others: Sequence[str], wide: int) -> str:
    name = cut(first, wide - 1)
    padded = name + " " * (wide - width(name))
    return padded + "".join(f"{cell:>{size}}" for cell, size in zip(others, _WIDTHS, strict=True))


def cut(text: str, columns: int) -> str:
    """One line of at most so many columns, without what would steer the terminal."""
    text = printable(text)
    if width(text) <= columns:
        return text
    kept = ""
    for character in text:
        if width(kept + character) > columns - 1:
            break
        kept += character
    return f"{kept}…"


def rate(value: float | None) -> str:
    """So many a second."""
    return _UNKNOWN if value is None else f"{value:.1f}/s"


def number(value: int | None) -> str:
    """A count."""
    return _UNKNOWN if value is None else str(value)


def seconds(value: float | None) -> str:
    """A duration, in the unit that gives it three digits or fewer."""
    if value is None:
        return _UNKNOWN
    if value < 1:
        return f"{value * 1000:.1f} ms" if value < 0.0995 else f"{value * 1000:.0f} ms"
    return f"{value:.1f} s" if value < 100 else f"{value:.0f} s"
