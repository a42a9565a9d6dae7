"""Three NATS servers: what one server refuses, all refuse, and a revocation reaches connections on every one of them."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import nats.errors
import pytest
from support.eventually import until
from support.nats_server import NatsServer
from support.nats_tenants import OTHER, REF, UIDS, Tenants, contents, create_streams, deterministic_keys

from attune_contract import subjects
from attune_local.ports import free_port
from attune_operator.credentials.nats_accounts import server_config

pytestmark = pytest.mark.nats


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[list[Tenants]]:
    """Three servers that have elected a leader, seen through each of them."""
    keys = deterministic_keys()
    ports = [free_port() for _ in range(3)]
    routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in ports)
    servers = []
    for number, port in enumerate(ports):
        cluster = f'cluster {{ name: "attune", listen: "127.0.0.1:{port}", routes: [{routes}] }}\n'
        directory = tmp_path / f"server-{number}"
        directory.mkdir()
        servers.append(NatsServer(directory, extra_config=f"server_name: s{number}\n{cluster}{server_config(keys)}"))
    try:
        for server in servers:
            await asyncio.to_thread(server.start)
        seen = [Tenants(server, keys) for server in servers]

        async def ready() -> bool:
            async with seen[0].connected(seen[0].service()) as client:
                with contextlib.suppress(nats.errors.TimeoutError):
                    await create_streams(client, patience=5)  # a cluster without a leader gives none
                    return True
            return False

        await until(ready, within=30, every=0.5)
        yield seen
    finally:
        for server in servers:
            await asyncio.to_thread(server.kill)


async def test_an_answer_reaches_no_stream_and_a_revocation_reaches_every_server(cluster: list[Tenants]) -> None:
    issued = datetime.now(UTC) - timedelta(seconds=10)
    creds = cluster[0].sensor(REF, issued_at=issued)
    async with contextlib.AsyncExitStack() as stack:
        operator = await stack.enter_async_context(cluster[0].connected(cluster[0].service()))
        sensors = [await stack.enter_async_context(each.connected(creds, inbox=REF.inbox_prefix)) for each in cluster]
        bystander = await stack.enter_async_context(
            cluster[2].connected(cluster[2].sensor(OTHER), inbox=OTHER.inbox_prefix)
        )
        own = subjects.ack_subject(REF, "uid-1")
        before = await contents(operator)
        for sensor in sensors:
            for target in (subjects.rule_subject(OTHER, "uid-1"), subjects.identity_subject(OTHER)):
                await sensor.publish(own, b"{}", reply=target)
            stored = json.loads((await sensor.request(own, b"{}", timeout=30)).data)
            assert stored["stream"] == subjects.ACKS_STREAM
        after = await contents(operator)
        for name in (subjects.RULES_STREAM, subjects.IDENTITIES_STREAM, subjects.EVENTS_STREAM):
            assert after[name] == before[name]

        await cluster[1].revoke({UIDS[REF]: int(issued.timestamp())})
        await until(lambda: all(sensor.is_closed for sensor in sensors), within=2)
        assert bystander.is_connected
    for each in cluster:
        with pytest.raises(nats.errors.Error):
            async with each.connected(creds, inbox=REF.inbox_prefix):
                pass
