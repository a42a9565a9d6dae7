"""Three NATS servers with the chart's configuration: they find each other by the operator's password, and nobody else does."""

import asyncio
import contextlib
import dataclasses
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import nats.errors
import nats.js.errors
import pytest
from nats.js.api import StreamConfig
from support.eventually import until
from support.nats_server import NatsServer
from support.nats_tenants import Tenants, deterministic_keys

from attune_local.ports import free_port
from attune_operator.credentials import certificates, nats_jwt
from attune_operator.credentials.nats_accounts import cluster_config, server_config
from attune_operator.credentials.nats_keys import NatsKeys

pytestmark = pytest.mark.nats


def server(directory: Path, number: int, keys: NatsKeys, port: int, routes: list[str]) -> NatsServer:
    """One server, configured as the chart does it."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "cluster.conf").write_text(cluster_config(keys, routes))
    config = f"""
        server_name: s{number}
        cluster {{
          name: "attune-nats"
          listen: "127.0.0.1:{port}"
          tls {{ cert_file: "tls.crt", key_file: "tls.key", ca_file: "ca.crt" }}
          no_advertise: true
          include "cluster.conf"
        }}
        {server_config(keys)}
    """
    return NatsServer(directory, extra_config=config)


@pytest.fixture
def keys() -> NatsKeys:
    return deterministic_keys()


@pytest.fixture
async def cluster(tmp_path: Path, keys: NatsKeys) -> AsyncIterator[list[NatsServer]]:
    ports = [free_port() for _ in range(3)]
    routes = [f"localhost:{port}" for port in ports]
    authority = certificates.make_authority(now=datetime.now(UTC))
    serving = certificates.issue(authority, ["localhost"], now=datetime.now(UTC))
    servers = [server(tmp_path / f"s{number}", number, keys, port, routes) for number, port in enumerate(ports)]
    for number in range(4):  # one more, who is not of the cluster
        folder = tmp_path / f"s{number}"
        folder.mkdir(exist_ok=True)
        for name, text in (
            ("tls.crt", serving.certificate),
            ("tls.key", serving.key),
            ("ca.crt", authority.certificate),
        ):
            (folder / name).write_text(text)
    try:
        for each in servers:
            await asyncio.to_thread(each.start)
        yield servers
    finally:
        for each in servers:
            await asyncio.to_thread(each.kill)


def cluster_config_of(member: NatsServer) -> str:
    return (member.log.parent / "cluster.conf").read_text()


async def stored_by_three(tenants: Tenants) -> bool:
    async with tenants.connected(tenants.service()) as client:
        config = StreamConfig(name="EXAMPLE", subjects=["example"], num_replicas=3)
        with contextlib.suppress(nats.errors.Error, nats.js.errors.Error):
            await client.jetstream(timeout=5).add_stream(config)
            return True
    return False


async def test_they_store_streams_together_and_one_may_fail(cluster: list[NatsServer], keys: NatsKeys) -> None:
    first, second, third = (Tenants(each, keys) for each in cluster)
    await until(lambda: stored_by_three(first), every=0.5)
    await asyncio.to_thread(cluster[2].kill)

    async def stored() -> bool:
        async with second.connected(second.service()) as client:
            with contextlib.suppress(nats.errors.Error, nats.js.errors.Error):
                return bool((await client.jetstream(timeout=5).publish("example", b"one")).seq)
        return False

    await until(stored, every=0.5)
    await asyncio.to_thread(cluster[2].start)

    async def caught_up() -> bool:
        async with third.connected(third.service()) as client:
            with contextlib.suppress(nats.errors.Error, nats.js.errors.Error):
                info = await client.jetstream(timeout=5).stream_info("EXAMPLE")
                peers = (info.cluster.replicas or []) if info.cluster else []
                return info.state.messages >= 1 and len(peers) == 2 and all(peer.current for peer in peers)
        return False

    await until(caught_up, every=0.5)


async def test_a_server_without_the_password_does_not_join(
    cluster: list[NatsServer], keys: NatsKeys, tmp_path: Path
) -> None:
    member = Tenants(cluster[0], keys)
    await until(lambda: stored_by_three(member), every=0.5)
    stranger = dataclasses.replace(keys, operator=nats_jwt.make_seed("operator", b"s" * 32))
    routes = re.findall(r"localhost:[0-9]+", cluster_config_of(cluster[0]))
    other = server(tmp_path / "s3", 3, stranger, free_port(), routes)
    await asyncio.to_thread(other.start)
    try:

        def refused() -> bool:
            return any("authentication error" in each.log.read_text() for each in cluster)

        await until(lambda: asyncio.to_thread(refused))
        async with member.connected(member.service(account="system")) as client:
            found = set()
            inbox = client.new_inbox()
            subscription = await client.subscribe(inbox)
            await client.publish("$SYS.REQ.SERVER.PING", b"", reply=inbox)
            with contextlib.suppress(nats.errors.TimeoutError):
                while True:
                    found.add((await subscription.next_msg(timeout=2)).data)
            assert len(found) == 3
    finally:
        await asyncio.to_thread(other.kill)
