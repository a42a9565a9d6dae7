"""What became of one event, for whoever must not go on before it is safe (a webhook that owes its sender an answer)."""

import asyncio
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Fate(StrEnum):
    """What became of an event."""

    STORED = "stored"
    DUPLICATE = "duplicate"  #: it was stored before, by its id
    SPOOLED = "spooled"  #: the disk keeps it, and it is delivered when the API takes it
    REFUSED = "refused"  #: by the API, for good
    DROPPED = "dropped"  #: there was no room for it, or the sensor ended


_KEPT: Final = frozenset({Fate.STORED, Fate.DUPLICATE, Fate.SPOOLED})


@dataclass(frozen=True, slots=True)
class Confirmation:
    """What became of an event, and for what reason where it was not kept."""

    fate: Fate
    reason: str | None = None

    @property
    def kept(self) -> bool:
        """Whether the event is stored, or will be even if the process ends now."""
        return self.fate in _KEPT


class Awaited(bytes):
    """An event's JSON on its way, of which somebody waits to hear. Everything else treats it as the bytes that it is."""

    confirmation: "asyncio.Future[Confirmation]"

    @classmethod
    def of(cls, body: bytes) -> "Awaited":
        """The same bytes, with a confirmation to come; call it in the event loop."""
        record = cls(body)
        record.confirmation = asyncio.get_running_loop().create_future()
        return record


def settle(record: bytes, fate: Fate, reason: str | None = None) -> None:
    """Say what became of a record. Nothing happens when nobody waits, or no longer, or was told before."""
    if isinstance(record, Awaited) and not record.confirmation.done():
        record.confirmation.set_result(Confirmation(fate, reason))


def unsettled(record: bytes) -> bool:
    """Whether somebody still waits to hear of this record."""
    return isinstance(record, Awaited) and not record.confirmation.done()


def spooled(record: bytes) -> bool:
    """Whether somebody was told that the disk keeps this record."""
    if not isinstance(record, Awaited) or not record.confirmation.done() or record.confirmation.cancelled():
        return False
    return record.confirmation.result().fate is Fate.SPOOLED
