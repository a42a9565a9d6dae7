"""From what was found to an event. Pure."""

from typing import Any

import msgspec

from attune_http.findings import Item
from attune_http.parameters import Subscription
from attune_http.state import Change
from attune_kit.bodies import read_json, read_text


class Changed(msgspec.Struct, frozen=True, kw_only=True):
    """A change with its number."""

    number: int
    change: Change


def payload_of(rule: str, subscription: Subscription, content: Item | Changed, *, whole: bool) -> dict[str, Any]:
    """What an event carries.

    Args:
        rule: the rule, as namespace/name.
        subscription: what it asks for.
        content: what was found.
        whole: False: say only how large it is.
    """
    payload: dict[str, Any] = {"url": subscription.url, "rule": rule}
    if subscription.server is not None:
        payload["server"] = subscription.server
    if isinstance(content, Item):
        payload["id"] = content.id
        return {**payload, "item": content.fields} if whole else {**payload, "truncated": True, "bytes": content.size}
    change = content.change
    payload |= {"number": content.number}
    if change.etag:
        payload["etag"] = change.etag
    if not whole or len(change.raw) < change.size:
        return {**payload, "truncated": True, "bytes": change.size}
    return {**payload, "encoding": change.encoding, "body": _body(change)}


def _body(change: Change) -> Any:
    if change.encoding == "none":
        return None
    body = read_json(change.raw) if change.encoding == "json" else read_text(change.raw)
    return None if body is None else body.carried
