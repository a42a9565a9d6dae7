"""A time of the day, on some days of the week, in a time zone. Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Self
from zoneinfo import ZoneInfo

from attune_contract.calendar import zones
from attune_contract.calendar.zones import UnknownZoneError

__all__ = ["DAYS", "Daily", "UnknownZoneError"]

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_AT: Final = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")


@dataclass(frozen=True, slots=True)
class Daily:
    """A time of the day. Where clocks are put forward past it, it is as much later; where it comes twice, the first counts."""

    hour: int
    minute: int
    zone: ZoneInfo
    days: frozenset[int]

    @classmethod
    def parse(cls, at: str, *, zone: str, days: Sequence[str] = DAYS) -> Self:
        """Read ``06:00``.

        Raises:
            ValueError: it is no time of the day.
            UnknownZoneError: no zone has this name.
        """
        if (match := _AT.fullmatch(at)) is None:
            raise ValueError(f"{at!r} is no time of the day, like 06:00")
        return cls(int(match[1]), int(match[2]), zones.zone(zone), frozenset(DAYS.index(day) for day in days))

    def next(self, after: int) -> int:
        """The first such time after another one, both in microseconds since 1970."""
        day = (_EPOCH + timedelta(microseconds=after)).astimezone(self.zone).date() - timedelta(days=1)
        while True:
            if day.weekday() in self.days:
                local = datetime(day.year, day.month, day.day, self.hour, self.minute, tzinfo=self.zone)
                at = (local.astimezone(UTC) - _EPOCH) // timedelta(microseconds=1)
                if at > after:
                    return at
            day += timedelta(days=1)
