"""What a sensor implements to read something with positions: a queue, a stream, a log.

The SDK does the rest (:class:`attune_sensor.SourceHandler`): rules that ask for the same share a reader, messages become
events, and only when the API has stored the events of a message is it acknowledged, in order.
"""

from collections.abc import Callable, Hashable, Sequence
from datetime import datetime
from typing import Any, Protocol, runtime_checkable

import msgspec

from attune_sensor._errors import SensorError
from attune_sensor._rules import Rule


class SourceError(SensorError):
    """The source cannot be read now, or does not take an acknowledgement.

    The text says what is wrong, for the rules' authors, without secrets. It should stay the same while the same is wrong.
    """


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was read.

    Attributes:
        partition: messages of one partition are acknowledged in the order in which they were read.
        occurrence: names this message for ever, with its partition and its server, like ``main/orders/1700000000000-0``.
            Read again, after a restart or by another replica, it must have the same name: then it is the same event.
        content: what the kind of source makes payloads of.
        size: bytes of the content; a message with too many is reported by reference.
        occurred_at: when it was sent, with a zone; None when nobody knows.
        handle: what the source needs to acknowledge it.
        traceparent, tracestate: the trace that it came with (headers of W3C Trace Context); empty without one.
    """

    partition: str
    occurrence: str
    content: Any
    size: int
    occurred_at: datetime | None = None
    handle: Any = None
    traceparent: str = ""
    tracestate: str = ""


class Source(Protocol):
    """A connection to one thing that is read. Its methods are called one at a time; each may be cancelled.

    What goes wrong is a :class:`SourceError`. The source is then closed, and a new one is opened after a pause.
    """

    async def open(self) -> None:
        """Connect, and see that messages can be read: the rules are Active when this returns. Read nothing yet."""

    async def read(self) -> Sequence[Message]:
        """The next messages, in order; a few hundred at most.

        Wait a few seconds for them and return none if none came. First come those that were read before and never
        acknowledged.
        """
        ...

    async def acknowledge(self, messages: Sequence[Message]) -> None:
        """These are safe: never deliver them again. They were all read from this source, and of each partition there is
        none before them that is not safe.
        """

    async def hold(self, messages: Sequence[Message]) -> None:
        """These wait for the API. Called every few seconds, so that the server does not give them to others."""

    async def close(self) -> None:
        """Disconnect. What was read and not acknowledged must be delivered again, to anybody."""


@runtime_checkable
class ReadsAhead(Source, Protocol):
    """A source that can go on reading while what it read before is under way. Others are read one batch at a time, which is
    slower: nothing is read while the API stores.
    """

    async def read_ahead(self) -> Sequence[Message]:
        """What is there by now, in order, and comes after all that was read; none if there is none. It must not wait for
        messages: an acknowledgement may be next.
        """
        ...


class SourceKind(Protocol):
    """A kind of source: how rules ask for it, and what their events carry. All but :meth:`connect` is pure."""

    def subscription(self, rule: Rule) -> Hashable:
        """What the rule wants to read. Rules with equal subscriptions share a source.

        Raises:
            InvalidRuleError: its parameters cannot be used.
        """
        ...

    def describe(self, subscription: Any) -> str:
        """The subscription in a few words, for logs and conditions, like ``stream orders of main``."""
        ...

    def connect(self, subscription: Any) -> Source:
        """A new source, which is not opened yet."""
        ...

    def payload(self, rule: Rule, message: Message, *, whole: bool) -> dict[str, Any]:
        """What the rule's event carries.

        Args:
            rule: the rule.
            message: the message.
            whole: False: the content is too large for an event, so say where it is and leave it out.
        """
        ...


@runtime_checkable
class SplittingSourceKind(SourceKind, Protocol):
    """A kind of source with messages that tell several things, each of which is an event of its own."""

    def split(self, rule: Rule, message: Message) -> Sequence[Message]:
        """What a rule's events are made of, in order: the message itself, or its parts.

        Each part has a content, a size and an ``occurrence`` of its own. The message is acknowledged when the events of all
        of them are stored, and at once where a rule asks for none. Pure.
        """
        ...


@runtime_checkable
class RemarkingSourceKind(SourceKind, Protocol):
    """A kind of source that notices when something of what it reads is lost.

    Attributes:
        remark: says so in the conditions of the rules that read a subscription (:meth:`SourceHandler.remark`, which sets it).
    """

    remark: Callable[..., None]


@runtime_checkable
class ForgettingSourceKind(SourceKind, Protocol):
    """A kind of source that remembers something of its rules."""

    def forget(self, rule: Rule) -> None:
        """The rule is gone."""
