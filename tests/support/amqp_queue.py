"""A queue of RabbitMQ as something that a sensor reads, and its sensor in trouble."""

import asyncio
from pathlib import Path
from typing import Literal

import aiormq
from aiormq.abc import AbstractChannel
from support import source_chaos
from support.eventually import eventually
from support.nats_server import NatsServer
from support.rabbitmq_server import RabbitServer
from support.source_chaos import Chaos, Outcome, ServerQueue

from attune_contract.identity import SensorRef

REF = SensorRef("attune-system", "core.amqp")
TYPE = "core.amqpqueue"
QUEUE = "orders"
#: How RabbitMQ counts what is in a queue at this moment; its commands that list queues look at older figures.
_COUNT = {
    "classic": '{ok, Q} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"/">>, queue, <<"orders">>)), '
    "[{messages, N}] = rabbit_amqqueue:info(Q, [messages]), N.",
    "quorum": "{ok, {_, N}, _} = ra:local_query({'%2F_orders', node()}, fun rabbit_fifo:query_messages_total/1), N.",
}


class AmqpQueue(ServerQueue[RabbitServer]):
    """A durable queue."""

    def __init__(self, server: RabbitServer, kind: Literal["classic", "quorum"]) -> None:
        super().__init__(server)
        self._kind = kind

    def make(self) -> None:
        """Make the queue."""
        asyncio.run(self.server.declare(QUEUE, **{"x-queue-type": self._kind}))

    def send(self, numbers: range) -> None:
        """Send messages. They have ids: one whose confirmation was lost is sent again, and must be the same event."""
        left = list(numbers)

        async def send(channel: AbstractChannel) -> None:
            while left:
                properties = aiormq.spec.Basic.Properties(delivery_mode=2, message_id=str(left[0]))
                await channel.basic_publish(
                    f'{{"n": {left[0]}}}'.encode(), routing_key=QUEUE, properties=properties, timeout=30
                )
                left.pop(0)

        def sent() -> bool:
            self.server.run(send)
            return not left

        eventually(sent, within=120, what="RabbitMQ takes the messages")

    def unacknowledged(self) -> int:
        ready = int(asyncio.run(self.server.ready(QUEUE)))
        # Asking for all of them starts a virtual machine.
        return ready or int(self.server.control("eval", _COUNT[self._kind]))


async def live_through(
    directory: Path, *, nats: NatsServer, chaos: Chaos, kind: Literal["classic", "quorum"]
) -> Outcome:
    """Send messages and let things fail; returns what became of them."""
    server = RabbitServer(directory / "rabbit")
    server.place_password(directory / "secrets")
    return await source_chaos.live_through(
        directory,
        AmqpQueue(server, kind),
        module="attune_amqp",
        ref=REF,
        trigger_type=TYPE,
        config={"servers": {"default": server.access}},
        parameters={"queue": QUEUE},
        nats=nats,
        chaos=chaos,
        ATTUNE_SECRETS_DIR=str(directory / "secrets"),
    )
