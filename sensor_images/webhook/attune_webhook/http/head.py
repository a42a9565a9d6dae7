"""Reads the head of a request: its target and its headers."""

from typing import Final
from urllib.parse import unquote

import httptools

#: Bytes of a request's head, from its first line to the empty one (RFC 6585, section 5).
MOST_HEAD_BYTES: Final = 16 * 1024
MOST_HEADERS: Final = 128


class MalformedError(Exception):
    """The request cannot be read. The message is for the sender, so it quotes nothing."""


def read_target(url: bytes) -> tuple[str, str]:
    """The decoded path, and path and query as they were sent. An absolute URL (RFC 9112, section 3.2.2) is taken apart.

    Raises:
        MalformedError: it is no URL.
    """
    if not url.startswith(b"/"):
        try:
            parsed = httptools.parse_url(url)
        except httptools.HttpParserInvalidURLError:
            raise MalformedError("The request's target is malformed.") from None
        url = (parsed.path or b"/") + (b"?" + parsed.query if parsed.query else b"")
    target = url.decode("utf-8", "surrogateescape")
    path = target.partition("?")[0]
    return (unquote(path, errors="replace") if "%" in path else path), target


def join_headers(pairs: list[tuple[bytes, bytes]]) -> dict[str, str]:
    """Headers by lower-case name; repeated ones are joined (RFC 9110, section 5.3).

    Raises:
        MalformedError: there are two Host headers.
    """
    headers: dict[str, str] = {}
    for raw_name, raw_value in pairs:
        name = raw_name.decode("latin-1").lower()
        value = raw_value.decode("utf-8", "surrogateescape")
        known = headers.get(name)
        if known is None:
            headers[name] = value
        elif name == "host":
            raise MalformedError("The request has several Host headers.")
        else:
            headers[name] = f"{known}, {value}"
    return headers


def keeps_alive(version: str, headers: dict[str, str]) -> bool:
    """Whether the connection may be used again (RFC 9112, section 9.3)."""
    connection = headers.get("connection")
    if connection is None:
        return version == "1.1"
    options = {option.strip() for option in connection.lower().split(",")}
    return "close" not in options if version == "1.1" else "keep-alive" in options
