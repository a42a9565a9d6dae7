"""Following the last message of each subject of a stream, over restarts of anything.

Not nats-py's ordered consumer: after a stream was deleted and made again that goes on at the old sequence and silently
loses messages. Here any doubt (a reconnect, a missed heartbeat, a gap, time) leads to a new consumer with a new name,
which delivers the last message of every subject again.
"""

import asyncio
import secrets
from collections.abc import AsyncGenerator, Callable
from typing import Final

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

_HEARTBEAT: Final = 1.0
_SILENCE: Final = 3 * _HEARTBEAT
_INACTIVE: Final = 30.0
_LOOK: Final = 0.25


class Interrupted(nats.errors.Error):  # type: ignore[misc]
    """Something may have been missed; begin again. The text says why."""


async def latest_then_live(
    client: Client, *, stream: str, subjects: str, resync: float, generation: Callable[[], int]
) -> AsyncGenerator[Msg]:
    """The last message of every subject, then each new one, until there is reason to begin again.

    Args:
        client: a connection to NATS.
        stream: the stream.
        subjects: filter.
        resync: seconds after which to begin again in any case.
        generation: a number that changes when the connection was made anew.

    Raises:
        Interrupted: begin again.
        nats.errors.Error: there is no such stream, no right to read it, or no connection.
    """
    loop = asyncio.get_running_loop()
    ends = loop.time() + resync
    inbox = client.new_inbox()
    subscription = await client.subscribe(inbox)
    name = f"api-{secrets.token_hex(6)}"
    jetstream = client.jetstream(timeout=5)
    try:
        await jetstream.add_consumer(
            stream,
            ConsumerConfig(
                name=name,
                deliver_subject=inbox,
                deliver_policy=DeliverPolicy.LAST_PER_SUBJECT,
                filter_subject=subjects,
                ack_policy=AckPolicy.NONE,
                idle_heartbeat=_HEARTBEAT,
                flow_control=True,
                inactive_threshold=_INACTIVE,
                mem_storage=True,
                num_replicas=1,
            ),
        )
        expected = 1
        began = generation()
        heard = loop.time()
        while True:
            if generation() != began:
                raise Interrupted("the connection was made anew")
            if loop.time() >= ends:
                raise Interrupted("due")
            try:
                message = await subscription.next_msg(timeout=_LOOK)
            except nats.errors.TimeoutError:
                if loop.time() - heard > _SILENCE:
                    raise Interrupted("no heartbeat") from None
                continue
            heard = loop.time()
            headers = message.headers or {}
            if headers.get("Status") == "100":  # heartbeat or flow control; the latter wants an answer
                if message.reply:
                    await message.respond(b"")
                elif stalled := headers.get("Nats-Consumer-Stalled"):
                    await client.publish(stalled)
                last = headers.get("Nats-Last-Consumer")
                if last is not None and int(last) >= expected:
                    raise Interrupted("a message was lost")
            elif headers.get("Status"):
                raise Interrupted(f"status {headers['Status']}")
            else:
                sequence = message.metadata.sequence.consumer
                if sequence != expected:
                    raise Interrupted("a message was lost")
                expected += 1
                yield message
    finally:
        if client.is_connected:
            await subscription.unsubscribe()
