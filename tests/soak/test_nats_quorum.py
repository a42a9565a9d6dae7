"""Events leave for three real NATS servers: two are killed, and the one that leads. It needs no cluster."""

import asyncio
import contextlib
import os
import re
import sys
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import nats.errors
import nats.js.errors
import pytest
from support.api_process import ApiProcess, report
from support.event_chaos import streamed_ids
from support.eventually import until
from support.nats_client import connect
from support.nats_server import NatsServer

from attune_contract.subjects import EVENTS_STREAM
from attune_local.ports import free_port

pytestmark = pytest.mark.nats

AWAY = float(os.environ.get("SOAK_QUORUM_AWAY", "15"))


@pytest.fixture
async def servers(tmp_path: Path) -> AsyncIterator[list[NatsServer]]:
    """Three, which are one cluster."""
    ports = [free_port() for _ in range(3)]
    routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in ports)
    made = []
    for number, port in enumerate(ports):
        config = f'server_name: s{number}\ncluster {{ name: "c", listen: "127.0.0.1:{port}", routes: [{routes}] }}'
        made.append(NatsServer(tmp_path / f"nats-{number}", extra_config=config))
    for server in made:
        await asyncio.to_thread(server.start)
    yield made
    for server in made:
        await asyncio.to_thread(server.kill)


class Sender:
    """Posts events, one after the other, and notes when each was accepted."""

    def __init__(self, api: ApiProcess) -> None:
        self._api = api
        self.ids: list[str] = []

    async def run(self) -> None:
        async with self._api.client() as client:
            while True:
                event = report(len(self.ids))
                answer = await client.post("/api/v1/events", json=event)
                assert answer.status_code == 201, answer.text
                self.ids.append(event["id"])
                await asyncio.sleep(0.01)


async def _leader(url: str) -> str | None:
    """The server that leads the stream of events, as one that is asked now knows it."""
    try:
        client = await asyncio.wait_for(connect(url), 2)
    except (OSError, TimeoutError, nats.errors.Error):
        return None
    try:
        found = await client.jetstream(timeout=1).stream_info(EVENTS_STREAM)
    except (nats.errors.Error, nats.js.errors.Error, TimeoutError):
        return None
    finally:
        with contextlib.suppress(nats.errors.Error):
            await client.close()
    leader: str | None = found.cluster.leader if found.cluster is not None else None
    return leader


async def test_nothing_is_lost_doubled_or_out_of_order(tmp_path: Path, servers: list[NatsServer]) -> None:
    urls = ",".join(server.url for server in servers)
    api = ApiProcess(tmp_path / "api", nats_url=urls, nats_replicas="3", check_rules="false")
    sender = Sender(api)
    await asyncio.to_thread(api.start)
    sending = asyncio.create_task(sender.run())
    try:
        await _goes_on(api, sender)
        leader = await _leader_of(servers)
        killed, left = [leader, _after(servers, leader)], _after(servers, _after(servers, leader))
        for server in killed:
            await asyncio.to_thread(server.kill)
        accepted = len(sender.ids)
        await asyncio.sleep(AWAY)
        assert len(sender.ids) > accepted, "events are stored meanwhile"
        for server in killed:
            await asyncio.to_thread(server.start)
        begun = time.monotonic()
        going = asyncio.create_task(_goes_on(api, sender))
        await until(partial(_leader, left.url), within=60, every=0.05, what="the stream has a leader")
        led = time.monotonic()
        await going
        quorum = f"quorum lost for {AWAY:.0f} s: a leader {led - begun:.1f} s after the servers were back, "
        quorum += f"publishing {max(time.monotonic() - led, 0):.1f} s after that"
        leader = await _leader_of(servers)
        await asyncio.to_thread(leader.kill)
        begun = time.monotonic()
        await _goes_on(api, sender)
        one = f"the stream's leader killed: publishing after {time.monotonic() - begun:.1f} s"
        await asyncio.to_thread(leader.start)
        await _goes_on(api, sender)
        assert not sending.done(), "a post was refused"
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        ids = await streamed_ids(servers[0], set(sender.ids))
        await asyncio.to_thread(api.stop)
    # The last one may have been stored though its answer was not waited for.
    assert ids[: len(sender.ids)] == sender.ids, "lost, doubled, or in another order"
    assert len(ids) <= len(sender.ids) + 1
    print(f"\n{len(ids)} events, each once, in order; {quorum}; {one}", file=sys.stderr)


def _after(servers: list[NatsServer], server: NatsServer) -> NatsServer:
    return servers[(servers.index(server) + 1) % len(servers)]


async def _leader_of(servers: list[NatsServer]) -> NatsServer:
    name = await until(partial(_leader, servers[0].url), within=60)
    assert name is not None
    return servers[int(name.removeprefix("s"))]


async def _goes_on(api: ApiProcess, sender: Sender) -> None:
    """Wait until an event that was accepted from now on is published."""
    target = len(sender.ids) + 2
    async with api.reader() as reader:

        async def published() -> bool:
            shown = (await reader.get("/metrics")).text
            found = re.search(r"^attune_api_outbox_position ([0-9.e+]+)$", shown, re.MULTILINE)
            return found is not None and float(found[1]) >= target

        await until(published, within=60, every=0.05, what="events are published")
