"""From an object of a bucket to an event. Pure."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from attune_aws.s3_parameters import BucketSubscription, Parameters
from attune_aws.s3_state import Object
from attune_sensor import Message

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def object_of(found: dict[str, Any]) -> Object:
    """An object as ListObjectsV2 tells it."""
    return Object(
        key=found["Key"],
        etag=str(found.get("ETag", "")).strip('"'),
        size=int(found.get("Size", 0)),
        at=(found["LastModified"] - _EPOCH) // timedelta(microseconds=1),
        storage=str(found.get("StorageClass", "")),
    )


def message_of(subscription: BucketSubscription, found: Object) -> Message:
    """An object as the SDK takes it: named by its key, and with ``changes`` by what was written, too."""
    name = f"{subscription.server}/{subscription.bucket}/{found.key}"
    if subscription.changes:
        name = f"{name}/{found.etag}/{found.at}"
    return Message(
        partition="",
        occurrence=name,
        content=found,
        size=len(found.key),
        occurred_at=_EPOCH + timedelta(microseconds=found.at),
    )


def payload_of(rule: str, parameters: Parameters, found: Object) -> dict[str, Any]:
    """What the event of an object carries.

    Args:
        rule: the rule, as namespace/name.
        parameters: what the rule asks for.
        found: the object.
    """
    written = _EPOCH + timedelta(microseconds=found.at)
    payload: dict[str, Any] = {
        "server": parameters.server,
        "bucket": parameters.bucket,
        "key": found.key.encode("utf-8", "replace").decode().replace("\0", "\ufffd"),
        "size": found.size,
        "etag": found.etag,
        "lastModified": written.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "rule": rule,
    }
    if found.storage:
        payload["storageClass"] = found.storage
    return payload
