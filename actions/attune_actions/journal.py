"""Keeps what became of runs: on ``ATTUNE_RUNS`` for the API, and on ``ATTUNE_RUN_QUEUE`` for those that are to be tried again.

Nothing is given up: a message that JetStream did not take is sent again, however long that lasts. Whoever waits for it keeps
the event meanwhile, so a JetStream that takes nothing stops the program, and loses nothing.
"""

import asyncio
import random
from typing import Final

import msgspec
import nats.errors
import structlog
from nats.aio.msg import Msg

from attune_contract.actions import (
    RUN_QUEUE_STREAM,
    QueuedRun,
    Run,
    encode,
    queued_run_subject,
    run_subject,
)
from attune_kit.backoff import Backoff
from attune_kit.deadline import answer_within
from attune_kit.nats.connection import NatsConnection
from attune_kit.nats.connector import NatsConnector
from attune_kit.nats.headers import prepare_headers
from attune_kit.outage import Outage

_RETRY: Final = Backoff(initial=0.1, maximum=5.0)
#: Seconds for an answer.
_ANSWER: Final = 5.0
#: How JetStream says that a subject's last message is another one than expected.
_WRONG_LAST: Final = 10071
#: How JetStream says that a subject has no message.
NO_MESSAGE: Final = 404


class _Error(msgspec.Struct):
    code: int = 0
    err_code: int = 0
    description: str = ""


class _Reply(msgspec.Struct):
    seq: int = 0
    error: _Error | None = None


class Stored(msgspec.Struct):
    """A message of the queue.

    Attributes:
        seq: its place in the stream.
        data: its body, as base64.
    """

    seq: int
    data: str = ""


class _Found(msgspec.Struct):
    message: Stored | None = None
    error: _Error | None = None


_REPLIES: Final = msgspec.json.Decoder(_Reply)
_MESSAGES: Final = msgspec.json.Decoder(_Found)


class StoreError(Exception):
    """Something cannot be read now."""


class _NotStoredError(Exception):
    """JetStream did not take a message, or it is not known whether it did."""


class _ReplacedError(Exception):
    """The subject's last message is another one than expected."""


class _Channel:
    """Publishes on one connection."""

    def __init__(self, connection: NatsConnection) -> None:
        self.connection = connection
        self._prefix = connection.client.new_inbox()
        self._waiting: dict[str, asyncio.Future[int]] = {}
        self._count = 0

    async def start(self) -> None:
        await self.connection.client.subscribe(f"{self._prefix}.*", cb=self._answered, pending_msgs_limit=0)
        self.connection.ended.add_done_callback(self._ended)

    async def publish(self, subject: str, body: bytes, headers: bytes) -> int:
        """The sequence of the stored message.

        Raises:
            _NotStoredError: it is not known to be stored.
            _ReplacedError: it is not stored, since the subject's last message is not the expected one.
        """
        self._count += 1
        token = f"{self._count:x}"
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting[token] = answer
        try:
            await self.connection.client.publish_prepared(
                subject=subject, reply=f"{self._prefix}.{token}", headers=headers, body=body
            )
            return await answer_within(answer, _ANSWER)
        except TimeoutError:
            raise _NotStoredError(f"JetStream did not answer within {_ANSWER:.0f} s") from None
        except (nats.errors.Error, OSError) as error:
            raise _NotStoredError(str(error) or type(error).__name__) from error
        finally:
            self._waiting.pop(token, None)

    async def _answered(self, message: Msg) -> None:
        answer = self._waiting.get(message.subject.rpartition(".")[2])
        if answer is None or answer.done():
            return
        if message.headers is not None and message.headers.get("Status") == "503":
            answer.set_exception(_NotStoredError("no stream takes it"))
            return
        try:
            reply = _REPLIES.decode(message.data)
        except msgspec.MsgspecError as error:
            answer.set_exception(_NotStoredError(f"the answer cannot be read: {error}"))
            return
        if reply.error is not None and reply.error.err_code == _WRONG_LAST:
            answer.set_exception(_ReplacedError(reply.error.description))
        elif reply.error is not None:
            answer.set_exception(_NotStoredError(reply.error.description or f"error {reply.error.code}"))
        else:
            answer.set_result(reply.seq)

    def _ended(self, _: object) -> None:
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(_NotStoredError(self.connection.reason))


class Journal:
    """Where runs are kept.

    Args:
        connector: the connection to NATS.
    """

    def __init__(self, connector: NatsConnector) -> None:
        self._connector = connector
        self._channel: _Channel | None = None
        self._opening = asyncio.Lock()
        self._outage = Outage(log=structlog.stdlib.get_logger(__name__), name="journal")

    @property
    def problem(self) -> str | None:
        """Why runs are not stored now; None when they are."""
        return self._outage.problem

    async def report(self, run: Run) -> None:
        """Say what became of a run. Returns when it is stored."""
        await self._store(run_subject(run), encode(run), {"Nats-Msg-Id": f"{run.id}/{run.revision}"})

    async def queue(self, run: Run, event: bytes) -> int:
        """Have a run tried at its ``next_attempt_at``; replaces what stood in the queue about it. Returns its sequence."""
        message = QueuedRun(run=run, event=msgspec.Raw(event))
        return await self._store(queued_run_subject(run), encode(message), {})

    async def exchange(self, subject: str, body: bytes, *, sequence: int) -> int | None:
        """Put a message in the place of a subject's last one, if that has this sequence (0: if there is none).

        Returns its sequence; None when the last one is another. That may be this very message, where an answer was lost.
        """
        try:
            return await self._store(subject, body, {"Nats-Expected-Last-Subject-Sequence": str(sequence)})
        except _ReplacedError:
            return None

    async def unqueue(self, sequence: int) -> None:
        """Take out of the queue what :meth:`queue` put there. What cannot be taken out comes up once more, which does no harm."""
        connection = self._connector.current
        if connection is None:
            return
        body = msgspec.json.encode({"seq": sequence, "no_erase": True})
        try:
            await connection.client.request(f"$JS.API.STREAM.MSG.DELETE.{RUN_QUEUE_STREAM}", body, timeout=_ANSWER)
        except (nats.errors.Error, OSError):
            return

    async def last(self, subject: str) -> Stored | None:
        """The last message of the queue under a subject; None when there is none. The stream's leader answers.

        Raises:
            StoreError: it cannot be read now.
        """
        connection = self._connector.current
        if connection is None:
            raise StoreError("there is no connection to NATS")
        body = msgspec.json.encode({"last_by_subj": subject})
        try:
            answer = await connection.client.request(
                f"$JS.API.STREAM.MSG.GET.{RUN_QUEUE_STREAM}", body, timeout=_ANSWER
            )
            found = _MESSAGES.decode(answer.data)
        except (nats.errors.Error, OSError, TimeoutError, msgspec.MsgspecError) as error:
            raise StoreError(str(error) or type(error).__name__) from error
        if found.error is None and found.message is not None:
            return found.message
        if found.error is not None and found.error.code == NO_MESSAGE:
            return None
        raise StoreError(found.error.description if found.error else "the answer has no message")

    async def is_queued(self, subject: str) -> bool:
        """Whether a run stands in the queue under this subject (``queued_run_subject``). While that is not known, it counts as
        one that does.
        """
        try:
            return await self.last(subject) is not None
        except StoreError:
            return True

    async def _store(self, subject: str, body: bytes, headers: dict[str, str]) -> int:
        block = prepare_headers(headers)
        retries = _RETRY.start(chance=random.random)
        while True:
            channel = await self._opened()
            try:
                sequence = await channel.publish(subject, body, block)
            except _NotStoredError as error:
                self._outage.failed(str(error), str(error))
                await asyncio.sleep(retries.next_delay())
            else:
                if self._outage.ongoing:
                    self._outage.recovered()
                return sequence

    async def _opened(self) -> _Channel:
        channel = self._channel
        if channel is not None and not channel.connection.closed:
            return channel
        async with self._opening:
            while True:
                connection = await self._connector.wait_connected()
                if self._channel is not None and self._channel.connection is connection:
                    return self._channel
                channel = _Channel(connection)
                try:
                    await channel.start()
                except (nats.errors.Error, OSError):
                    await asyncio.sleep(_RETRY.initial)
                    continue
                self._channel = channel
                return channel
