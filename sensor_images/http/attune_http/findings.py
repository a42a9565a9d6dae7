"""What an answer holds: a part that may have changed, or items. Pure."""

from datetime import datetime
from hashlib import blake2b
from typing import Any, Final

import msgspec

from attune_http.feeds import FeedError, entries_of
from attune_http.parameters import Subscription
from attune_http.pointers import MISSING, value_at
from attune_kit.bodies import Body, read_body, read_json
from attune_sensor import SourceError

#: Items in one answer.
MOST_ITEMS: Final = 20_000


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """An item of a list or a feed.

    Attributes:
        id: its id.
        mark: stands for its id (and, if these count, its version) among what is remembered.
        name: names it for ever.
        at: when it was published; None if nobody knows.
        fields: what events carry of it.
        size: bytes of them, as JSON.
    """

    id: str
    mark: bytes
    name: str
    at: datetime | None
    fields: Any
    size: int


class Items(msgspec.Struct, frozen=True, kw_only=True):
    """The items of an answer.

    Attributes:
        items: oldest first, each id once.
        nameless: how many have no id.
    """

    items: list[Item]
    nameless: int


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """What may have changed.

    Attributes:
        encoding: as of :class:`attune_kit.bodies.Body`.
        raw: the bytes of which the event's body is made.
        digest: of them; of JSON, spaces and the order of members do not matter.
    """

    encoding: str
    raw: bytes
    digest: bytes


def part_of(raw: bytes, subscription: Subscription) -> Part:
    """What may have changed: the whole answer, or what the pointer refers to.

    Raises:
        SourceError: the answer is no JSON and has no parts.
    """
    if not subscription.pointer:
        body: Body = read_body(raw)
        same = raw if body.encoding != "json" else msgspec.json.encode(body.data, order="sorted")
        return Part(encoding=body.encoding, raw=raw, digest=_digest(same))
    value = value_at(_json(raw), subscription.pointer)
    if value is MISSING:
        return Part(encoding="none", raw=b"", digest=_digest(b""))
    return Part(
        encoding="json", raw=msgspec.json.encode(value), digest=_digest(msgspec.json.encode(value, order="sorted"))
    )


def items_of(raw: bytes, subscription: Subscription) -> Items:
    """The items of a list or a feed.

    Raises:
        SourceError: there are none, or too many.
    """
    if subscription.mode == "feed":
        try:
            given = [(entry.id, entry.at, entry.fields) for entry in entries_of(raw)]
        except FeedError as error:
            raise SourceError(str(error)) from None
    else:
        given = [(_id(value_at(each, subscription.id)), None, each) for each in _list(raw, subscription)]
    if len(given) > MOST_ITEMS:
        raise SourceError(f"it has {len(given)} items; at most {MOST_ITEMS} are read. Ask for a page")
    if subscription.listed == "newestFirst":
        given.reverse()
    found: dict[bytes, Item] = {}
    for identity, at, fields in given:
        if identity:
            packed = msgspec.json.encode(fields)
            version = msgspec.json.encode(fields, order="sorted") if subscription.updates else b""
            digest = _digest(identity.encode(), version)
            found.setdefault(
                digest[:8],
                Item(id=identity, mark=digest[:8], name=digest.hex(), at=at, fields=fields, size=len(packed)),
            )
    return Items(items=list(found.values()), nameless=sum(not identity for identity, _, _ in given))


def _list(raw: bytes, subscription: Subscription) -> list[Any]:
    value = value_at(_json(raw), subscription.pointer)
    if not isinstance(value, list):
        raise SourceError(f"the answer has no list at {subscription.pointer or 'its top'}")
    return value


def _json(raw: bytes) -> Any:
    body = read_json(raw)
    if body is None:
        raise SourceError("the answer is no JSON that events can carry")
    return body.data


def _id(value: Any) -> str:
    """An id as text. What is no text and no number is none."""
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return ""


def _digest(*parts: bytes) -> bytes:
    digest = blake2b(digest_size=16)
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.digest()
