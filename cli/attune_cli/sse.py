"""Server-sent events (WHATWG HTML, "Server-sent events"), as far as our API sends them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What is sent between two empty lines. ``data`` is None in one that only moves the reader's place on."""

    id: str | None = None
    event: str = "message"
    data: str | None = None
    retry: int | None = None


def messages(chunks: Iterable[bytes]) -> Iterator[Message]:
    """The messages in a stream that comes in pieces; what is incomplete at its end is dropped, as the standard wants it."""
    fields: dict[str, list[str]] = {}
    for line in _lines(chunks):
        if line:
            name, _, value = line.partition(":")
            if name:  # else it is a comment
                fields.setdefault(name, []).append(value.removeprefix(" "))
            continue
        if fields:
            retry = fields.get("retry", [""])[-1]
            yield Message(
                id=fields["id"][-1] if "id" in fields else None,
                event=fields.get("event", ["message"])[-1],
                data="\n".join(fields["data"]) if "data" in fields else None,
                retry=int(retry) if retry.isascii() and retry.isdigit() else None,
            )
            fields = {}


def _lines(chunks: Iterable[bytes]) -> Iterator[str]:
    # By hand: str.splitlines, and httpx by it, also splits at U+2028 and others that JSON may hold as they are.
    held = b""
    for chunk in chunks:
        *whole, held = (held + chunk).split(b"\n")
        for line in whole:
            yield line.removesuffix(b"\r").decode("utf-8", "replace")
