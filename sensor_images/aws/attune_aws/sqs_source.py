"""One queue of SQS: messages are received, held while the API is away, and deleted when their events are stored."""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, Final

from attune_aws.config import Server
from attune_aws.errors import FAILURES, code_of, is_denied, source_error
from attune_aws.sqs_parameters import QueueSubscription
from attune_aws.sqs_payload import message_of
from attune_sensor import Message, SourceError

#: Messages in one request; SQS allows no more.
_BATCH: Final = 10
#: Seconds that one request waits for messages. Longer is not possible, and shorter costs more requests.
_WAIT: Final = 20
#: Seconds in which what was not deleted is given back at the end.
_GIVES_BACK: Final = 3.0
#: What SQS tells of a message beside what its sender said.
_TOLD: Final = ["ApproximateReceiveCount", "MessageGroupId", "SentTimestamp", "SequenceNumber"]
#: What is said of a message that another reader has received by now: it comes again, and is the same event.
_GONE: Final = frozenset({"ReceiptHandleIsInvalid", "InvalidParameterValue", "MessageNotInflight"})


def next_receivers(receivers: int, received: int, most: int) -> int:
    """How many requests to send at once next: more while all come back full, one when the queue is nearly empty. Pure.

    Args:
        receivers: how many were sent.
        received: messages that came.
        most: how many may be sent.
    """
    if received >= receivers * _BATCH:
        return min(2 * receivers, most)
    return max(1, min(receivers, -(-received // _BATCH)))


class SqsQueue:
    """A :class:`attune_sensor.Source`.

    Args:
        server: where it is.
        subscription: what is read.
        connect: makes a client.
        claim: told the queue's URL; raises a SourceError when another source has it.
        doubted: whether reading was not allowed the last time, so that it has to be tried before rules are Active.
    """

    def __init__(
        self,
        server: Server,
        subscription: QueueSubscription,
        *,
        connect: Callable[[], Awaitable[AbstractAsyncContextManager[Any]]],
        claim: Callable[[str], None],
        doubted: bool,
    ) -> None:
        self._server = server
        self._subscription = subscription
        self._connect = connect
        self._claim = claim
        self._stack = AsyncExitStack()
        self._sqs: Any = None
        self._receivers = 1
        self._first: list[Message] = []
        self._held = 0.0
        #: The receipt handles of what was received and not deleted.
        self._under_way: dict[str, None] = {}
        #: The queue's URL while it is read; empty before and after.
        self.url = ""
        #: Whether reading is not allowed, as far as is known.
        self.denied = doubted

    async def open(self) -> None:
        """Connect, and see that the queue is there.

        Raises:
            SourceError: it cannot be read.
        """
        asked = {"QueueName": self._subscription.name}
        if self._subscription.account is not None:
            asked["QueueOwnerAWSAccountId"] = self._subscription.account
        try:
            self._sqs = await self._stack.enter_async_context(await self._connect())
            url: str = (await self._sqs.get_queue_url(**asked))["QueueUrl"]
        except FAILURES as error:
            raise self._error(error) from error
        self._claim(url)
        self.url = url
        if self.denied:
            self._first = await self._receive_all(1, wait=0)

    async def read(self) -> Sequence[Message]:
        """The next messages.

        Raises:
            SourceError: they cannot be read.
        """
        if self._first:
            first, self._first = self._first, []
            return first
        # One request waits for messages. Several are sent where many are there, and come back at once.
        messages = await self._receive_all(self._receivers, wait=_WAIT if self._receivers == 1 else 0)
        self._receivers = next_receivers(self._receivers, len(messages), self._server.receivers)
        return messages

    async def acknowledge(self, messages: Sequence[Message]) -> None:
        """Delete messages.

        Raises:
            SourceError: the server does not do so.
        """
        handles = [message.handle for message in messages]
        failed = await self._in_batches(
            handles,
            lambda entries: self._sqs.delete_message_batch(QueueUrl=self.url, Entries=entries),
        )
        for handle in handles:
            self._under_way.pop(handle, None)
        if problems := sorted(failed - _GONE):
            raise SourceError(f"{self._server.where} did not delete messages: {', '.join(problems)}")

    async def hold(self, messages: Sequence[Message]) -> None:
        """Say that somebody works on these, when a third of the time is over for which they are not given to others.

        Raises:
            SourceError: the server does not take it.
        """
        if time.monotonic() - self._held < self._server.visibility / 3:
            return
        self._held = time.monotonic()
        await self._change((message.handle for message in messages), self._server.visibility)

    async def close(self) -> None:
        """Disconnect; what was not deleted can be received again now, and not only after a while."""
        try:
            async with asyncio.timeout(_GIVES_BACK):
                if self._under_way:
                    await self._change(list(self._under_way), 0)
        finally:
            self.url = ""
            await self._stack.aclose()

    async def _receive_all(self, receivers: int, *, wait: int) -> list[Message]:
        """Messages of several requests. What one of them got is not lost when another fails."""
        answers = await asyncio.gather(*(self._receive(wait) for _ in range(receivers)), return_exceptions=True)
        self._held = time.monotonic()
        messages: list[Message] = []
        failure: BaseException | None = None
        for answer in answers:
            if isinstance(answer, BaseException):
                failure = answer
            else:
                messages += [message_of(self._subscription, found) for found in answer]
        self._under_way.update((message.handle, None) for message in messages)
        if failure is None or messages:
            self.denied = False
            return messages
        if isinstance(failure, FAILURES):
            self.denied = is_denied(failure)
            raise self._error(failure) from failure
        raise failure

    async def _receive(self, wait: int) -> list[dict[str, Any]]:
        asked: dict[str, Any] = {
            "QueueUrl": self.url,
            "MaxNumberOfMessages": _BATCH,
            "WaitTimeSeconds": wait,
            "VisibilityTimeout": self._server.visibility,
            "MessageAttributeNames": ["All"],
            "MessageSystemAttributeNames": _TOLD,
        }
        if self._subscription.fifo:
            # The client asks again when an answer was lost on its way, and then gets the same messages.
            asked["ReceiveRequestAttemptId"] = uuid.uuid4().hex
        found: list[dict[str, Any]] = (await self._sqs.receive_message(**asked)).get("Messages", [])
        return found

    async def _change(self, handles: Iterable[str], seconds: int) -> None:
        await self._in_batches(
            list(handles),
            lambda entries: self._sqs.change_message_visibility_batch(
                QueueUrl=self.url, Entries=[{**entry, "VisibilityTimeout": seconds} for entry in entries]
            ),
        )

    async def _in_batches(
        self, handles: Sequence[str], call: Callable[[list[dict[str, Any]]], Awaitable[dict[str, Any]]]
    ) -> set[str]:
        """Ask for all of these, ten at a time; returns the codes of those that failed.

        Raises:
            SourceError: a request failed.
        """
        entries = [{"Id": str(number), "ReceiptHandle": handle} for number, handle in enumerate(handles)]
        try:
            answers = await asyncio.gather(
                *(call(entries[begin : begin + _BATCH]) for begin in range(0, len(entries), _BATCH))
            )
        except FAILURES as error:
            self.denied = self.denied or is_denied(error)
            raise self._error(error) from error
        return {str(each.get("Code")) for answer in answers for each in answer.get("Failed", [])}

    def _error(self, error: Exception) -> SourceError:
        if code_of(error) in ("QueueDoesNotExist", "NonExistentQueue"):
            return SourceError(f"{self._server.where} has no queue {self._subscription.name} that the sensor may see")
        return source_error(self._server.where, error)
