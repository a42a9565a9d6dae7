"""A queue of RabbitMQ as something that a sensor reads (:class:`support.source_chaos.Broker`), and its sensor in trouble."""

import asyncio
from pathlib import Path
from typing import Literal

import aiormq
from aiormq.abc import AbstractChannel
from support.api_process import ApiProcess
from support.eventually import eventually
from support.nats_server import NatsServer
from support.rabbitmq_server import RabbitServer
from support.source_chaos import Chaos, Outcome, go_through, sensor_of

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


class AmqpQueue:
    """A durable queue of a server that is started and killed."""

    def __init__(self, server: RabbitServer, kind: Literal["classic", "quorum"]) -> None:
        self._server = server
        self._kind = kind

    def start(self) -> None:
        self._server.start()

    def kill(self) -> None:
        self._server.kill()

    def make(self) -> None:
        """Make the queue."""
        asyncio.run(self._server.declare(QUEUE, **{"x-queue-type": self._kind}))

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
            self._server.run(send)
            return not left

        eventually(sent, within=120, what="RabbitMQ takes the messages")

    def unacknowledged(self) -> int:
        ready = int(asyncio.run(self._server.ready(QUEUE)))
        # Asking for all of them starts a virtual machine.
        return ready or int(self._server.control("eval", _COUNT[self._kind]))


async def live_through(
    directory: Path, *, nats: NatsServer, chaos: Chaos, kind: Literal["classic", "quorum"]
) -> Outcome:
    """Send messages and let things fail; returns what became of them."""
    api = ApiProcess(directory / "api")
    server = RabbitServer(directory / "rabbit")
    queue = AmqpQueue(server, kind)
    server.place_password(directory / "secrets")
    await asyncio.to_thread(api.start)
    await asyncio.to_thread(server.start)
    try:
        await asyncio.to_thread(queue.make)
        sensor = sensor_of(
            "attune_amqp",
            directory / "sensor",
            api=api,
            nats=nats,
            config={"servers": {"default": server.access}},
            ref=REF,
            trigger_type=TYPE,
            ATTUNE_SECRETS_DIR=str(directory / "secrets"),
        )
        return await go_through(chaos, queue, sensor, api, parameters={"queue": QUEUE})
    finally:
        await asyncio.to_thread(server.stop)
        await asyncio.to_thread(api.stop)
