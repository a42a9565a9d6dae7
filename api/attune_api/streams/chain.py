"""Publishing messages as a chain, so that the answer to the last one speaks for all.

Each message names the number of the message before it (``Nats-Expected-Last-Sequence``), so the server refuses whatever
follows a gap, and everything once somebody else has published. Then the last is stored only if all are, and only it needs an
answer: an answer for each costs more than the message. When that answer is not a good one, nobody knows how many were stored.

A number is checked before the servers of a stream agree on the message. What is checked afterwards can stop a stream of three
servers for good (nats-server 2.15.1).

nats-py's ``publish_async`` never completes the future of a message that the server refused (2.16), so answers are matched here.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import nats.errors
from nats.aio.msg import Msg

from attune_kit.nats.client import prepared_message
from attune_kit.nats.connection import NatsConnection
from attune_kit.nats.headers import prepare_headers

#: Subject, body and headers; ``Nats-Msg-Id`` is one of them.
Message = tuple[str, bytes, Mapping[str, str]]

_NO_RESPONDERS: Final = "503"


class NotPublishedError(nats.errors.Error):  # type: ignore[misc]
    """JetStream did not acknowledge a message."""


@dataclass(frozen=True, slots=True)
class Sent:
    """So many messages, from the first on, are known to be stored; and why not all are."""

    acknowledged: int
    failure: NotPublishedError | None = None


class _Error(msgspec.Struct):
    code: int = 0
    description: str = ""


class _Answer(msgspec.Struct):
    error: _Error | None = None


_ANSWER: Final = msgspec.json.Decoder(_Answer)


class Chain:
    """Publishes to one stream on one connection, one call of :meth:`publish` after the other, until one fails.

    Args:
        connection: the connection; a chain ends with it.
        stream: the stream that must store the messages.
        newest: number of its last message.
        timeout: seconds that JetStream has to answer.
    """

    def __init__(self, connection: NatsConnection, *, stream: str, newest: int, timeout: float) -> None:
        self._connection = connection
        self._stream = stream
        self._newest = newest
        self._timeout = timeout
        self._inbox = connection.client.new_inbox()
        self._calls = 0
        self._places: dict[str, int] = {}  # of the answers that are waited for, by the end of their subjects
        self._stored: set[int] = set()
        self._failure: NotPublishedError | None = None
        self._over = asyncio.Event()

    async def start(self) -> None:
        """Listen for answers.

        Raises:
            nats.errors.Error, OSError: the connection is no good.
        """
        await self._connection.client.subscribe(f"{self._inbox}.*", cb=self._answered, pending_msgs_limit=0)

    async def publish(self, messages: Sequence[Message], *, each_answered: bool) -> Sent:
        """Publish messages in their order.

        Args:
            messages: all that are sent at once; there must be one.
            each_answered: whether the server says of each that it is stored, or only of the last.

        Raises:
            nats.errors.Error, OSError: the connection is no good; it is not known what was stored.
        """
        self._calls += 1
        self._places, self._stored, self._failure = {}, set(), None
        self._over.clear()
        last = len(messages) - 1
        prepared: list[bytes] = []
        for place, (subject, body, headers) in enumerate(messages):
            number = str(self._newest + place)
            expected = {"Nats-Expected-Stream": self._stream, "Nats-Expected-Last-Sequence": number}
            reply = ""
            if each_answered or place == last:
                token = f"{self._calls:x}-{place:x}"
                self._places[token] = place
                reply = f"{self._inbox}.{token}"
            block = prepare_headers({**headers, **expected})
            prepared.append(prepared_message(subject=subject, reply=reply, headers=block, body=body))
        await self._connection.client.publish_many(prepared)
        failure = await self._wait()
        self._newest += len(messages)
        if not each_answered:
            return Sent(0 if failure else len(messages), failure)
        acknowledged = next((place for place in range(len(messages)) if place not in self._stored), len(messages))
        return Sent(acknowledged, failure)

    async def _wait(self) -> NotPublishedError | None:
        """Wait for all answers, or for one that is no good; why that is, or None."""
        over = asyncio.ensure_future(self._over.wait())
        waits: set[asyncio.Future[Any]] = {over, self._connection.ended}
        try:
            await asyncio.wait(waits, timeout=self._timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            over.cancel()
        if self._over.is_set():
            return self._failure
        if self._connection.closed:
            return NotPublishedError(self._connection.reason)
        return NotPublishedError(f"no acknowledgement within {self._timeout:.0f} s")

    async def _answered(self, message: Msg) -> None:
        place = self._places.pop(message.subject.rpartition(".")[2], None)
        if place is None:
            return  # of a call that was given up
        why = _refusal(message)
        if why is None:
            self._stored.add(place)
        else:
            self._failure = self._failure or NotPublishedError(why)
        if why is not None or not self._places:
            self._over.set()


def _refusal(message: Msg) -> str | None:
    """Why the server has not stored a message; None when it has, or had it before."""
    if message.headers is not None and message.headers.get("Status") == _NO_RESPONDERS:
        return "no stream takes the message"
    try:
        error = _ANSWER.decode(message.data).error
    except msgspec.MsgspecError as unreadable:
        return f"the answer of NATS cannot be read: {unreadable}"
    return None if error is None else error.description or f"error {error.code}"
