"""How the console asks the Kubernetes API: watches that last hold up no request."""

import asyncio
from asyncio import StreamReader, StreamWriter
from contextlib import AsyncExitStack
from pathlib import Path

from attune_api.console.cluster import connect

#: As many lists as are watched at once.
WATCHES = 64
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
_JSON = _ANSWER + b'Content-Length: 15\r\nConnection: close\r\n\r\n{"kind":"Rule"}'
_STREAM = _ANSWER + b"\r\n"


async def _answer(reader: StreamReader, writer: StreamWriter) -> None:
    """Answer a request, and go on for as long as the client stays if it is a watch."""
    request = await reader.readuntil(b"\r\n\r\n")
    watched = b"watch=true" in request.partition(b"\r\n")[0]
    writer.write(_STREAM if watched else _JSON)
    await writer.drain()
    if watched:
        await reader.read()
    writer.close()


async def test_however_many_lists_are_watched_requests_are_answered() -> None:
    server = await asyncio.start_server(_answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    cluster = connect(url=f"http://127.0.0.1:{port}", ca_file=Path("/nonexistent"), admin_token_file=None)
    try:
        async with AsyncExitStack() as stack:
            for _ in range(WATCHES):
                await stack.enter_async_context(cluster.watch("token", "/apis/rules", "1"))
            found = await asyncio.gather(*(cluster.get("token", "/apis/rules/one") for _ in range(20)))
        assert found == [{"kind": "Rule"}] * 20
    finally:
        await cluster.close()
        server.close()
