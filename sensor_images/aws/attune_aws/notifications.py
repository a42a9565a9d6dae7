"""What others put into a queue's messages: envelopes of SNS, and S3's notifications. Pure.

Both are JSON with fixed fields. What does not look like them is carried as it is.
"""

from datetime import datetime
from typing import Any, Final
from urllib.parse import unquote_plus

import msgspec

from attune_kit.bodies import read_json


class Notification(msgspec.Struct, frozen=True, kw_only=True):
    """A message that came through a topic of SNS.

    Attributes:
        id: what SNS calls it, the same when it sends it again.
        message: what was published.
        said: what else the event carries of it.
    """

    id: str
    message: str
    said: dict[str, Any]


class ObjectRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What happened to one object.

    Attributes:
        identity: names it for ever, when S3 tells it twice, too; None: the record does not say enough.
        at: when.
        said: what the event carries of it.
        raw: the record as it came.
    """

    identity: str | None
    at: datetime | None
    said: dict[str, Any]
    raw: bytes


_FIELDS: Final = (("eTag", "etag"), ("versionId", "versionId"), ("sequencer", "sequencer"))
_NAMES: Final = {"TopicArn": "topic", "Subject": "subject", "Timestamp": "at"}


def notification_of(body: str) -> Notification | None:
    """The envelope of SNS that a body is; None: it is none (or the subscription has raw delivery)."""
    read = _object(body)
    if read is None or read.get("Type") != "Notification":
        return None
    identity, message = read.get("MessageId"), read.get("Message")
    if not isinstance(identity, str) or not isinstance(message, str):
        return None
    said: dict[str, Any] = {"id": identity}
    said |= {ours: read[theirs] for theirs, ours in _NAMES.items() if isinstance(read.get(theirs), str)}
    attributes = read.get("MessageAttributes")
    if isinstance(attributes, dict):
        said["attributes"] = {
            name: each["Value"]
            for name, each in attributes.items()
            if isinstance(each, dict) and isinstance(each.get("Value"), str)
        }
    return Notification(id=identity, message=message, said=said)


def records_of(body: str) -> list[ObjectRecord] | None:
    """What a notification of S3 tells of objects; None: it is no such notification.

    An empty list is the message that S3 sends when notifications are set up.
    """
    read = _object(body)
    if read is None:
        return None
    if read.get("Event") == "s3:TestEvent":
        return []
    records = read.get("Records")
    if not isinstance(records, list) or not records:
        return None
    found = [_record(record) for record in records]
    usable = [each for each in found if each is not None]
    return usable if len(usable) == len(found) else None


def _object(body: str) -> dict[str, Any] | None:
    read = read_json(body.encode())
    return read.data if read is not None and isinstance(read.data, dict) else None


def _record(record: Any) -> ObjectRecord | None:
    if not isinstance(record, dict) or not isinstance(record.get("s3"), dict):
        return None
    bucket, thing, event = record["s3"].get("bucket"), record["s3"].get("object"), record.get("eventName")
    if not isinstance(bucket, dict) or not isinstance(thing, dict) or not isinstance(event, str):
        return None
    name, key = bucket.get("name"), thing.get("key")
    if not isinstance(name, str) or not isinstance(key, str):
        return None
    event, key = event.removeprefix("s3:"), unquote_plus(key)
    said: dict[str, Any] = {"event": event, "bucket": name, "key": key.replace("\0", "\ufffd")}
    said |= {ours: thing[theirs] for theirs, ours in _FIELDS if isinstance(thing.get(theirs), str)}
    if isinstance(thing.get("size"), int):
        said["size"] = thing["size"]
    at = _time(record.get("eventTime"))
    sequencer = thing.get("sequencer")
    identity = None
    if isinstance(sequencer, str) and sequencer:
        identity = "/".join((name, event, sequencer, key))
    return ObjectRecord(identity=identity, at=at, said=said, raw=msgspec.json.encode(record))


def _time(text: Any) -> datetime | None:
    if not isinstance(text, str):
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return at if at.tzinfo is not None else None
