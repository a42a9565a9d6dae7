"""What a timer says of its next occurrence: pure functions (docs/timers.md, "When it fires next")."""

from typing import Final

from attune_timer import instants
from attune_timer.schedule import Occurrence, Schedule

#: The next occurrence is worth saying when at least so many microseconds lie before it, or between it and the one after it.
SPARSE: Final = 60_000_000
#: A rule whose next occurrence is further away than this (microseconds) says so in a sentence: it may be a mistake.
FAR: Final = 31 * 86_400_000_000


def worth_saying(schedule: Schedule, following: Occurrence | None, *, now: int) -> Occurrence | None:
    """The next occurrence, if it is worth saying; None if there is none, or they come so often that nobody reads it in time.

    Args:
        schedule: the timer's.
        following: its next occurrence.
        now: the wall clock.
    """
    if following is None or following.at - now >= SPARSE:
        return following
    after = schedule.next(following.at)
    return following if after is None or after.at - following.at >= SPARSE else None


def remark(following: Occurrence | None, *, now: int) -> str:
    """A sentence for the rule's author when the next occurrence is far away; empty otherwise."""
    if following is None or following.at - now <= FAR:
        return ""
    return f"No event is due before {instants.to_datetime(following.at).strftime('%Y-%m-%dT%H:%M:%SZ')}."
