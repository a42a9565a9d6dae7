"""Events that this replica has just stored, on their way to the outbox without being read back from the database.

Only what follows a place without a gap is handed out. Numbers are drawn and committed in their order
(:mod:`attune_api.events.ingest.sql`), so between a place and the number behind it there is nothing that another replica could
have stored, and nothing that may still become visible. Where there is a gap, the outbox reads the table.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from attune_api.events.table import rfc3339
from attune_contract.events import Event

#: Events that are kept for the outbox at most, and the bytes of their payloads.
_MOST: Final = 2000
_MOST_BYTES: Final = 4 * 1024 * 1024

Row = Mapping[str, Any]


class FreshEvents:
    """What was stored and not taken yet, oldest first. What there is no room for is left to be read.

    Attributes:
        wanted: whether somebody takes them; nothing is kept until then.
    """

    def __init__(self, *, most: int = _MOST, most_bytes: int = _MOST_BYTES) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._kept: deque[tuple[int, Row]] = deque()
        self._bytes = 0
        self._left_out = False
        self.wanted = False

    def add(self, stored: Iterable[tuple[int, Row]]) -> None:
        """Keep what one transaction stored: each event's ``seq`` and its row."""
        if not self.wanted:
            return
        for seq, row in sorted(stored, key=lambda each: each[0]):
            size = len(row["payload"])
            if len(self._kept) >= self._most or self._bytes + size > self._most_bytes:
                self._left_out = True
                return
            self._kept.append((seq, row))
            self._bytes += size

    def take(self, *, beyond: int, limit: int) -> tuple[Sequence[Event], bool]:
        """The events that follow the place ``beyond`` without a gap, at most ``limit``, and whether more were stored behind them.

        What lies before that place is forgotten. After an answer without events the table must be read.
        """
        taken: list[Event] = []
        while self._kept and len(taken) < limit:
            seq, row = self._kept[0]
            if seq > beyond + 1:
                break
            self._kept.popleft()
            self._bytes -= len(row["payload"])
            if seq == beyond + 1:
                taken.append(_event(seq, row))
                beyond = seq
        more = bool(self._kept) or self._left_out
        if not taken:
            self._left_out = False
        return taken, more

    def forget(self) -> None:
        """Keep nothing any more, until it is wanted again."""
        self.wanted = False
        self._kept.clear()
        self._bytes = 0
        self._left_out = False


def _event(seq: int, row: Row) -> Event:
    """The event as it would be read."""
    values = dict(row)
    values["seq"] = seq
    values["occurred_at"] = rfc3339(row["occurred_at"])
    values["received_at"] = rfc3339(row["received_at"])
    return Event(**values)
