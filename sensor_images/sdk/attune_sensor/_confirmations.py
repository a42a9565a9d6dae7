"""The disposition of one event, for callers that must wait until it is safe (a webhook that owes its sender an answer)."""

import asyncio
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Disposition(StrEnum):
    """What became of a reported event."""

    STORED = "stored"
    DUPLICATE = "duplicate"  #: an event with this id was stored before
    SPOOLED = "spooled"  #: it is on disk, and is delivered when the API accepts it
    REFUSED = "refused"  #: by the API, finally
    DEFERRED = "deferred"  #: not kept: its namespace is over its quota; to be reported again after a while
    DROPPED = "dropped"  #: there was no room for it, or the sensor stopped


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


class PendingConfirmation(bytes):
    """An event in flight, as JSON, whose reporter waits for its disposition. All other code treats it as bytes."""

    confirmation: "asyncio.Future[Confirmation]"

    @classmethod
    def of(cls, body: bytes) -> "PendingConfirmation":
        """The same bytes with a pending confirmation; call it in the event loop."""
        record = cls(body)
        record.confirmation = asyncio.get_running_loop().create_future()
        return record


def confirm(record: bytes, disposition: Disposition, reason: str | None = None, wait: float = 0.0) -> None:
    """Confirm a record. Without effect when its reporter does not wait, waits no longer, or has its answer already."""
    if isinstance(record, PendingConfirmation) and not record.confirmation.done():
        record.confirmation.set_result(Confirmation(disposition, reason, wait))


def is_pending(record: bytes) -> bool:
    """Whether the reporter of this record still waits for its disposition."""
    return isinstance(record, PendingConfirmation) and not record.confirmation.done()


def has_reporter(record: bytes) -> bool:
    """Whether the reporter of this record waits for its disposition, or has it."""
    return isinstance(record, PendingConfirmation)


def is_spooled(record: bytes) -> bool:
    """Whether this record was confirmed as being on disk."""
    if not isinstance(record, PendingConfirmation) or not record.confirmation.done() or record.confirmation.cancelled():
        return False
    return record.confirmation.result().disposition is Disposition.SPOOLED
