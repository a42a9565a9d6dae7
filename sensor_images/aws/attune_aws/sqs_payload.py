"""From a message of a queue to events. Pure."""

import base64
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from attune_aws.notifications import Notification, ObjectRecord, notification_of, records_of
from attune_aws.sqs_parameters import Parameters, QueueSubscription
from attune_kit.bodies import read_body
from attune_sensor import Message

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Received(msgspec.Struct, frozen=True, kw_only=True):
    """A message as it was received, or a part of it.

    Attributes:
        id: the message's id.
        body: what the event carries as its body.
        system: what SQS says of it, like ``ApproximateReceiveCount``.
        attributes: what its sender said of it beside the body.
        topic: what SNS said of it, when it came through a topic and the rule wants that unwrapped.
        record: what happened to an object, when the rule wants S3's notifications unwrapped.
    """

    id: str
    body: str
    system: Mapping[str, str]
    attributes: Mapping[str, Mapping[str, Any]]
    topic: Notification | None = None
    record: ObjectRecord | None = None


def message_of(subscription: QueueSubscription, found: Mapping[str, Any]) -> Message:
    """A message as the SDK takes it.

    Args:
        subscription: its queue.
        found: what ReceiveMessage answered.
    """
    received = Received(
        id=found["MessageId"],
        body=found.get("Body", ""),
        system=found.get("Attributes", {}),
        attributes=found.get("MessageAttributes", {}),
    )
    return Message(
        # Only a queue with groups has an order, within each of them.
        partition=received.system.get("MessageGroupId", "") if subscription.fifo else received.id,
        occurrence=f"{subscription.place}/{received.id}",
        content=received,
        size=_size(received),
        occurred_at=_sent_at(received),
        handle=found["ReceiptHandle"],
        traceparent=_text(received, "traceparent"),
        tracestate=_text(received, "tracestate"),
    )


def parts_of(subscription: QueueSubscription, parameters: Parameters, message: Message) -> Sequence[Message]:
    """What a rule's events are made of: the message, or what is in it.

    What SNS or S3 tell twice has one name: it is one event.

    Args:
        subscription: the queue.
        parameters: what the rule asks for.
        message: the message.
    """
    received: Received = message.content
    if parameters.unwrap == "none":
        return [message]
    topic = notification_of(received.body)
    body, occurrence = received.body, message.occurrence
    if topic is not None:
        body, occurrence = topic.message, f"{subscription.place}/sns/{topic.id}"
    records = records_of(body) if parameters.unwrap == "s3" else None
    if records is None:
        return [_part(message, received, body, topic, None, occurrence)]
    return [
        _part(
            message,
            received,
            each.raw.decode(),
            topic,
            each,
            f"{occurrence}/{number}" if each.identity is None else f"{subscription.place}/s3/{each.identity}",
        )
        for number, each in enumerate(records)
    ]


def _part(
    message: Message,
    received: Received,
    body: str,
    topic: Notification | None,
    record: ObjectRecord | None,
    occurrence: str,
) -> Message:
    part = msgspec.structs.replace(received, body=body, topic=topic, record=record)
    return Message(
        partition=message.partition,
        occurrence=occurrence,
        content=part,
        size=_size(part),
        occurred_at=message.occurred_at if record is None else record.at or message.occurred_at,
        handle=message.handle,
        traceparent=message.traceparent,
        tracestate=message.tracestate,
    )


def payload_of(rule: str, parameters: Parameters, received: Received, *, size: int, whole: bool) -> dict[str, Any]:
    """What the event of a message carries.

    Args:
        rule: the rule, as namespace/name.
        parameters: what the rule asks for.
        received: the message, or a part of it.
        size: its size in bytes.
        whole: False: say only how large it is.
    """
    system = received.system
    payload: dict[str, Any] = {
        "server": parameters.server,
        "queue": parameters.queue,
        "id": received.id,
        "rule": rule,
        "receiveCount": _number(system.get("ApproximateReceiveCount", "1")),
    }
    for theirs, ours in (("MessageGroupId", "group"), ("SequenceNumber", "sequence")):
        if theirs in system:
            payload[ours] = system[theirs]
    if received.record is not None:
        payload["s3"] = received.record.said
    if not whole:
        return {**payload, "truncated": True, "bytes": size}
    if received.topic is not None:
        payload["sns"] = received.topic.said
    encoded: list[str] = []
    payload["attributes"] = {name: _carried(name, each, encoded) for name, each in received.attributes.items()}
    if encoded:
        payload["base64"] = encoded
    body = read_body(received.body.encode())
    return {**payload, "encoding": body.encoding, "body": body.carried}


def _carried(name: str, attribute: Mapping[str, Any], encoded: list[str]) -> str:
    """An attribute as text: numbers too, which may have more digits than JSON's; binary ones as base64."""
    text = attribute.get("StringValue")
    if isinstance(text, str) and "\0" not in text:
        return text
    encoded.append(name)
    raw = text.encode() if isinstance(text, str) else attribute.get("BinaryValue", b"")
    return base64.b64encode(raw).decode("ascii")


def _text(received: Received, name: str) -> str:
    text = received.attributes.get(name, {}).get("StringValue")
    return text if isinstance(text, str) else ""


def _size(received: Received) -> int:
    attributes = sum(
        len(name) + len(each.get("StringValue", "").encode()) + len(each.get("BinaryValue", b""))
        for name, each in received.attributes.items()
    )
    return len(received.body.encode()) + attributes


def _sent_at(received: Received) -> datetime | None:
    sent = received.system.get("SentTimestamp", "")
    return _EPOCH + timedelta(milliseconds=int(sent)) if sent.isdecimal() and len(sent) <= 13 else None


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 1
