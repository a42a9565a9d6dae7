"""One group's view of one topic, as the SDK reads it: the client's calls block, so they are made in a thread."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from confluent_kafka import KafkaException

from attune_kafka.parameters import Subscription
from attune_kafka.payload import header_of, occurred_at, occurrence_of, size_of
from attune_kafka.positions import Gap
from attune_kafka.reader import AbsentError, TopicReader
from attune_sensor import Message, SourceError

T = TypeVar("T")


class KafkaTopic:
    """A :class:`attune_sensor.Source`.

    Args:
        subscription: what is read.
        connection: the client's settings for the brokers.
        consumer: those for consumers.
        seen: the topic's id when it was opened the last time, by subscription; empty: it was not there. When it is another
            one now, all that is in the topic came later.
        on_gap: called when records are found to be lost.
    """

    def __init__(
        self,
        subscription: Subscription,
        *,
        connection: dict[str, Any],
        consumer: dict[str, Any],
        seen: dict[Subscription, str],
        on_gap: Callable[[Gap], None],
    ) -> None:
        self._wanted = subscription
        self._seen = seen
        self._on_gap = on_gap
        self._reader = TopicReader(subscription, connection=connection, consumer=consumer)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="kafka")

    async def open(self) -> None:
        """Connect, and join the group; it has a position in the topic then.

        Raises:
            SourceError: the topic cannot be read.
        """
        try:
            await self._do(lambda: self._reader.open(self._seen.get(self._wanted)))
        except AbsentError:
            self._seen[self._wanted] = ""
            raise
        self._seen[self._wanted] = self._reader.topic_id

    async def read(self) -> Sequence[Message]:
        """The next records.

        Raises:
            SourceError: they cannot be read.
        """
        return await self._next(wait=True)

    async def read_ahead(self) -> Sequence[Message]:
        """The next records that were fetched already.

        Raises:
            SourceError: they cannot be read.
        """
        return await self._next(wait=False)

    async def _next(self, *, wait: bool) -> Sequence[Message]:
        try:
            return await self._do(lambda: self._read(wait))
        finally:
            gaps, self._reader.gaps = self._reader.gaps, []
            for gap in gaps:
                self._on_gap(gap)

    async def acknowledge(self, messages: Sequence[Message]) -> None:
        """Commit their offsets.

        Raises:
            SourceError: the brokers do not take them.
        """
        places = [message.handle for message in messages]
        await self._do(lambda: self._reader.commit(places))

    async def hold(self, messages: Sequence[Message]) -> None:
        """Stay in the group, and let nothing more come.

        Raises:
            SourceError: the brokers are gone.
        """
        await self._do(self._reader.hold)

    async def close(self) -> None:
        """Leave the group: others go on at what was committed."""
        # The caller may give up waiting. It is done all the same, after the call that runs: a consumer that is not closed
        # stays in its group, and keeps its partitions from the next one.
        closing = self._thread.submit(self._reader.close)
        self._thread.shutdown(wait=False)
        await asyncio.shield(asyncio.wrap_future(closing))

    def _read(self, wait: bool) -> list[Message]:
        topic_id = self._reader.topic_id
        return [
            Message(
                partition=str(place.partition),
                occurrence=occurrence_of(
                    content, topic_id=topic_id, leader_epoch=None if place.leader_epoch < 0 else place.leader_epoch
                ),
                content=content,
                size=size_of(content),
                occurred_at=occurred_at(content),
                traceparent=header_of(content, "traceparent"),
                tracestate=header_of(content, "tracestate"),
                handle=place,
            )
            for content, place in self._reader.read(wait=wait)
        ]

    async def _do(self, call: Callable[[], T]) -> T:
        """What the call returns, which is made when those before it have ended."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, call)
        except KafkaException as error:
            raise SourceError(self._reader.said(error)) from error
