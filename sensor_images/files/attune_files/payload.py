"""From a file to an event. Pure."""

from base64 import b64encode
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from attune_files.parameters import Subscription
from attune_files.scanning import Content, File, shown
from attune_kit.bodies import read_body

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Read(msgspec.Struct, frozen=True, kw_only=True):
    """A file with what was read of it."""

    file: File
    content: Content


def modified_at(file: File) -> datetime | None:
    """When a file was written last; None when events cannot have that time."""
    try:
        found = _EPOCH + timedelta(microseconds=file.modified // 1000)
    except OverflowError:
        return None
    return found if 1980 <= found.year <= 2100 else None


def payload_of(rule: str, subscription: Subscription, read: Read, *, whole: bool) -> dict[str, Any]:
    """What an event carries.

    Args:
        rule: the rule, as namespace/name.
        subscription: what it asks for.
        read: the file.
        whole: False: the content makes the event too large.
    """
    file = read.file
    payload: dict[str, Any] = {
        "folder": subscription.folder,
        "path": shown(file.path),
        "size": file.size,
        "rule": rule,
    }
    if payload["path"] != file.path:
        payload["pathBase64"] = b64encode(file.path.encode("utf-8", "surrogateescape")).decode("ascii")
    if (at := modified_at(file)) is not None:
        payload["modified"] = at.isoformat().replace("+00:00", "Z")
    if read.content.digest:
        payload["digest"] = f"sha256:{read.content.digest}"
    if read.content.error:
        return {**payload, "error": read.content.error}
    if subscription.content == "none":
        return payload
    if read.content.raw is None or not whole:
        return {**payload, "truncated": True}
    body = read_body(read.content.raw)
    return {**payload, "encoding": body.encoding, "body": body.carried}
