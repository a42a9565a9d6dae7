"""One consumer of one topic. Its methods block: they are for a thread of its own (source.py), one at a time."""

import contextlib
import re
import time
from collections.abc import Iterable, Sequence
from typing import Any, Final

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    Consumer,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient

from attune_kafka.parameters import Start, Subscription
from attune_kafka.payload import Content
from attune_kafka.positions import Gap, Place, Turns, is_new
from attune_sensor import SourceError

#: Seconds for the first connection, and for each request.
_CONNECTS: Final = 8.0
_ANSWERS: Final = 5.0
#: Seconds that a read waits for records.
_BLOCK: Final = 1.0
_MOST: Final = 500
#: How often (seconds) to see whether the topic is still the same.
_LOOK: Final = 10.0
#: Seconds between two attempts to commit.
_PAUSE: Final = 0.1
#: The id of topics whose brokers give none.
_NO_ID: Final = "AAAAAAAAAAAAAAAAAAAAAA"

#: What the brokers say of a topic that is not there, or is another one now.
_ABSENT: Final = frozenset(
    {
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.UNKNOWN_TOPIC_ID,
        KafkaError.INCONSISTENT_TOPIC_ID,
        KafkaError._UNKNOWN_TOPIC,
        KafkaError._UNKNOWN_PARTITION,
    }
)
#: The record that is to be read next is not there.
_GAPS: Final = frozenset({KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._LOG_TRUNCATION})
#: A commit that comes while replicas come and go.
_REBALANCING: Final = frozenset(
    {KafkaError.REBALANCE_IN_PROGRESS, KafkaError.ILLEGAL_GENERATION, KafkaError.UNKNOWN_MEMBER_ID}
)
#: What concerns the connection to all brokers, with what to say of it; the first that is there is the reason.
_TROUBLES: Final = {
    KafkaError._AUTHENTICATION: "{brokers} does not accept the credentials: {said}",
    KafkaError.SASL_AUTHENTICATION_FAILED: "{brokers} does not accept the credentials: {said}",
    KafkaError._SSL: "the TLS connection to {brokers} fails: {said}",
    KafkaError._FATAL: "{brokers}: {said}",
    KafkaError._RESOLVE: "{brokers} is not found: {said}",
    KafkaError._TRANSPORT: "{brokers} cannot be reached: {said}",
    KafkaError._ALL_BROKERS_DOWN: "{brokers} cannot be reached",
}
_SURE: Final = (KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED, KafkaError._SSL)
#: What differs each time in the same error, and the broker's address before it.
_PREFIX: Final = re.compile(r"^(\S+: )+")
_SUFFIX: Final = re.compile(r"( \(after [^)]*\))+$")


class AbsentError(SourceError):
    """The topic is not there."""


class TopicReader:
    """A member of a consumer group.

    Args:
        subscription: what is read.
        connection: the client's settings for the brokers.
        consumer: those for consumers.
    """

    def __init__(self, subscription: Subscription, *, connection: dict[str, Any], consumer: dict[str, Any]) -> None:
        self._wanted = subscription
        self._topic = subscription.topic
        self._brokers = connection["bootstrap.servers"]
        self._connection = connection
        self._settings = consumer
        self._consumer: Consumer | None = None
        self._admin: AdminClient | None = None
        self._topic_id = ""
        self._turns = Turns()
        self._held = False
        self._looked = time.monotonic()
        self._troubles: dict[int, str] = {}
        self._waiting: list[tuple[Content, Place]] = []  # what came while nothing was to be read
        #: What was found to be lost since somebody looked.
        self.gaps: list[Gap] = []

    @property
    def topic_id(self) -> str:
        """The topic's id; empty for brokers that give none."""
        return self._topic_id

    def open(self, seen: str | None) -> None:
        """Connect, see that the group has a position in each partition, and join it.

        Args:
            seen: the topic's id before; empty: it was not there; None: nobody has looked.

        Raises:
            AbsentError: the topic is not there.
            SourceError: it cannot be read.
        """
        self._admin = AdminClient(self._connection)
        self._consumer = consumer = Consumer({**self._connection, **self._settings, "error_cb": self._on_error})
        self._connect(consumer)
        self._topic_id, partitions = self._described()
        places = [TopicPartition(self._topic, partition) for partition in partitions]
        if is_new(self._committed(consumer, places)):
            # All that is in a topic that was not there before came after the rule.
            other = seen is not None and seen != self._topic_id
            self._begin(consumer, places, "earliest" if other else self._wanted.start)
        consumer.subscribe([self._topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke)

    def read(self, *, wait: bool) -> list[tuple[Content, Place]]:
        """The next records; none if none came.

        Args:
            wait: wait a moment for them.

        Raises:
            SourceError: they cannot be read.
        """
        consumer = self._open_consumer
        if self._held:
            self._held = False
            consumer.resume(self._places(self._turns.partitions))
        waiting, self._waiting = self._waiting, []
        if kept := [(content, place) for content, place in waiting if self._turns.of(place.partition) == place.turn]:
            return kept
        first = consumer.poll(_BLOCK if wait else 0)
        came = [] if first is None else [first, *consumer.consume(_MOST - 1, 0)]
        self._check()
        return [record for message in came if (record := self._record(message)) is not None]

    def commit(self, places: Iterable[Place]) -> None:
        """Commit what was read, as far as it is of partitions that are still ours.

        Raises:
            SourceError: the brokers do not take it.
        """
        read = list(places)
        until = time.monotonic() + _ANSWERS
        while last := self._turns.furthest(read):
            offsets = [
                TopicPartition(self._topic, place.partition, place.offset + 1, leader_epoch=place.leader_epoch)
                for place in last
            ]
            try:
                self._commit(offsets)
            except KafkaException as error:
                if error.args[0].code() not in _REBALANCING or time.monotonic() > until:
                    raise
                # Replicas come and go: only polling brings it to an end. Then some partitions may be others'.
                self.hold()
                time.sleep(_PAUSE)
            else:
                return

    def hold(self) -> None:
        """Take part in the group without reading on: others may come and go, and nothing is delivered."""
        consumer = self._open_consumer
        if not self._held:
            self._held = True
            consumer.pause(self._places(self._turns.partitions))
        if (message := consumer.poll(0)) is not None:
            self._waiting += [record for record in [self._record(message)] if record is not None]
        self._check()

    def close(self) -> None:
        """Leave the group."""
        if self._consumer is not None:
            self._consumer.close()

    def said(self, error: KafkaException) -> str:
        """An exception in a sentence."""
        return f"{self._brokers}: {_said(error.args[0])}"

    # -- beginning ---------------------------------------------------------------------------------------------------------

    def _connect(self, consumer: Consumer) -> None:
        """Wait for a broker. What is wrong with the connection comes by the callback, and not as this request's answer."""
        left = _CONNECTS
        while True:
            try:
                consumer.list_topics(self._topic, timeout=1.0)
            except KafkaException as error:
                consumer.poll(0)
                left -= 1.0
                if left <= 0 or any(code in self._troubles for code in _SURE):
                    raise SourceError(self._trouble() or self.said(error)) from error
            else:
                self._troubles.clear()
                return

    def _described(self) -> tuple[str, list[int]]:
        """The topic's id and its partitions."""
        assert self._admin is not None  # noqa: S101 - it is open
        found = self._admin.describe_topics(TopicCollection([self._topic]), request_timeout=_ANSWERS)
        try:
            description = found[self._topic].result(2 * _ANSWERS)
        except KafkaException as error:
            if error.args[0].code() in _ABSENT:
                raise AbsentError(f"the topic {self._topic} is not there") from error
            raise
        topic_id = str(description.topic_id)
        return "" if topic_id == _NO_ID else topic_id, [partition.id for partition in description.partitions]

    def _committed(self, consumer: Consumer, places: list[TopicPartition]) -> dict[int, int | None]:
        found: dict[int, int | None] = {}
        for place in consumer.committed(places, timeout=_ANSWERS):
            if place.error is not None:
                raise KafkaException(place.error)
            found[place.partition] = place.offset if place.offset >= 0 else None
        return found

    def _begin(self, consumer: Consumer, places: list[TopicPartition], start: Start) -> None:
        """Give the group its first position. From now on, it misses nothing.

        It is not a member yet, and a broker takes a position from outside only while a group has no members. So of
        replicas that start at the same time, none moves a position from which another one reads already.
        """
        asked = OFFSET_END if start == "latest" else OFFSET_BEGINNING
        offsets = consumer.offsets_for_times(
            [TopicPartition(self._topic, place.partition, asked) for place in places], timeout=_ANSWERS
        )
        for each in offsets:
            if each.error is not None:
                raise KafkaException(each.error)
        try:
            self._commit([TopicPartition(self._topic, each.partition, each.offset) for each in offsets])
        except KafkaException as error:
            if error.args[0].code() != KafkaError.UNKNOWN_MEMBER_ID:
                raise
            if is_new(self._committed(consumer, places)):
                raise SourceError(
                    f"others use the group {self._wanted.group}, and it has no position in the topic {self._topic} yet: "
                    "give the rule a group of its own"
                ) from error

    def _commit(self, offsets: list[TopicPartition]) -> None:
        for done in self._open_consumer.commit(offsets=offsets, asynchronous=False):
            if done.error is not None:
                raise KafkaException(done.error)

    # -- what the client calls from poll ---------------------------------------------------------------------------------

    def _on_error(self, error: KafkaError) -> None:
        self._troubles[KafkaError._FATAL if error.fatal() else error.code()] = _said(error)

    def _on_assign(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        committed = self._committed(consumer, places)
        # A partition without a position was added to the topic since the group began.
        begin = {partition: OFFSET_BEGINNING if offset is None else offset for partition, offset in committed.items()}
        consumer.incremental_assign([TopicPartition(self._topic, each, offset) for each, offset in begin.items()])
        self._turns.begin(begin)
        if self._held:
            consumer.pause(places)

    def _on_revoke(self, _: Consumer, places: list[TopicPartition]) -> None:
        self._turns.end(place.partition for place in places)

    # -- what comes --------------------------------------------------------------------------------------------------------

    def _record(self, message: Any) -> tuple[Content, Place] | None:
        partition = message.partition()
        turn = self._turns.of(partition)
        if (error := message.error()) is not None:
            self._mend(error, message)
            return None
        if turn is None:
            return None  # it went to another replica, which reads this, too
        kind, timestamp = message.timestamp()
        content = Content(
            server=self._wanted.server,
            topic=self._topic,
            partition=partition,
            offset=message.offset(),
            timestamp=timestamp if kind else None,
            key=message.key(),
            headers=message.headers() or [],
            value=message.value(),
        )
        epoch = message.leader_epoch()
        return content, Place(partition, turn, content.offset, -1 if epoch is None else epoch)

    def _mend(self, error: KafkaError, message: Any) -> None:
        """Go on after an error that came instead of a record.

        Raises:
            SourceError: that needs a new beginning.
        """
        code = error.code()
        if code in _GAPS:
            self._skip(message.partition(), message.offset())
        elif code in _ABSENT:
            raise SourceError(f"the topic {self._topic} was deleted")
        elif error.fatal() or not (error.retriable() or code == KafkaError._MAX_POLL_EXCEEDED):
            raise SourceError(f"{self._brokers}: {_said(error)}")

    def _skip(self, partition: int, expected: int | None) -> None:
        """Go on at the first record that there is."""
        if self._turns.of(partition) is None:
            return
        self._same_topic()
        consumer = self._open_consumer
        place = TopicPartition(self._topic, partition)
        first, end = consumer.get_watermark_offsets(place, timeout=_ANSWERS, cached=False)
        if expected is not None and first <= expected <= end:
            first = expected
        else:
            self.gaps.append(Gap(partition, first if expected is None else expected, first))
        consumer.incremental_unassign([place])
        consumer.incremental_assign([TopicPartition(self._topic, partition, first)])
        if self._held:
            consumer.pause([place])
        # Otherwise the same would be found, and counted, after each restart until a record comes.
        self._commit([TopicPartition(self._topic, partition, first)])

    def _check(self) -> None:
        """Raise what the client only mentions: brokers that are gone, a topic that is."""
        if self._troubles:
            serious = any(code in _TROUBLES and code != KafkaError._TRANSPORT for code in self._troubles)
            if serious and not self._answers():
                raise SourceError(self._trouble() or f"{self._brokers} does not answer")
            self._troubles.clear()
        if time.monotonic() - self._looked > _LOOK:
            self._looked = time.monotonic()
            with contextlib.suppress(KafkaException):  # brokers that do not answer are said above
                self._same_topic()

    def _answers(self) -> bool:
        try:
            self._open_consumer.list_topics(self._topic, timeout=_ANSWERS)
        except KafkaException:
            return False
        return True

    def _same_topic(self) -> None:
        """Raise if the topic is gone: the client would wait for it in silence, or read another one as if it were the same."""
        topic_id, _ = self._described()
        if topic_id != self._topic_id:
            raise SourceError(f"the topic {self._topic} was deleted and created again")

    def _trouble(self) -> str | None:
        found = next((code for code in _TROUBLES if code in self._troubles), None)
        if found is None:
            return None
        return _TROUBLES[found].format(brokers=self._brokers, said=self._troubles[found])

    def _places(self, partitions: Sequence[int]) -> list[TopicPartition]:
        return [TopicPartition(self._topic, partition) for partition in partitions]

    @property
    def _open_consumer(self) -> Consumer:
        assert self._consumer is not None  # noqa: S101 - it is open
        return self._consumer


def _said(error: KafkaError) -> str:
    """What the client says, without what differs each time."""
    return _SUFFIX.sub("", _PREFIX.sub("", error.str())).strip() or error.name()
