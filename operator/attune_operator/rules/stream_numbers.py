"""Whether somebody else wrote to a stream that only the operator writes to: told by the stream's numbers, without reading it."""

from dataclasses import dataclass
from typing import NamedTuple

from attune_operator.streams.definitions import StreamIdentity


class Known(NamedTuple):
    """What was known when the stream was asked for its numbers. Answers to our own writes may overtake the one to that."""

    newest: int
    ours: int
    live: int

    def precedes(self, now: StreamIdentity) -> bool:
        """Whether the stream can be the one that is known: it only grows."""
        return now.last_sequence >= self.newest

    def matches(self, now: StreamIdentity) -> bool:
        """Whether it has what we know of, and nothing that somebody else wrote or took away. Only while we write nothing."""
        return now.last_sequence == self.ours and now.messages >= self.live


@dataclass(slots=True)
class StreamNumbers:
    """What is known of a stream.

    Attributes:
        live: how many subjects hold a state, and not a tombstone.
        last_sequence: the newest sequence that we know of.
        read_up_to: the stream's newest sequence when all of it was read.
        stored: our own messages that it took since then. If its newest sequence is not the sum of the two, somebody else
            wrote, also when a message of ours came after that.
    """

    live: int = 0
    last_sequence: int = 0
    read_up_to: int = 0
    stored: int = 0

    def see(self, sequence: int) -> None:
        """There is a message with this sequence."""
        self.last_sequence = max(self.last_sequence, sequence)

    def read(self, before: StreamIdentity) -> None:
        """All of the stream was read, which had these numbers before."""
        self.see(before.last_sequence)
        self.read_up_to, self.stored = before.last_sequence, 0

    def known(self) -> Known:
        """What is known now, to be compared with an answer that is asked for now."""
        return Known(newest=self.last_sequence, ours=self.read_up_to + self.stored, live=self.live)
