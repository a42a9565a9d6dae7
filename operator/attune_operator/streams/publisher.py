"""Publishes to JetStream with compare-and-set and many messages in flight.

nats-py's ``publish_async`` never completes the future of a message that the server refused (2.16: the error is raised
inside its reply handler). A refused compare-and-set is what this publisher is for, so it matches the answers itself.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final

import msgspec
import nats.errors
from nats.aio.msg import Msg

from attune_kit.nats.connection import NatsConnection
from attune_kit.nats.headers import prepare_headers

EXPECTED_SEQUENCE: Final = "Nats-Expected-Last-Subject-Sequence"
_WRONG_LAST_SEQUENCE: Final = 10071


class PublishError(Exception):
    """A message was not stored, or it is not known whether it was."""


class WrongSequenceError(PublishError):
    """Somebody else wrote to the subject since we read it."""


class StreamGoneError(PublishError):
    """No stream stores the subject."""


class ConnectionLostError(PublishError):
    """The connection ended before the answer came: the message may be stored or not."""


class _Error(msgspec.Struct):
    code: int = 0
    err_code: int = 0
    description: str = ""


class _Reply(msgspec.Struct):
    seq: int = 0
    error: _Error | None = None


_DECODER: Final = msgspec.json.Decoder(_Reply)

#: Called with the message's sequence, or with what went wrong: once for each message. It must not raise.
Completion = Callable[[int | PublishError], None]


class Publisher:
    """Sends messages without waiting for each answer; at most ``max_in_flight`` are unanswered.

    ``answer_timeout`` is how many seconds an answer may take before its message counts as lost.
    """

    def __init__(self, *, connection: NatsConnection, max_in_flight: int = 256, answer_timeout: float = 10.0) -> None:
        self._connection = connection
        self._timeout = answer_timeout
        self._slots = asyncio.Semaphore(max_in_flight)
        self._waiting: dict[str, tuple[float, Completion]] = {}
        self._prefix = ""
        self._count = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def sent(self) -> int:
        """How many messages were sent so far."""
        return self._count

    @property
    def in_flight(self) -> int:
        """Messages whose answer has not come."""
        return len(self._waiting)

    async def start(self) -> None:
        """Listen for answers."""
        self._prefix = self._connection.client.new_inbox()
        await self._connection.client.subscribe(f"{self._prefix}.*", cb=self._answered, pending_msgs_limit=0)

    async def run(self) -> None:
        """Watch the answers until the connection ends; then complete every message in flight with an error.

        Raises:
            ConnectionLostError: an answer is overdue.
        """
        loop = asyncio.get_running_loop()
        try:
            while not self._connection.closed:
                try:
                    async with asyncio.timeout(self._timeout / 4):
                        await self._connection.wait_closed()
                except TimeoutError:
                    oldest = next(iter(self._waiting.values()), None)
                    if oldest is not None and loop.time() - oldest[0] > self._timeout:
                        raise ConnectionLostError(f"NATS did not answer within {self._timeout:.0f} s") from None
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Complete every message in flight: its answer will not come."""
        for token in list(self._waiting):
            self._finish(token, ConnectionLostError(self._connection.reason))

    async def publish(
        self,
        *,
        subject: str,
        body: bytes,
        headers: dict[str, str],
        expected_sequence: int | None,
        completion: Completion,
    ) -> None:
        """Send one message as soon as there is a slot.

        Args:
            subject: the subject.
            body: the message's body.
            headers: its headers; the expected sequence is added to them.
            expected_sequence: the sequence that the subject's last message must have (0: there is none); None: any.
            completion: called with the sequence of the stored message, or with what went wrong.

        Raises:
            ConnectionLostError: it was not sent; ``completion`` is not called.
        """
        await self._slots.acquire()
        self._count += 1
        token = f"{self._count:x}"
        self._waiting[token] = (asyncio.get_running_loop().time(), completion)
        self._idle.clear()
        if expected_sequence is not None:
            headers[EXPECTED_SEQUENCE] = str(expected_sequence)
        try:
            if self._connection.closed:
                raise nats.errors.ConnectionClosedError
            await self._connection.client.publish_prepared(
                subject=subject, reply=f"{self._prefix}.{token}", headers=prepare_headers(headers), body=body
            )
        except (nats.errors.Error, OSError) as error:
            if self._forget(token) is not None:
                raise ConnectionLostError(str(error) or type(error).__name__) from error
            # abandon() has completed it already.
        except asyncio.CancelledError:
            self._forget(token)
            raise

    async def drained(self) -> None:
        """Return when no message is in flight."""
        await self._idle.wait()

    async def _answered(self, message: Msg) -> None:
        token = message.subject.rpartition(".")[2]
        self._finish(token, _outcome(message))

    def _finish(self, token: str, outcome: int | PublishError) -> None:
        completion = self._forget(token)
        if completion is not None:
            completion(outcome)

    def _forget(self, token: str) -> Completion | None:
        entry = self._waiting.pop(token, None)
        if entry is None:
            return None
        self._slots.release()
        if not self._waiting:
            self._idle.set()
        return entry[1]


def _outcome(message: Any) -> int | PublishError:
    if message.headers is not None and message.headers.get("Status") == "503":
        return StreamGoneError(f"no stream takes {message.subject}")
    try:
        reply = _DECODER.decode(message.data)
    except msgspec.MsgspecError as error:
        return PublishError(f"the answer of NATS cannot be read: {error}")
    if reply.error is None:
        return reply.seq
    if reply.error.err_code == _WRONG_LAST_SEQUENCE:
        return WrongSequenceError(reply.error.description)
    return PublishError(reply.error.description or f"error {reply.error.err_code}")
