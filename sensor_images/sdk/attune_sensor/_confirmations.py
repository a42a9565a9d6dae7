"""What became of one event, for whoever must not go on before it is safe (a webhook that owes its sender an answer)."""

import asyncio
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Disposition(StrEnum):
    """What became of an event."""

    STORED = "stored"
    DUPLICATE = "duplicate"  #: it was stored before, by its id
    SPOOLED = "spooled"  #: the disk keeps it, and it is delivered when the API takes it
    REFUSED = "refused"  #: by the API, for good
    DROPPED = "dropped"  #: there was no room for it, or the sensor ended


_KEPT: Final = frozenset({Disposition.STORED, Disposition.DUPLICATE, Disposition.SPOOLED})


@dataclass(frozen=True, slots=True)
class Confirmation:
    """What became of an event, and for what reason where it was not kept."""

    disposition: Disposition
    reason: str | None = None

    @property
    def kept(self) -> bool:
        """Whether the event is stored, or will be even if the process ends now."""
        return self.disposition in _KEPT


class PendingConfirmation(bytes):
    """An event's JSON on its way, of which somebody waits to hear. Everything else treats it as the bytes that it is."""

    confirmation: "asyncio.Future[Confirmation]"

    @classmethod
    def of(cls, body: bytes) -> "PendingConfirmation":
        """The same bytes, with a confirmation to come; call it in the event loop."""
        record = cls(body)
        record.confirmation = asyncio.get_running_loop().create_future()
        return record


def confirm(record: bytes, disposition: Disposition, reason: str | None = None) -> None:
    """Say what became of a record. Nothing happens when nobody waits, or no longer, or was told before."""
    if isinstance(record, PendingConfirmation) and not record.confirmation.done():
        record.confirmation.set_result(Confirmation(disposition, reason))


def is_pending(record: bytes) -> bool:
    """Whether somebody still waits to hear of this record."""
    return isinstance(record, PendingConfirmation) and not record.confirmation.done()


def is_spooled(record: bytes) -> bool:
    """Whether somebody was told that the disk keeps this record."""
    if not isinstance(record, PendingConfirmation) or not record.confirmation.done() or record.confirmation.cancelled():
        return False
    return record.confirmation.result().disposition is Disposition.SPOOLED
