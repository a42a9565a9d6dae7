"""Where reading begins and goes on, and what is committed. Pure."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple


class Place(NamedTuple):
    """Where a record was read.

    Attributes:
        partition: the partition.
        turn: which assignment of the partition it was read in (:class:`Turns`).
        offset: its offset.
        leader_epoch: the epoch of the leader that took it; -1: it is not known.
    """

    partition: int
    turn: int
    offset: int
    leader_epoch: int


class Gap(NamedTuple):
    """Kafka no longer has the record that is to be read next.

    Attributes:
        partition: the partition.
        expected: the offset of that record.
        found: the offset at which reading goes on: the first record that there is.
    """

    partition: int
    expected: int
    found: int

    @property
    def lost(self) -> int:
        """How many records were not read and are gone, at most."""
        return max(0, self.found - self.expected)

    @property
    def text(self) -> str:
        """A clause for the rules' authors."""
        if self.lost:
            return (
                f"partition {self.partition}: Kafka deleted the offsets {self.expected} to {self.found - 1} (retention) "
                "before they were read"
            )
        return (
            f"partition {self.partition}: Kafka has lost what was at the offset {self.expected}, so it is read again "
            "from its beginning"
        )


class Turns:
    """Which partitions are ours, and since which assignment.

    A partition that went to another replica and came back is read from what was committed. What was read of it before must
    not be committed any more: the other one may be further.
    """

    def __init__(self) -> None:
        self._turns: dict[int, int] = {}
        self._last = 0

    def begin(self, partitions: Iterable[int]) -> None:
        """They are ours from now on."""
        for partition in partitions:
            self._last += 1
            self._turns[partition] = self._last

    def end(self, partitions: Iterable[int]) -> None:
        """They are no longer ours."""
        for partition in partitions:
            self._turns.pop(partition, None)

    def of(self, partition: int) -> int | None:
        """The turn of a partition; None: it is not ours."""
        return self._turns.get(partition)

    @property
    def partitions(self) -> list[int]:
        """Those that are ours."""
        return sorted(self._turns)

    def furthest(self, places: Iterable[Place]) -> list[Place]:
        """Of each partition that is still ours since the record was read: the last of these places."""
        last: dict[int, Place] = {}
        for place in places:
            if self._turns.get(place.partition) != place.turn:
                continue
            if place.partition not in last or last[place.partition].offset < place.offset:
                last[place.partition] = place
        return list(last.values())


def is_new(committed: Mapping[int, int | None]) -> bool:
    """Whether a group never had a position in a topic.

    If it had one in some partition, the others were added later: all that is in them is new.

    Args:
        committed: of each partition, the offset that the group reads next; None: it has none.
    """
    return all(offset is None for offset in committed.values())
