"""Requests that every server of a NATS cluster answers by itself (NATS documentation, "System Events")."""

import asyncio
from typing import Final

from nats.aio.msg import Msg

from attune_kit.nats.connection import NatsConnection

#: Answers of one request that are kept: far more than a cluster has servers.
_MOST: Final = 64


async def answers(connection: NatsConnection, subject: str, *, within: float) -> list[bytes]:
    """What the servers answer. None of them knows how many there are, so there is a time to wait for the last.

    Args:
        connection: of a user of the system account.
        subject: of the request, which is empty.
        within: seconds.
    """
    found: asyncio.Queue[bytes] = asyncio.Queue(maxsize=_MOST)

    async def take(answer: Msg) -> None:
        if not found.full():
            found.put_nowait(answer.data)

    inbox = connection.client.new_inbox()
    subscription = await connection.client.subscribe(inbox, cb=take)
    try:
        await connection.client.publish(subject, b"", reply=inbox)
        await asyncio.sleep(within)
    finally:
        if not connection.closed:
            await subscription.unsubscribe()
    return [found.get_nowait() for _ in range(found.qsize())]
