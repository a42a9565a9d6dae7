"""Objects as the sensor keeps them: without what is noise, and without what is secret."""

from datetime import UTC, datetime
from typing import Any, Final

import msgspec

Object = dict[str, Any]

_LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"


class ObjectSnapshot(msgspec.Struct, frozen=True, gc=False):
    """An object as it was at one version. ``changed_at`` and ``created_at`` are seconds since 1970, as the API server says."""

    uid: str
    version: int
    changed_at: int
    created_at: int
    raw: bytes  #: its JSON, a fraction of the size of what is decoded

    def read(self) -> Object:
        """The object."""
        found: Object = msgspec.json.decode(self.raw)
        return found


def snapshot_of(body: Object, *, secret: bool) -> ObjectSnapshot:
    """The object without managed fields and copies of itself; of a Secret only the names of its keys.

    Args:
        body: the object as the API server gave it; it is changed.
        secret: whether it is a Secret.
    """
    metadata = body["metadata"]
    created_at = _seconds(metadata.get("creationTimestamp"))
    times = [_seconds(entry.get("time")) for entry in metadata.pop("managedFields", None) or ()]
    annotations = metadata.get("annotations")
    if annotations is not None:
        annotations.pop(_LAST_APPLIED, None)
        if not annotations:
            del metadata["annotations"]
    if secret:
        for part in ("data", "stringData"):
            if body.get(part):
                body[part] = dict.fromkeys(body[part])
    return ObjectSnapshot(
        uid=metadata["uid"],
        version=int(metadata["resourceVersion"]),
        changed_at=max([created_at, *times, _seconds(metadata.get("deletionTimestamp"))]),
        created_at=created_at,
        raw=msgspec.json.encode(body),
    )


def _seconds(text: str | None) -> int:
    if not text:
        return 0
    return int(datetime.fromisoformat(text).astimezone(UTC).timestamp())
