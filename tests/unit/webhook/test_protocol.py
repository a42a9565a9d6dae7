"""One connection, without a network."""

import asyncio
from typing import Any

from support.eventually import until

from attune_webhook.http.answers import Answer, RefusalError
from attune_webhook.http.protocol import HttpProtocol
from attune_webhook.http.request import Request

BODY = b"x" * 100
REQUEST = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n" + BODY


class Transport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def is_closing(self) -> bool:
        return False

    def can_write_eof(self) -> bool:
        return False

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def abort(self) -> None: ...


class Limit:
    limit = 1000


class Application:
    """Answers when it is let, and accounts for bodies."""

    draining = False

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.buffered = 0

    def admit(self, request: Request) -> Any:
        return Limit()

    async def respond(self, request: Request, admission: Any) -> Answer:
        await self.go.wait()
        return Answer(202)

    def refuse(self, refusal: RefusalError, admission: Any) -> Answer:
        return refusal.answer()

    def buffer(self, size: int) -> bool:
        self.buffered += size
        return True


def connected(application: Application) -> tuple[HttpProtocol, Transport]:
    protocol = HttpProtocol(
        application=application,
        connections=set(),
        finished=asyncio.Event(),
        most_connections=1,
        head_seconds=10,
        body_seconds=10,
    )
    transport = Transport()
    protocol.connection_made(transport)
    return protocol, transport


async def test_memory_of_bodies_is_given_back_when_they_are_answered() -> None:
    application = Application()
    protocol, transport = connected(application)
    protocol.data_received(REQUEST * 3)
    assert application.buffered == 300
    application.go.set()
    await until(lambda: not protocol.busy)
    assert application.buffered == 0
    assert transport.written.count(b"HTTP/1.1 202") == 3


async def test_memory_of_bodies_is_given_back_when_the_sender_goes_away() -> None:
    application = Application()
    protocol, _ = connected(application)
    protocol.data_received(REQUEST * 3 + REQUEST[:-50])
    assert application.buffered == 350
    protocol.connection_lost(None)
    application.go.set()
    await until(lambda: application.buffered == 0)


async def test_memory_of_a_body_that_is_too_long_is_given_back() -> None:
    application = Application()
    application.go.set()
    protocol, transport = connected(application)
    protocol.data_received(
        b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + b"64\r\n" + BODY + b"\r\n"
    )
    protocol.data_received(b"3e8\r\n" + b"x" * 1000)
    assert transport.written.startswith(b"HTTP/1.1 413")
    assert application.buffered == 0
