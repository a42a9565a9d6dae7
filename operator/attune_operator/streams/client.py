"""nats-py's client, made to be cancelled and to send many small messages.

Its ``_flush_pending``, which every publish, request and subscription goes through, swallows ``CancelledError`` (2.16), and so
may ``asyncio.wait_for`` under its requests (Python 3.11): a task that is cancelled just there would go on as if nothing had
happened, and whoever waits for it would wait for ever.

And it takes more time over a message's headers than over all the rest: writing them, a regular expression and two translations
for each; reading them, a look at each character.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import ConnectionClosedError

from attune_contract.headers import read_headers


def heed_cancellation() -> None:
    """Be cancelled now if somebody cancelled the current task and something swallowed it.

    Raises:
        asyncio.CancelledError: so it is.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def prepare_headers(headers: Mapping[str, str]) -> bytes:
    """The header block of a message (NATS protocol, HPUB). A line break in a value becomes a space: it would begin a header."""
    lines = [f"{name}: {value}\r\n" for name, value in headers.items()]
    block = "".join(lines)
    if block.count("\n") != len(lines) or block.count("\r") != len(lines):
        block = "".join(f"{name}: {' '.join(value.split())}\r\n" for name, value in headers.items())
    return f"NATS/1.0\r\n{block}\r\n".encode()


class CancellableClient(Client):  # type: ignore[misc]
    """A client whose calls end when the task that makes them is cancelled."""

    @staticmethod
    def _parse_header_lines(raw: bytes) -> dict[str, str]:
        found = read_headers(raw)
        return Client._parse_header_lines(raw) if found is None else found

    async def publish(self, *args: Any, **kwargs: Any) -> None:
        """As in ``Client``."""
        await super().publish(*args, **kwargs)
        heed_cancellation()

    async def subscribe(self, *args: Any, **kwargs: Any) -> Subscription:
        """As in ``Client``."""
        subscription = await super().subscribe(*args, **kwargs)
        heed_cancellation()
        return subscription

    async def publish_prepared(self, *, subject: str, reply: str, headers: bytes, body: bytes) -> None:
        """Publish a message whose headers were made by :func:`prepare_headers`.

        ``subject`` and ``reply`` are not checked.

        Raises:
            ConnectionClosedError: the connection is closed.
        """
        if self.is_closed:
            raise ConnectionClosedError
        size = len(headers) + len(body)
        line = f"HPUB {subject} {reply} {len(headers)} {size}\r\n".encode()
        self.stats["out_msgs"] += 1
        self.stats["out_bytes"] += len(body)
        await self._send_command(b"".join((line, headers, body, b"\r\n")))
        if self._flush_queue.empty():
            await self._flush_pending()
        heed_cancellation()

    async def request(self, *args: Any, **kwargs: Any) -> Msg:
        """As in ``Client``."""
        answer = await super().request(*args, **kwargs)
        heed_cancellation()
        return answer
