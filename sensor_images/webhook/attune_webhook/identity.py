"""What tells one delivery from another: the same delivery twice is one event."""

import hashlib
import uuid
from functools import lru_cache
from typing import Final

import msgspec

from attune_webhook.http.request import Request
from attune_webhook.parameters import Hook
from attune_webhook.schemes.sources import Reader, reader_of

#: Longer names are hashed, so that two that differ only at their ends stay two.
_LONGEST_ID: Final = 512
#: Names of sources that stand for another: Svix sends the same id under both.
_ALIASES: Final = {"header:svix-id": "webhook-id"}
#: CloudEvents in structured mode name their source and id in the body.
_STRUCTURED: Final = frozenset({"application/cloudevents+json", "application/cloudevents-batch+json"})
_CLOUD_EVENT: Final = ("field:source", "field:id")


def occurrence_of(hook: Hook, request: Request) -> str:
    """The name of the delivery: the first of the hook's ids that the request has.

    Without one, each request is an occurrence of its own.
    """
    ids = hook.ids
    if not hook.auth.preset.only_signed_ids and request.content_type in _STRUCTURED:
        ids = (*ids, _CLOUD_EVENT)
    for sources in ids:
        values = [_reader(source)(request, {}) for source in sources]
        if None not in values:
            return _name(hook, sources, [value or "" for value in values])
    return uuid.uuid4().hex


@lru_cache(maxsize=4096)
def _reader(source: str) -> Reader:
    return reader_of(source)


def _name(hook: Hook, sources: tuple[str, ...], values: list[str]) -> str:
    clean = [value.encode("utf-8", "replace").decode() for value in values]
    if len(sources) > 1:
        found = msgspec.json.encode(list(zip(sources, clean, strict=True))).decode()
    else:
        kind, _, name = sources[0].partition(":")
        # The names of fields are the sender's affair, so the type tells them apart.
        found = f"{hook.auth.preset.name if kind == 'field' else _ALIASES.get(sources[0], name)}:{clean[0]}"
    if len(found) > _LONGEST_ID:
        return f"sha256:{hashlib.sha256(found.encode()).hexdigest()}"
    return found
