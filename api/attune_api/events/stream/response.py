"""Answers that go on: server-sent events to a client that may leave, or stop reading, at any time."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from typing import Final

import structlog
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

log = structlog.get_logger(__name__)

#: Where a request's scope has the function that drops its connection (see :class:`AbortableProtocol`).
ABORT: Final = "attune.abort"


class AbortableProtocol(HttpToolsProtocol):
    """uvicorn's protocol; each request can also drop its connection with what is still to be sent on it.

    Closing, which is all that ASGI has, waits until a client has taken everything, and the one that is to be dropped is the
    one that takes nothing.
    """

    def on_message_begin(self) -> None:
        """See uvicorn."""
        super().on_message_begin()
        self.scope[ABORT] = self.transport.abort  # type: ignore[typeddict-unknown-key]


class _ClientStalledError(Exception):
    """A client took nothing for too long."""


class EventStream(Response):
    """An answer of server-sent events.

    Args:
        frames: what is sent; closed when the client leaves.
        send_timeout: seconds for which a client may take nothing before it is cut off.
        cut_off: called when one is.
        release: called when it is over, however it ends.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        frames: AsyncGenerator[bytes],
        *,
        send_timeout: float,
        cut_off: Callable[[], object],
        release: Callable[[], object],
    ) -> None:
        # X-Accel-Buffering makes nginx, and so many ingresses, forward each event at once.
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._frames = frames
        self._send_timeout = send_timeout
        self._cut_off = cut_off
        self._release = release

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the frames end, or the client leaves or is cut off (ASGI)."""
        sending = asyncio.create_task(self._send_all(send))
        leaving = asyncio.create_task(_left(receive))
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done() and isinstance(sending.exception(), _ClientStalledError):
                self._cut_off()
                log.info("stream_cut_off", path=scope["path"], seconds=self._send_timeout)
                abort = scope.get(ABORT)
                if abort is not None:
                    abort()
                    await leaving
            elif sending.done():
                sending.result()
        finally:
            for task in (sending, leaving):
                task.cancel()
            await asyncio.gather(sending, leaving, return_exceptions=True)
            self._release()

    async def _send_all(self, send: Send) -> None:
        async with contextlib.aclosing(self._frames):
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            async for frame in self._frames:
                try:
                    async with asyncio.timeout(self._send_timeout):
                        await send({"type": "http.response.body", "body": frame, "more_body": True})
                except TimeoutError:
                    raise _ClientStalledError from None
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _left(receive: Receive) -> None:
    """Return when the client is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
