"""Publishing messages as a chain, so that the answer to the last one speaks for all.

Each message names the number of the message before it (``Nats-Expected-Last-Sequence``), so the server refuses whatever
follows a gap, and everything once somebody else has published. Then the last is stored only if all are, and only it needs an
answer: an answer for each costs more than the message. When that answer is not a good one, nobody knows how many were stored.

A number is checked before the servers of a stream agree on the message. What is checked afterwards can stop a stream of three
servers for good (nats-server 2.15.1).

nats-py's ``publish_async`` never completes the future of a message that the server refused (2.16), so answers are matched here.
"""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

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


class _Part:
    """Messages for which there is one answer."""

    __slots__ = ("messages", "over", "refusal", "sent_at")

    def __init__(self, messages: int, sent_at: float) -> None:
        self.messages = messages
        self.sent_at = sent_at
        self.over = False
        self.refusal: str | None = None


class Chain:
    """Publishes to one stream on one connection until something fails.

    Args:
        connection: the connection; a chain ends with it.
        stream: the stream that must store the messages.
        newest: number of its last message.
        timeout: seconds that JetStream has to answer.
        answered: is set with each answer, and when the connection ends.
    """

    def __init__(
        self, connection: NatsConnection, *, stream: str, newest: int, timeout: float, answered: asyncio.Event
    ) -> None:
        self._connection = connection
        self._stream = stream
        self._newest = newest
        self._timeout = timeout
        self._answered = answered
        self._inbox = connection.client.new_inbox()
        self._count = 0
        self._parts: deque[_Part] = deque()  # in their order
        self._waiting: dict[str, _Part] = {}  # by the end of the answer's subject
        connection.ended.add_done_callback(lambda _: answered.set())

    async def start(self) -> None:
        """Listen for answers.

        Raises:
            nats.errors.Error, OSError: the connection is no good.
        """
        await self._connection.client.subscribe(f"{self._inbox}.*", cb=self._take, pending_msgs_limit=0)

    async def send(self, messages: Sequence[Message], *, each_answered: bool) -> None:
        """Send messages in their order, behind those that were sent before, without waiting for their answers.

        Args:
            messages: what is sent at once; there must be one.
            each_answered: whether the server says of each that it is stored, or only of the last.

        Raises:
            nats.errors.Error, OSError: the connection is no good; it is not known what was stored.
        """
        now = asyncio.get_running_loop().time()
        prepared: list[bytes] = []
        for place, (subject, body, headers) in enumerate(messages, 1):
            block = prepare_headers(
                {
                    **headers,
                    "Nats-Expected-Stream": self._stream,
                    "Nats-Expected-Last-Sequence": str(self._newest),
                }
            )
            self._newest += 1
            reply = ""
            if each_answered or place == len(messages):
                self._count += 1
                token = f"{self._count:x}"
                part = self._waiting[token] = _Part(1 if each_answered else len(messages), now)
                self._parts.append(part)
                reply = f"{self._inbox}.{token}"
            prepared.append(prepared_message(subject=subject, reply=reply, headers=block, body=body))
        await self._connection.client.publish_many(prepared)

    def settle(self) -> Sent:
        """What became of what was sent, since the last call: how many more are stored, in their order, and what failed."""
        acknowledged = 0
        while self._parts and self._parts[0].over:
            part = self._parts.popleft()
            if part.refusal is not None:
                return Sent(acknowledged, NotPublishedError(part.refusal))
            acknowledged += part.messages
        failure = None
        if self._parts:
            waited = asyncio.get_running_loop().time() - self._parts[0].sent_at
            if self._connection.closed:
                failure = NotPublishedError(self._connection.reason)
            elif waited > self._timeout:
                failure = NotPublishedError(f"no acknowledgement within {self._timeout:.0f} s")
        return Sent(acknowledged, failure)

    async def _take(self, message: Msg) -> None:
        part = self._waiting.pop(message.subject.rpartition(".")[2], None)
        if part is not None:
            part.refusal = _refusal(message)
            part.over = True
            self._answered.set()


def _refusal(message: Msg) -> str | None:
    """Why the server has not stored a message; None when it has, or had it before."""
    if message.headers is not None and message.headers.get("Status") == _NO_RESPONDERS:
        return "no stream takes the message"
    try:
        error = _ANSWER.decode(message.data).error
    except msgspec.MsgspecError as unreadable:
        return f"the answer of NATS cannot be read: {unreadable}"
    return None if error is None else error.description or f"error {error.code}"
