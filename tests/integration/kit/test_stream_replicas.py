"""How many servers store a stream, with one real NATS server and with three."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import nats.errors
import nats.js.errors
import pytest
from nats.js.api import StreamConfig
from support.eventually import until
from support.nats_client import connect
from support.nats_server import NatsServer

from attune_kit.nats.streams import raise_replicas
from attune_local.ports import free_port
from attune_operator.streams.definitions import ensure_stream, rules_stream

pytestmark = pytest.mark.nats

STREAM = "EXAMPLE"


async def started(servers: list[NatsServer]) -> AsyncIterator[Any]:
    """JetStream of servers that take a stream."""
    try:
        for server in servers:
            await asyncio.to_thread(server.start)
        client = await connect(servers[0].url)
        jetstream = client.jetstream(timeout=60)

        async def ready() -> bool:
            try:
                await client.jetstream(timeout=5).add_stream(StreamConfig(name=STREAM, subjects=["example"]))
            except (nats.errors.Error, nats.js.errors.APIError):
                return False
            return True

        await until(ready, every=0.5)
        yield jetstream
        await client.close()
    finally:
        for server in servers:
            await asyncio.to_thread(server.kill)


@pytest.fixture
async def three(tmp_path: Path) -> AsyncIterator[Any]:
    ports = [free_port() for _ in range(3)]
    routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in ports)
    servers = []
    for number, port in enumerate(ports):
        config = f'server_name: s{number}\ncluster {{ name: "c", listen: "127.0.0.1:{port}", routes: [{routes}] }}'
        servers.append(NatsServer(tmp_path / f"server-{number}", extra_config=config))
    async for jetstream in started(servers):
        yield jetstream


@pytest.fixture
async def one(tmp_path: Path) -> AsyncIterator[Any]:
    async for jetstream in started([NatsServer(tmp_path)]):
        yield jetstream


async def replicas(jetstream: Any, stream: str = STREAM) -> int:
    found: int = (await jetstream.stream_info(stream)).config.num_replicas
    return found


async def test_more_are_taken_and_fewer_are_not(three: Any) -> None:
    await raise_replicas(three, await three.stream_info(STREAM), replicas=3)
    assert await replicas(three) == 3
    await raise_replicas(three, await three.stream_info(STREAM), replicas=1)
    assert await replicas(three) == 3


async def test_what_somebody_raised_stays_when_the_operator_corrects_the_stream(three: Any) -> None:
    await ensure_stream(three, rules_stream(replicas=1))
    info = await three.stream_info("ATTUNE_RULES")
    await three.update_stream(info.config.evolve(num_replicas=3, description="by hand"))
    await ensure_stream(three, rules_stream(replicas=1))
    info = await three.stream_info("ATTUNE_RULES")
    assert (info.config.num_replicas, info.config.description) == (3, rules_stream(replicas=1).description)


async def test_a_server_that_is_alone_goes_on_with_one(one: Any) -> None:
    await raise_replicas(one, await one.stream_info(STREAM), replicas=3)
    assert await replicas(one) == 1
