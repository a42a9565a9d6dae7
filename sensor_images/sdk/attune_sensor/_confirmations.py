"""The disposition of events, for callers that must wait until they are safe (a webhook that owes its sender an answer)."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol


class Disposition(StrEnum):
    """What became of a reported event."""

    STORED = "stored"
    DUPLICATE = "duplicate"  #: an event with this id was stored before
    SPOOLED = "spooled"  #: it is on disk, and is delivered when the API accepts it
    REFUSED = "refused"  #: by the API, finally
    DEFERRED = "deferred"  #: not kept: its namespace is over its quota; to be reported again after a while
    DROPPED = "dropped"  #: there was no room for it, or the sensor stopped


#: The API has it, or never will. On the spool it is safe from a crash, but not from the loss of the pod.
SETTLED: Final = frozenset({Disposition.STORED, Disposition.DUPLICATE, Disposition.REFUSED})
_KEPT: Final = frozenset({Disposition.STORED, Disposition.DUPLICATE, Disposition.SPOOLED})


@dataclass(frozen=True, slots=True)
class Confirmation:
    """The disposition of an event, and the reason where it was not kept; ``wait``: seconds until it is worth trying again."""

    disposition: Disposition
    reason: str | None = None
    wait: float = 0.0

    @property
    def kept(self) -> bool:
        """Whether the event is stored, or will be even if the process ends now."""
        return self.disposition in _KEPT


#: Made once: most events of a busy source have one of these.
_PLAIN: Final = {disposition: Confirmation(disposition) for disposition in Disposition}
_STORED: Final = _PLAIN[Disposition.STORED]
#: The event was not taken at all.
NO_ROOM: Final = Confirmation(Disposition.DROPPED, "too many events wait for the API")


class Course:
    """Events that one reporter reports one after another, and that the API must store in this order.

    When one of them has to be reported again, those behind it must not be stored before it. They are dropped, so that the
    reporter reports all of them again, in a new course.
    """

    def __init__(self) -> None:
        #: One has to be reported again, which is not behind all of those that wait.
        self.broken = False
        #: There was no room for one, so none is taken that comes after it. Those before it go on.
        self.closed = False


class _Pending(Protocol):
    """What waits for the disposition of one event."""

    def done(self) -> bool: ...

    def cancelled(self) -> bool: ...

    def result(self) -> Confirmation: ...

    def set_result(self, result: Confirmation, /) -> None: ...


class _Answer:
    """The disposition of one event of several. Nobody waits for it alone, so it costs less than a future."""

    __slots__ = ("_of", "_value")

    def __init__(self, of: "Answers") -> None:
        self._of = of
        self._value: Confirmation | None = None

    def done(self) -> bool:
        return self._value is not None

    def cancelled(self) -> bool:
        return False

    def result(self) -> Confirmation:
        assert self._value is not None  # noqa: S101 - asked when it is done
        return self._value

    def set_result(self, result: Confirmation, /) -> None:
        self._value = result
        self._of.note(result)


class Answers:
    """What becomes of events that were reported together.

    Args:
        bodies: the events as JSON, in their order.
        course: what they belong to.

    Attributes:
        records: the events, for the queue.
        known: done when the disposition of each is known.
        settled: whether none of those that are known has to be reported again, or is on the spool only.
    """

    def __init__(self, bodies: Sequence[bytes], course: Course) -> None:
        self.course = course
        self.known: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.settled = True
        self._left = len(bodies)
        self._answers = [_Answer(self) for _ in bodies]
        self.records = [
            PendingConfirmation.waited_for(body, answer, course)
            for body, answer in zip(bodies, self._answers, strict=True)
        ]
        if not bodies:
            self.known.set_result(None)

    @property
    def confirmations(self) -> list[Confirmation]:
        """Of each event, in their order; when they are known."""
        return [answer.result() for answer in self._answers]

    def note(self, confirmation: Confirmation) -> None:
        """One more is known."""
        if confirmation is not _STORED and confirmation.disposition not in SETTLED:
            self.settled = False
            # What is on the spool is delivered before what comes later. The others are nowhere.
            if confirmation is not NO_ROOM and confirmation.disposition is not Disposition.SPOOLED:
                self.course.broken = True
        self._left -= 1
        if not self._left and not self.known.done():
            self.known.set_result(None)


class PendingConfirmation(bytes):
    """An event in flight, as JSON, whose reporter waits for its disposition. All other code treats it as bytes."""

    confirmation: _Pending
    course: Course | None

    @classmethod
    def of(cls, body: bytes) -> "tuple[PendingConfirmation, asyncio.Future[Confirmation]]":
        """The same bytes and their pending confirmation; call it in the event loop."""
        confirmation: asyncio.Future[Confirmation] = asyncio.get_running_loop().create_future()
        return cls.waited_for(body, confirmation, None), confirmation

    @classmethod
    def waited_for(cls, body: bytes, confirmation: _Pending, course: Course | None) -> "PendingConfirmation":
        """The same bytes with something that waits for their disposition."""
        record = cls(body)
        record.confirmation = confirmation
        record.course = course
        return record


def confirm(record: bytes, disposition: Disposition, reason: str | None = None, wait: float = 0.0) -> None:
    """Confirm a record. Without effect when its reporter does not wait, waits no longer, or has its answer already."""
    if isinstance(record, PendingConfirmation) and not record.confirmation.done():
        plain = reason is None and not wait
        record.confirmation.set_result(_PLAIN[disposition] if plain else Confirmation(disposition, reason, wait))


def is_pending(record: bytes) -> bool:
    """Whether the reporter of this record still waits for its disposition."""
    return isinstance(record, PendingConfirmation) and not record.confirmation.done()


def is_overtaking(record: bytes) -> bool:
    """Whether this record must not be delivered, because one before it has to be reported again."""
    return isinstance(record, PendingConfirmation) and record.course is not None and record.course.broken


def has_reporter(record: bytes) -> bool:
    """Whether the reporter of this record waits for its disposition, or has it."""
    return isinstance(record, PendingConfirmation)


def is_spooled(record: bytes) -> bool:
    """Whether this record was confirmed as being on disk."""
    if not isinstance(record, PendingConfirmation) or not record.confirmation.done() or record.confirmation.cancelled():
        return False
    return record.confirmation.result().disposition is Disposition.SPOOLED
