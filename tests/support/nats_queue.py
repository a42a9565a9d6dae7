"""A JetStream stream as something that a sensor reads, and its sensor in trouble."""

import asyncio
from pathlib import Path
from typing import Any

import nats.errors
from support import source_chaos
from support.eventually import eventually
from support.nats_server import NatsServer
from support.source_chaos import Chaos, Outcome, ServerQueue

from attune_contract.identity import SensorRef
from attune_kit.nats.connection import NatsEndpoint, NatsUnavailableError, open_connection

REF = SensorRef("attune-system", "core.nats")
TYPE = "core.natsstream"
STREAM = "ORDERS"
CONSUMER = "chaos"


class NatsQueue(ServerQueue[NatsServer]):
    """A stream."""

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
            async with open_connection(NatsEndpoint(url=self.server.url)) as connection:
                return await work(connection.jetstream)
        except (NatsUnavailableError, nats.errors.Error, OSError) as error:
            raise ConnectionError(str(error)) from error


async def live_through(directory: Path, *, nats: NatsServer, chaos: Chaos) -> Outcome:
    """Send messages and let things fail; returns what became of them. ``nats`` is Attune's own."""
    server = NatsServer(directory / "broker")
    return await source_chaos.live_through(
        directory,
        NatsQueue(server),
        module="attune_nats",
        ref=REF,
        trigger_type=TYPE,
        config={"servers": {"default": {"url": server.url}}},
        parameters={"stream": STREAM, "consumer": CONSUMER},
        nats=nats,
        chaos=chaos,
    )
