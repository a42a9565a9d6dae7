"""Where a value is in a request, written as ``kind:name``: ``header:x-request-id``, ``query:token``, ``field:data.id``.

``part:t`` is the element ``t=…`` of a signature header with several elements.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from attune_webhook.http.request import Request, field_of, text_of

KINDS: Final = ("header", "query", "field", "part")

#: Reads a value from a request and the parts of its signature header; None when it is not there.
Reader = Callable[[Request, Mapping[str, str]], str | None]


def reader_of(source: str) -> Reader:
    """How to read a source.

    Raises:
        ValueError: it is none.
    """
    kind, _, name = source.partition(":")
    if kind not in KINDS or not name:
        raise ValueError(f"{source!r} is no source; expected one of: {', '.join(f'{each}:NAME' for each in KINDS)}")
    if kind == "header":
        lower = name.lower()
        return lambda request, _parts: request.headers.get(lower, "").strip() or None
    if kind == "query":
        return lambda request, _parts: _first(request.query.get(name))
    if kind == "field":
        return lambda request, _parts: text_of(field_of(request.read.data, name))
    return lambda _request, parts: parts.get(name)


def _first(values: Sequence[str] | None) -> str | None:
    return values[0] if values and len(values) == 1 and values[0] else None
