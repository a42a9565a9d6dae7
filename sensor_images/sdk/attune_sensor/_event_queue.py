"""Events that wait in memory for their delivery, in order, and how many bytes they take."""

import collections
from collections.abc import Iterator, Sequence

from attune_sensor._confirmations import Disposition, confirm, is_overtaking, is_spooled


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

    def put_all(self, records: Sequence[bytes]) -> None:
        """Add all of them at the end."""
        self._records.extend(records)
        self.bytes += sum(map(len, records))

    def take(self) -> bytes:
        """Remove the one that came first."""
        record = self._records.popleft()
        self.bytes -= len(record)
        return record

    def take_batch(self, *, most: int, size: int) -> list[bytes]:
        """Remove those that came first: at least one if there is any, at most so many, and of no more bytes than ``size``
        together with a comma each. Those that must not overtake another one are dropped on the way.
        """
        records = self._records
        batch: list[bytes] = []
        while records and len(batch) < most:
            length = len(records[0])
            if is_overtaking(records[0]):
                confirm(records.popleft(), Disposition.DROPPED, "one before it has to be reported again")
                self.bytes -= length
                continue
            size -= length + 1
            if size < 0 and batch:
                break
            batch.append(records.popleft())
            self.bytes -= length
        return batch

    def put_back(self, records: Sequence[bytes]) -> None:
        """Put records that were taken back to the front, except those that are on disk by now: they are delivered from
        there.
        """
        for record in reversed(records):
            if not is_spooled(record):
                self._records.appendleft(record)
                self.bytes += len(record)
