"""Reading request bodies within bounds of size, memory and time.

Every route that takes a body reads it here, after it knows who is calling. FastAPI's own body parameters do neither: they
read and parse any number of bytes before a route, or a dependency, is called. A test goes over all routes.
"""

import asyncio
import zlib
from typing import Final, Self

from fastapi import Request
from starlette.types import Receive

from attune_api.web.problems import ProblemError, unavailable
from attune_contract.events import MAX_BODY_BYTES

#: Seconds that a client may take to send a body.
_READ_TIMEOUT: Final = 30.0
#: Bytes of a refused body that are read and thrown away, so that its sender sees the answer and not a reset connection.
_DRAINED: Final = 4 * MAX_BODY_BYTES
#: Largest body of a request that is no report of events, in bytes.
SMALL_BODY_BYTES: Final = 64 * 1024


class BodyMemory:
    """Counts the bytes of all bodies that are held at once, and refuses more than ``most``."""

    def __init__(self, *, most: int) -> None:
        self._most = most
        self._held = 0

    async def read(self, body: "HeldBody", receive: Receive, *, encoding: str, largest: int = MAX_BODY_BYTES) -> bytes:
        """The body of a request, unpacked if it is gzip. Its bytes count until ``body`` is let go.

        Args:
            body: what is held for the request.
            receive: where it comes from (ASGI).
            encoding: what :func:`check_headers` returned.
            largest: bytes that it may have, as sent and unpacked.

        Raises:
            ProblemError: 400 cut short or no gzip, 408 too slow, 413 too large, 503 no memory left for it.
        """
        try:
            async with asyncio.timeout(_READ_TIMEOUT):
                data = await self._receive(body, receive, largest)
        except TimeoutError:
            raise ProblemError(408, f"The body did not arrive within {_READ_TIMEOUT:.0f} s.") from None
        if encoding == "gzip":
            data = gunzip(data, most=largest)
            self._hold(body, len(data))
        return data

    async def read_small(self, request: Request) -> bytes:
        """The body of a request that is no report of events: at most :data:`SMALL_BODY_BYTES`. Held no longer than it is read.

        Raises:
            ProblemError: as :meth:`read` and :func:`check_headers`.
        """
        headers = request.headers
        encoding = check_headers(
            content_type=headers.get("content-type"), content_encoding=headers.get("content-encoding")
        )
        with self.hold() as held:
            return await self.read(held, request.receive, encoding=encoding, largest=SMALL_BODY_BYTES)

    async def _receive(self, body: "HeldBody", receive: Receive, largest: int) -> bytes:
        chunks: list[bytes] = []
        seen = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ProblemError(400, "The client left before the body was complete.")
            chunk = message.get("body", b"")
            seen += len(chunk)
            if seen <= largest:
                self._hold(body, len(chunk))
                chunks.append(chunk)
            elif seen > largest + _DRAINED:
                break
            if not message.get("more_body", False):
                break
        if seen > largest:
            raise too_large(largest)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _hold(self, body: "HeldBody", size: int) -> None:
        body.size += size
        self._held += size
        if self._held > self._most:
            raise unavailable("The API is reading too much at once; send this again.", kind="overloaded")

    def hold(self) -> "HeldBody":
        """A context in which a body may be held."""
        return HeldBody(self)

    def let_go(self, body: "HeldBody") -> None:
        """Count a body no longer."""
        self._held -= body.size
        body.size = 0


class HeldBody:
    """How much of the memory for bodies one request has taken, until the context ends."""

    __slots__ = ("_memory", "size")

    def __init__(self, memory: BodyMemory) -> None:
        self._memory = memory
        self.size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._memory.let_go(self)


def too_large(largest: int) -> ProblemError:
    """A body, as sent or unpacked, above the bound of ``largest`` bytes."""
    hint = "; send fewer events at a time" if largest == MAX_BODY_BYTES else ""
    return ProblemError(
        413, f"The body is larger than {largest} bytes (unpacked, if it is compressed){hint}.", kind="body-too-large"
    )


def check_headers(*, content_type: str | None, content_encoding: str | None) -> str:
    """How the body is encoded: ``identity`` or ``gzip``.

    Raises:
        ProblemError: 415, another type or encoding.
    """
    if content_type is not None and content_type != "application/json":
        kind = content_type.partition(";")[0].strip().lower()
        if kind != "application/json" and not kind.endswith("+json"):
            raise ProblemError(415, f"The body is {kind!r}; send application/json.", kind="unsupported-media-type")
    if content_encoding is None:
        return "identity"
    encoding = content_encoding.strip().lower()
    if encoding not in ("identity", "gzip", ""):
        raise ProblemError(
            415,
            f"The body is compressed as {encoding!r}; send gzip or nothing.",
            kind="unsupported-encoding",
            headers={"Accept-Encoding": "gzip, identity"},  # RFC 9110 §12.5.3
        )
    return encoding or "identity"


def gunzip(data: bytes, *, most: int) -> bytes:
    """Unpack one gzip member of at most ``most`` bytes; a bomb is not unpacked further than that.

    Raises:
        ProblemError: 400 when it is not gzip or cut short, 413 when there is more inside.
    """
    unpacker = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        body = unpacker.decompress(data, most + 1)
    except zlib.error:
        raise ProblemError(400, "The body says it is gzip, and is not.", kind="invalid-gzip") from None
    if len(body) > most:
        raise too_large(most)
    if not unpacker.eof or unpacker.unused_data:
        raise ProblemError(400, "The gzip body is cut short, or followed by something else.", kind="invalid-gzip")
    return body
