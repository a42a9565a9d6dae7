"""The messages of a source that were reported and are not acknowledged yet, in the order in which they were read."""

import asyncio
import collections
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from attune_sensor._confirmations import Answers, Course
from attune_sensor._source_progress import is_settled
from attune_sensor._sources import Message

#: No more is read while so many messages, or so many bytes of them, are under way; what was read last comes on top.
AHEAD: Final = 1500
AHEAD_BYTES: Final = 4 * 1024 * 1024
#: The same for all sources of a sensor together. Each may have one batch under way all the same.
SHARED_BYTES: Final = 12 * 1024 * 1024


class Budget:
    """Bytes that all sources of a sensor have under way. When they are too many, each has one batch at a time."""

    def __init__(self) -> None:
        self.used = 0

    @property
    def room(self) -> bool:
        """Whether they may have more."""
        return self.used < SHARED_BYTES


@dataclass(frozen=True, slots=True)
class _Batch:
    messages: Sequence[Message]
    size: int
    events: Sequence[int]  # of each message, how many it has
    answers: Answers
    at: float

    def settled(self) -> list[bool]:
        """Of each message, whether it needs not be delivered again."""
        if self.answers.settled:
            return [True] * len(self.messages)
        confirmations = self.answers.confirmations
        ends = itertools.accumulate(self.events)
        return [is_settled(confirmations[end - own : end]) for own, end in zip(self.events, ends, strict=True)]

    @property
    def wait(self) -> float:
        """Seconds until it is worth trying again."""
        return max((confirmation.wait for confirmation in self.answers.confirmations), default=0.0)


class Window:
    """Batches under way.

    Args:
        budget: shared with other sources.

    Attributes:
        course: what the events of these batches belong to.
        held_at: when (in seconds) ``hold`` was called last.
    """

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._batches: collections.deque[_Batch] = collections.deque()
        self._number = self._size = 0
        self.course = Course()
        self.held_at = float("-inf")

    def __len__(self) -> int:
        """Messages under way."""
        return self._number

    @property
    def room(self) -> bool:
        """Whether another batch may be read."""
        return not self._batches or (self._number < AHEAD and self._size < AHEAD_BYTES and self._budget.room)

    @property
    def messages(self) -> list[Message]:
        """All of them, in order."""
        return [message for batch in self._batches for message in batch.messages]

    @property
    def oldest(self) -> "asyncio.Future[None]":
        """Done when the answers to the oldest batch are known; there must be one."""
        return self._batches[0].answers.known

    @property
    def since(self) -> float:
        """Since when (in seconds) the oldest batch is under way without a call of ``hold``; there must be one."""
        return max(self.held_at, self._batches[0].at)

    @property
    def unknown(self) -> "list[asyncio.Future[None]]":
        """Done when the answers to all batches are known."""
        return [batch.answers.known for batch in self._batches if not batch.answers.known.done()]

    def add(self, messages: Sequence[Message], answers: Answers, *, events: Sequence[int], now: float) -> None:
        """A batch was reported.

        Args:
            messages: its messages.
            answers: what will be known of their events: first of those of the first message, and so on.
            events: of each message, how many events it has.
            now: seconds.
        """
        batch = _Batch(messages, sum(message.size for message in messages), events, answers, now)
        self._batches.append(batch)
        self._count(batch, 1)

    def take_settled(self) -> list[Message]:
        """Remove the oldest batches, as far as all of their messages are settled; returns these."""
        done: list[Message] = []
        while self._batches and self.oldest.done() and self._batches[0].answers.settled:
            done += self._remove().messages
        return done

    @property
    def broken(self) -> bool:
        """Whether something of the oldest batch has to be reported again; after :meth:`take_settled`."""
        return bool(self._batches) and self.oldest.done()

    def take_all(self) -> tuple[list[Message], list[bool], float]:
        """Remove all batches, whose answers must be known.

        Returns:
            Their messages; of each, whether it is settled; and the seconds until it is worth reporting the others again.
        """
        messages: list[Message] = []
        settled: list[bool] = []
        wait = 0.0
        while self._batches:
            batch = self._remove()
            messages += batch.messages
            settled += batch.settled()
            wait = max(wait, batch.wait)
        return messages, settled, wait

    def abandon(self) -> None:
        """The messages are nobody's any more: they will be read and reported again, and what was not sent yet is not sent."""
        self.course.broken = True
        while self._batches:
            self._remove()

    def _remove(self) -> _Batch:
        batch = self._batches.popleft()
        self._count(batch, -1)
        return batch

    def _count(self, batch: _Batch, sign: int) -> None:
        self._number += sign * len(batch.messages)
        self._size += sign * batch.size
        self._budget.used += sign * batch.size
