"""Reading request bodies within bounds of size, memory and time."""

import asyncio
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from fastapi import Request
from starlette.requests import ClientDisconnect

from attune_api.problems import Problem, unavailable
from attune_contract.events import MAX_BODY_BYTES

#: Seconds that a client may take to send a body.
_READ_TIMEOUT: Final = 30.0
#: Bytes of a refused body that are read and thrown away, so that its sender sees the answer and not a reset connection.
_DRAINED: Final = 4 * MAX_BODY_BYTES


class BodyMemory:
    """Counts the bytes of all bodies that are held at once, and refuses more than ``most``."""

    def __init__(self, *, most: int) -> None:
        self._most = most
        self._held = 0

    @asynccontextmanager
    async def read(self, request: Request) -> AsyncIterator[bytes]:
        """The body of ``request``, unpacked if it is gzip, while the context lasts.

        Raises:
            Problem: 400 cut short or no gzip, 408 too slow, 413 too large, 415 another type or encoding, 503 no memory
                left for it.
        """
        encoding = _check_headers(request)
        held = 0
        try:
            chunks: list[bytes] = []
            seen = 0
            try:
                async with asyncio.timeout(_READ_TIMEOUT):
                    async for chunk in request.stream():
                        seen += len(chunk)
                        if seen > MAX_BODY_BYTES:
                            chunks.clear()
                            if seen > MAX_BODY_BYTES + _DRAINED:
                                break
                            continue
                        held += len(chunk)
                        self._held += len(chunk)
                        if self._held > self._most:
                            raise unavailable(
                                "The API is reading too much at once; send this again.", kind="overloaded"
                            )
                        chunks.append(chunk)
            except TimeoutError:
                raise Problem(408, f"The body did not arrive within {_READ_TIMEOUT:.0f} s.") from None
            except ClientDisconnect:
                raise Problem(400, "The client left before the body was complete.") from None
            if seen > MAX_BODY_BYTES:
                raise too_large()
            body = b"".join(chunks)
            if encoding == "gzip":
                body = gunzip(body, most=MAX_BODY_BYTES)
                held += len(body)
                self._held += len(body)
            yield body
        finally:
            self._held -= held


def too_large() -> Problem:
    """A body, as sent or unpacked, above the bound."""
    return Problem(
        413,
        f"The body is larger than {MAX_BODY_BYTES} bytes (unpacked, if it is compressed); send fewer events at a time.",
        kind="body-too-large",
    )


def _check_headers(request: Request) -> str:
    content_type = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if content_type != "application/json" and not content_type.endswith("+json"):
        raise Problem(415, f"The body is {content_type!r}; send application/json.", kind="unsupported-media-type")
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip", ""):
        raise Problem(
            415,
            f"The body is compressed as {encoding!r}; send gzip or nothing.",
            kind="unsupported-encoding",
            headers={"Accept-Encoding": "gzip, identity"},  # RFC 9110 §12.5.3
        )
    return encoding


def gunzip(data: bytes, *, most: int) -> bytes:
    """Unpack one gzip member of at most ``most`` bytes; a bomb is not unpacked further than that.

    Raises:
        Problem: 400 when it is not gzip or cut short, 413 when there is more inside.
    """
    unpacker = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        body = unpacker.decompress(data, most + 1)
    except zlib.error:
        raise Problem(400, "The body says it is gzip, and is not.", kind="invalid-gzip") from None
    if len(body) > most:
        raise too_large()
    if not unpacker.eof or unpacker.unused_data:
        raise Problem(400, "The gzip body is cut short, or followed by something else.", kind="invalid-gzip")
    return body
