"""Events that wait in memory for their delivery, in order, and how many bytes they take."""

import collections
from collections.abc import Iterator, Sequence

from attune_sensor._confirmations import is_spooled


class EventQueue:
    """Encoded events in the order in which they were reported.

    Args:
        limit: bytes that it should hold at most. Callers of :meth:`put` ask :meth:`fits` first; :meth:`put_back` may
            exceed it.
    """

    def __init__(self, *, limit: int) -> None:
        self.limit = limit
        self.bytes = 0
        self._records: collections.deque[bytes] = collections.deque()

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._records)

    @property
    def first(self) -> bytes:
        """The one that came first; there must be one."""
        return self._records[0]

    def fits(self, size: int) -> bool:
        """Whether there is room for so many bytes more."""
        return self.bytes + size <= self.limit

    def put(self, record: bytes) -> None:
        """Add one at the end."""
        self._records.append(record)
        self.bytes += len(record)

    def take(self) -> bytes:
        """Remove the one that came first."""
        record = self._records.popleft()
        self.bytes -= len(record)
        return record

    def put_back(self, records: Sequence[bytes]) -> None:
        """Put records that were taken back to the front, except those that are on disk by now: they are delivered from
        there.
        """
        for record in reversed(records):
            if not is_spooled(record):
                self._records.appendleft(record)
                self.bytes += len(record)
