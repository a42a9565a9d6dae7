"""A JetStream stream as something that a sensor reads (:class:`support.source_chaos.Broker`), and its sensor in trouble."""

import asyncio
from pathlib import Path
from typing import Any

import nats.errors
from support.api_process import ApiProcess
from support.eventually import eventually
from support.nats_server import NatsServer
from support.source_chaos import Chaos, Outcome, go_through, sensor_of

from attune_contract.identity import SensorRef
from attune_kit.nats.connection import NatsEndpoint, NatsUnavailableError, open_connection

REF = SensorRef("attune-system", "core.nats")
TYPE = "core.natsstream"
STREAM = "ORDERS"
CONSUMER = "chaos"


class NatsQueue:
    """A stream of a server that is started and killed."""

    def __init__(self, server: NatsServer) -> None:
        self._server = server

    def start(self) -> None:
        self._server.start()

    def kill(self) -> None:
        self._server.kill()

    def make(self) -> None:
        """Make the stream."""

        async def make(jetstream: Any) -> None:
            await jetstream.add_stream(name=STREAM, subjects=["orders.>"])

        asyncio.run(self._with(make))

    def send(self, numbers: range) -> None:
        """Send messages. They have ids, so that one whose answer was lost is not stored twice."""
        left = list(numbers)

        async def send(jetstream: Any) -> None:
            while left:
                await jetstream.publish(
                    "orders.new", f'{{"n": {left[0]}}}'.encode(), headers={"Nats-Msg-Id": str(left[0])}
                )
                left.pop(0)

        def sent() -> bool:
            asyncio.run(self._with(send))
            return not left

        eventually(sent, within=120, what="NATS takes the messages")

    def unacknowledged(self) -> int:
        async def count(jetstream: Any) -> int:
            info = await jetstream.consumer_info(STREAM, CONSUMER)
            return int(info.num_pending) + int(info.num_ack_pending)

        return int(asyncio.run(self._with(count)))

    async def _with(self, work: Any) -> Any:
        try:
            async with open_connection(NatsEndpoint(url=self._server.url)) as connection:
                return await work(connection.jetstream)
        except (NatsUnavailableError, nats.errors.Error, OSError) as error:
            raise ConnectionError(str(error)) from error


async def live_through(directory: Path, *, nats: NatsServer, chaos: Chaos) -> Outcome:
    """Send messages and let things fail; returns what became of them. ``nats`` is Attune's own."""
    api = ApiProcess(directory / "api")
    (directory / "broker").mkdir()
    server = NatsServer(directory / "broker")
    queue = NatsQueue(server)
    await asyncio.to_thread(api.start)
    await asyncio.to_thread(server.start)
    try:
        await asyncio.to_thread(queue.make)
        sensor = sensor_of(
            "attune_nats",
            directory / "sensor",
            api=api,
            nats=nats,
            config={"servers": {"default": {"url": server.url}}},
            ref=REF,
            trigger_type=TYPE,
        )
        return await go_through(chaos, queue, sensor, api, parameters={"stream": STREAM, "consumer": CONSUMER})
    finally:
        await asyncio.to_thread(server.stop)
        await asyncio.to_thread(api.stop)
