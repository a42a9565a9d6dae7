"""Templates of what is signed, like ``{timestamp}.{body}`` or ``v0:{header:x-slack-request-timestamp}:{body}``.

| placeholder | |
|---|---|
| ``{body}`` | the body as it was sent |
| ``{form}`` | the fields of a form-encoded body, sorted, each name followed by its value (Twilio) |
| ``{url}`` | the public URL with its query |
| ``{url-with-port}`` | the same with the port that the scheme implies |
| ``{method}`` | the method |
| ``{timestamp}`` | the time of signing as it was sent |
| ``{header:NAME}``, ``{query:NAME}``, ``{field:PATH}``, ``{part:NAME}`` | a source (:mod:`attune_webhook.schemes.sources`) |
"""

import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from typing import Final

from attune_webhook.bodies import form_fields
from attune_webhook.http.request import Request
from attune_webhook.schemes.sources import reader_of

_PLACEHOLDER: Final = re.compile(r"\{([^{}]*)\}")
_FORM: Final = "application/x-www-form-urlencoded"

#: Makes a part of what is signed of the request, the parts of the signature header, the time of signing and the public URL.
_Piece = Callable[[Request, Mapping[str, str], str, str], bytes | None]


class Template:
    """What is signed, made of a request.

    Args:
        text: the template.

    Raises:
        ValueError: it has a placeholder that is not known, or a brace that belongs to none.
    """

    __slots__ = ("_pieces", "body_alone", "covers_body")

    def __init__(self, text: str) -> None:
        #: Whether the body is all that is signed.
        self.body_alone = text == "{body}"
        #: Whether the body is signed at all.
        self.covers_body = "{body}" in text or "{form}" in text
        pieces: list[_Piece] = []
        at = 0
        for match in _PLACEHOLDER.finditer(text):
            pieces += _literal(text[at : match.start()])
            pieces.append(_piece(match[1]))
            at = match.end()
        self._pieces = (*pieces, *_literal(text[at:]))

    def render(self, request: Request, *, parts: Mapping[str, str], timestamp: str, url: str) -> bytes | None:
        """What is signed; None when something of it is not in the request."""
        if self.body_alone:
            return request.body
        made = [piece(request, parts, timestamp, url) for piece in self._pieces]
        return None if None in made else b"".join(piece for piece in made if piece is not None)


def _literal(text: str) -> list[_Piece]:
    if "{" in text or "}" in text:
        raise ValueError(f"{text!r} has a brace that belongs to no placeholder")
    data = text.encode()
    return [lambda _request, _parts, _timestamp, _url: data] if data else []


def _piece(name: str) -> _Piece:
    match name:
        case "body":
            return lambda request, _parts, _timestamp, _url: request.body
        case "form":
            return lambda request, _parts, _timestamp, _url: _sorted_form(request)
        case "url":
            return lambda _request, _parts, _timestamp, url: url.encode("utf-8", "surrogateescape")
        case "url-with-port":
            return lambda _request, _parts, _timestamp, url: _with_port(url).encode("utf-8", "surrogateescape")
        case "method":
            return lambda request, _parts, _timestamp, _url: request.method.encode()
        case "timestamp":
            return lambda _request, _parts, timestamp, _url: _bytes(timestamp or None)
    read = reader_of(name)
    return lambda request, parts, _timestamp, _url: _bytes(read(request, parts))


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else text.encode("utf-8", "surrogateescape")


def _sorted_form(request: Request) -> bytes | None:
    """As Twilio signs it; of other bodies the query must hold the digest: https://www.twilio.com/docs/usage/webhooks/webhooks-security#how-twilio-signs-its-requests"""
    if request.content_type == _FORM:
        fields = form_fields(request.body)
        return None if fields is None else "".join(name + value for name, value in sorted(set(fields))).encode()
    named = request.query.get("bodySHA256")
    if named is None:
        return None if request.body else b""
    digest = hashlib.sha256(request.body).hexdigest()
    return (
        b""
        if len(named) == 1 and hmac.compare_digest(named[0].lower().encode("utf-8", "replace"), digest.encode())
        else None
    )


def _with_port(url: str) -> str:
    scheme, _, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    if ":" in host.rpartition("]")[2]:
        return url
    return f"{scheme}://{host}:{443 if scheme == 'https' else 80}{slash}{path}"
