"""nats-py's client, made safe to cancel and fast at headers.

nats-py 2.16 swallows ``CancelledError`` in ``_flush_pending``, which every publish, request and subscription may wait
in; ``asyncio.wait_for`` under its requests may do the same (Python 3.11). A task that is cancelled at that moment goes
on as if nothing had happened, and whatever waits for its end waits forever. :class:`NatsClient` raises the error after
the call instead.

The same happens to its reconnecting: ``Client.close`` cancels that once and goes. When it is swallowed, the closed client
tries to connect for ever, and an event loop that waits for its tasks (``asyncio.run``) does not end.

It also goes on without TLS to a server that only allows TLS (``allow_non_tls``) or has none, whatever the URL says, and
what the server says can be changed on the way. Here ``tls://`` means TLS or nothing.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any, Final

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import ConnectionClosedError, Error

from attune_kit.nats.headers import read_headers
from attune_kit.supervisor import end

_CLOSE_TIMEOUT: Final = 2.0


def heed_cancellation() -> None:
    """Raise the cancellation of the current task if a library has swallowed it.

    Raises:
        asyncio.CancelledError: the task was cancelled.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


class NatsClient(Client):  # type: ignore[misc]
    """A client whose calls end when the task that makes them is cancelled, and that is at rest when it is closed."""

    def __init__(self) -> None:
        super().__init__()
        self._reconnecting: set[asyncio.Task[Any]] = set()

    async def _attempt_reconnect(self) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._reconnecting.add(task)
            task.add_done_callback(self._reconnecting.discard)
        await super()._attempt_reconnect()

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        if initial_connection and self._current_server.uri.scheme == "tls":
            if not (info.get("tls_required") or info.get("tls_available")):
                raise Error("the server offers no TLS, which its URL (tls://) asks for")
            # Client decides by this, before it sends anything.
            self._server_info["tls_required"] = True
        await super()._process_info(info, initial_connection)

    async def close(self) -> None:
        """As in ``Client``, and end the reconnecting."""
        await super().close()
        if others := self._reconnecting - {asyncio.current_task()}:
            await end(*others, patience=0.2)
            await super().close()  # it may have connected in the meantime

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

    async def request(self, *args: Any, **kwargs: Any) -> Msg:
        """As in ``Client``."""
        answer = await super().request(*args, **kwargs)
        heed_cancellation()
        return answer

    async def flush(self, timeout: int = 10) -> None:  # noqa: ASYNC109 - the signature of ``Client``
        """As in ``Client``."""
        await super().flush(timeout)
        heed_cancellation()

    async def publish_prepared(self, *, subject: str, reply: str, headers: bytes, body: bytes) -> None:
        """Publish a message whose headers come from :func:`attune_kit.nats.headers.prepare_headers`.

        ``subject`` and ``reply`` are not checked.

        Raises:
            ConnectionClosedError: the connection is closed.
        """
        await self.publish_many([prepared_message(subject=subject, reply=reply, headers=headers, body=body)])

    async def publish_many(self, messages: Sequence[bytes]) -> None:
        """Publish messages that :func:`prepared_message` made, at once and in their order.

        Raises:
            ConnectionClosedError: the connection is closed.
        """
        if self.is_closed:
            raise ConnectionClosedError
        self.stats["out_msgs"] += len(messages)
        self.stats["out_bytes"] += sum(map(len, messages))
        await self._send_command(b"".join(messages))
        if self._flush_queue.empty():
            await self._flush_pending()
        heed_cancellation()


def prepared_message(*, subject: str, reply: str, headers: bytes, body: bytes) -> bytes:
    """A message as it goes over the wire (NATS protocol, HPUB). Nothing of it is checked.

    Args:
        subject: where to.
        reply: where an answer is expected; empty for none.
        headers: what :func:`attune_kit.nats.headers.prepare_headers` made.
        body: its body.
    """
    line = f"HPUB {subject} {reply} {len(headers)} {len(headers) + len(body)}\r\n".encode()
    return b"".join((line, headers, body, b"\r\n"))


async def unsubscribe(subscription: Subscription | None) -> None:
    """End a subscription. Without effect when the connection is gone, because the subscription went with it."""
    if subscription is not None:
        with contextlib.suppress(Error, OSError):
            await subscription.unsubscribe()
        heed_cancellation()


async def close(client: Client) -> None:
    """Close a client, whatever state it is in, within about three seconds.

    ``Client.close`` flushes first, which takes forever when the server does not read, and swallows one cancellation.
    What it has not sent by then is dropped with the socket.
    """
    closing = asyncio.ensure_future(client.close())
    try:
        await asyncio.wait({closing}, timeout=_CLOSE_TIMEOUT)
    finally:
        if not closing.done():
            await end(closing, patience=0.2)
            _abort(client)
        elif not closing.cancelled():
            closing.exception()  # the connection is given up anyway
    heed_cancellation()


def _abort(client: Client) -> None:
    """Close the socket without waiting for what it has not sent."""
    writer = getattr(client._transport, "_io_writer", None)
    if writer is not None:
        writer.transport.abort()
