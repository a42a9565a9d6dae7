"""Which occurrences are fired late, after the sensor was down, the machine was suspended, or the clock was set forward.

Pure functions; the clock is passed in (docs/timers.md, "Missed occurrences").
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from attune_timer.schedule import Occurrence, Schedule

DEFAULT_MOST: Final = 100
LARGEST_MOST: Final = 10_000


class Missed(StrEnum):
    """What becomes of missed occurrences."""

    SKIP = "skip"  #: those that are only late are fired, older ones are not
    ONCE = "once"  #: the latest one is fired
    ALL = "all"  #: each is fired, oldest first, at most a given number of the latest


@dataclass(frozen=True, slots=True, kw_only=True)
class MissedPolicy:
    """A rule's choice; ``most`` bounds ``all``."""

    missed: Missed = Missed.SKIP
    most: int = DEFAULT_MOST

    def first(
        self, schedule: Schedule, *, after: int, until: int, now: int, grace: int, jitter: int = 0
    ) -> Occurrence | None:
        """The first occurrence to fire that is later than ``after`` and not later than ``until``; from it on, the schedule is
        followed. None when none of them is to be fired.

        Args:
            schedule: the schedule.
            after: the last occurrence that was fired, or when the rule came into force, whichever is later.
            until: when the sensor began to serve the rule.
            now: the wall clock.
            grace: how late an occurrence may be and not count as missed.
            jitter: the longest delay of an occurrence behind its schedule.

        All times are microseconds (those in time since 1970).
        """
        match self.missed:
            case Missed.SKIP:
                return schedule.latest(after=max(after, now - grace - jitter), until=until)
            case Missed.ONCE:
                return schedule.latest(after=after, until=until)
            case Missed.ALL:
                return schedule.first_of_latest(self.most, after=after, until=until)

    def first_at_start(
        self, schedule: Schedule, *, after: int, since: int, grace: int, jitter: int = 0
    ) -> Occurrence | None:
        """As :meth:`first`, for a sensor that has just come back. With ``skip`` all occurrences that are only late are fired, not
        the latest alone, so that a sensor that was away for a moment loses none.

        Args:
            schedule: the schedule.
            after: the last occurrence that was fired, or when the rule came into force, whichever is later.
            since: when the sensor began to serve the rule.
            grace: how late an occurrence may be and not count as missed.
            jitter: the longest delay of an occurrence behind its schedule.
        """
        if self.missed is not Missed.SKIP:
            return self.first(schedule, after=after, until=since, now=since, grace=grace, jitter=jitter)
        found = schedule.next(max(after, since - grace - jitter))
        return found if found is not None and found.at <= since else None
