"""One connection: reads requests, has them judged as soon as their head is there, and answers them in order.

Parsing is httptools' (llhttp). A request is refused without its body where the head suffices. One request of a connection is
answered at a time; what a sender sends ahead waits.
"""

import asyncio
import collections
from collections.abc import Awaitable
from http import HTTPStatus
from typing import Any, Final, Protocol, cast

import httptools

from attune_webhook.http.answers import Answer, RefusalError
from attune_webhook.http.head import (
    MOST_HEAD_BYTES,
    MOST_HEADERS,
    MalformedError,
    join_headers,
    keeps_alive,
    read_target,
)
from attune_webhook.http.request import Request
from attune_webhook.http.writer import written

#: Requests that one connection may send ahead before it is no longer read.
_MOST_AHEAD: Final = 16
#: Bytes of a body that is no longer needed; a longer one ends the connection.
_MOST_DISCARDED: Final = 256 * 1024
#: Seconds for which a connection that was refused is still read, so that the sender gets to see the answer.
_LINGER: Final = 1.0
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class Admission(Protocol):
    """What was decided by the head of a request."""

    #: The longest body that is accepted, in bytes.
    limit: int


class Application(Protocol):
    """What answers requests (:class:`attune_webhook.server.WebhookServer`)."""

    draining: bool

    def admit(self, request: Request) -> Any:
        """Judge a request by its head: an :class:`Answer`, or an :class:`Admission` when its body is wanted."""

    def respond(self, request: Request, admission: Any) -> Awaitable[Answer]:
        """Answer a request that was admitted, with its body."""

    def refuse(self, refusal: RefusalError, admission: Any) -> Answer:
        """The answer to a request that cannot be read, or whose body is not acceptable."""

    def buffer(self, size: int) -> bool:
        """Account for bytes of bodies in memory (a negative number: released); False when there are too many."""


class _Exchange:
    """A request and what becomes of it."""

    __slots__ = ("admission", "answer", "buffered", "keep_alive", "parts", "request", "size")

    def __init__(self, request: Request, *, keep_alive: bool) -> None:
        self.request = request
        self.keep_alive = keep_alive
        self.admission: Any = None
        self.answer: Answer | None = None
        self.parts: list[bytes] = []
        self.size = 0
        self.buffered = 0  # bytes that the application accounts for


class HttpProtocol(asyncio.Protocol):
    """Serves one connection.

    Args:
        application: what answers.
        connections: all that are open; this one adds itself.
        finished: set whenever a request was answered or given up.
        most_connections: above which a new one is closed at once.
        head_seconds: for the next request's head to come.
        body_seconds: for a body to come.
    """

    def __init__(
        self,
        *,
        application: Application,
        connections: set["HttpProtocol"],
        finished: asyncio.Event,
        most_connections: int,
        head_seconds: float,
        body_seconds: float,
    ) -> None:
        self._application = application
        self._connections = connections
        self._finished = finished
        self._most_connections = most_connections
        self._head_seconds = head_seconds
        self._body_seconds = body_seconds
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: collections.deque[_Exchange] = collections.deque()
        self._busy: asyncio.Task[None] | None = None
        self._deaf = False  # what comes is discarded
        self._writable = True
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._head_bytes = 0  # received since the last request
        self._header_bytes = 0
        self._exchange: _Exchange | None = None  # whose body is being read
        #: When (loop time) the sender must have sent more; None while it waits for us.
        self.deadline: float | None = None

    # The transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A sender connected."""
        self._transport = cast("asyncio.Transport", transport)
        if len(self._connections) >= self._most_connections:
            self._transport.abort()
            return
        self._connections.add(self)
        self.deadline = self._loop.time() + self._head_seconds

    def connection_lost(self, _error: Exception | None) -> None:
        """The connection is closed. What is being answered goes on, as its event may be stored already."""
        self._connections.discard(self)
        self._transport = None
        self._drop_requests()
        self._finished.set()

    def eof_received(self) -> bool:
        """The sender sends no more; the answers that it waits for still go out."""
        if self._busy is None and not self._waiting:
            return False
        self._deaf = True
        return True

    def pause_writing(self) -> None:
        """The sender does not read its answers."""
        self._writable = False
        self.deadline = self._loop.time() + self._head_seconds

    def resume_writing(self) -> None:
        """The sender reads again."""
        self._writable = True
        self._next()

    def data_received(self, data: bytes) -> None:
        """Read on."""
        if self._deaf:
            return
        if self._exchange is None:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # The offer of another protocol is declined by answering in this one; the parser is of no use after it.
            self._deaf = True
        except httptools.HttpParserError:
            self._refuse_malformed("The request is malformed.")
        if self._exchange is None and self._head_bytes > MOST_HEAD_BYTES and not self._deaf:
            self._refuse(
                HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "head_too_large", "The request's head is too large."
            )

    # The parser.

    def on_message_begin(self) -> None:
        """A request begins."""
        self._url = b""
        self._headers = []
        self._header_bytes = 0

    def on_url(self, url: bytes) -> None:
        """A part of the target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header."""
        self._header_bytes += len(name) + len(value)
        if len(self._headers) < MOST_HEADERS and self._header_bytes <= MOST_HEAD_BYTES:
            self._headers.append((name, value))
        elif not self._deaf:
            self._refuse(
                HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "head_too_large", "The request's headers are too large."
            )

    def on_headers_complete(self) -> None:
        """The head is complete: decide whether the body is wanted."""
        if self._deaf:
            return
        self._head_bytes = 0
        try:
            path, target = read_target(self._url)
            headers = join_headers(self._headers)
        except MalformedError as error:
            self._refuse_malformed(str(error))
            return
        request = Request(
            method=self._parser.get_method().decode("ascii"), path=path, target=target, headers=headers, body=b""
        )
        exchange = _Exchange(request, keep_alive=keeps_alive(self._parser.get_http_version(), headers))
        decided = self._application.admit(request)
        if isinstance(decided, Answer):
            exchange.answer = decided
            if decided.close:
                self._give_up(exchange)
                return
        else:
            exchange.admission = decided
            if (
                headers.get("expect", "").lower() == "100-continue"
                and self._busy is None
                and self._transport is not None
            ):
                self._transport.write(_CONTINUE)
        self._exchange = exchange
        self.deadline = self._loop.time() + self._body_seconds

    def on_body(self, data: bytes) -> None:
        """A part of the body."""
        exchange = self._exchange
        if exchange is None or self._deaf:
            return
        exchange.size += len(data)
        if exchange.answer is not None:
            if exchange.size > _MOST_DISCARDED:
                self._give_up(exchange)
            return
        if exchange.size > exchange.admission.limit:
            self._refuse(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                "too_large",
                f"The body has more than {exchange.admission.limit} bytes.",
            )
        elif not self._application.buffer(len(data)):
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "busy", "Too many bodies are being read; try again.")
        else:
            exchange.buffered += len(data)
            exchange.parts.append(data)

    def on_message_complete(self) -> None:
        """The body is complete."""
        exchange, self._exchange = self._exchange, None
        if exchange is None or self._deaf:
            return
        parts = exchange.parts
        exchange.request.body = parts[0] if len(parts) == 1 else b"".join(parts)
        self._waiting.append(exchange)
        self.deadline = None
        if len(self._waiting) > _MOST_AHEAD and self._transport is not None:
            self._transport.pause_reading()
        self._next()

    # Answers.

    def _next(self) -> None:
        """Answer the next request, unless one is being answered."""
        while self._waiting and self._busy is None and self._writable:
            exchange = self._waiting.popleft()
            if exchange.answer is not None:
                self._write(exchange, exchange.answer)
            else:
                self._busy = self._loop.create_task(self._answer(exchange))

    async def _answer(self, exchange: _Exchange) -> None:
        try:
            answer = await self._application.respond(exchange.request, exchange.admission)
        finally:
            self._busy = None
            self._application.buffer(-exchange.buffered)
        self._write(exchange, answer)
        self._next()
        self._finished.set()

    def _write(self, exchange: _Exchange, answer: Answer) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        keep_alive = exchange.keep_alive and not answer.close and not self._application.draining
        if self._deaf and not self._waiting:
            keep_alive = False
        transport.write(written(answer, head_only=exchange.request.method == "HEAD", keep_alive=keep_alive))
        if not keep_alive:
            self._linger()
            return
        if self._exchange is None and not self._waiting:
            self.deadline = self._loop.time() + self._head_seconds
        if len(self._waiting) <= _MOST_AHEAD:
            transport.resume_reading()

    def _linger(self) -> None:
        """Send no more, and read for a moment what the sender still sends: closing at once could take the answer away from it."""
        self._deaf = True
        self._drop_requests()
        self._finished.set()
        transport = self._transport
        if transport is None:
            return
        if transport.can_write_eof():
            transport.write_eof()
        transport.resume_reading()
        self._loop.call_later(_LINGER, self.abort)

    def _give_up(self, exchange: _Exchange) -> None:
        """Answer a request without reading the rest of it, and nothing after it."""
        self._exchange = None
        self._deaf = True
        self.deadline = None
        exchange.keep_alive = False
        if exchange.buffered:
            self._application.buffer(-exchange.buffered)
        exchange.buffered = 0
        self._waiting.append(exchange)
        self._next()

    def _refuse(self, status: HTTPStatus, kind: str, detail: str) -> None:
        exchange = self._exchange
        if exchange is None:
            exchange = _Exchange(Request(method="", path="", target="", headers={}, body=b""), keep_alive=False)
        headers = {"Retry-After": "1"} if status is HTTPStatus.SERVICE_UNAVAILABLE else None
        refusal = RefusalError(status, kind, detail, headers=headers, close=True)
        exchange.answer = self._application.refuse(refusal, exchange.admission)
        self._give_up(exchange)

    def _refuse_malformed(self, detail: str) -> None:
        if not self._deaf:
            self._refuse(HTTPStatus.BAD_REQUEST, "malformed", detail)

    def _drop_requests(self) -> None:
        """Forget what is not answered yet, and give its memory back."""
        unanswered = [*self._waiting, *([self._exchange] if self._exchange is not None else [])]
        self._waiting.clear()
        self._exchange = None
        self._application.buffer(-sum(exchange.buffered for exchange in unanswered))

    # The server.

    @property
    def busy(self) -> bool:
        """Whether a request is being read or answered."""
        return self._busy is not None or bool(self._waiting) or self._exchange is not None

    def expire(self, now: float) -> None:
        """Close the connection when the sender takes too long."""
        if self.deadline is None or now < self.deadline:
            return
        self.deadline = None
        if self._exchange is not None and self._writable:
            text = f"The body did not come within {self._body_seconds:g} s."
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, "slow", text)
        else:
            self.abort()

    def close_idle(self) -> None:
        """Close the connection unless a request is being answered."""
        if not self.busy and self._transport is not None:
            self._transport.close()

    def close(self) -> None:
        """Close the connection once everything is sent."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close the connection at once."""
        if self._transport is not None:
            self._transport.abort()
