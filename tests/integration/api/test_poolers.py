"""Two replicas behind a real PgBouncer that gives each transaction any connection: 3 connections for all of them."""

import asyncio
import re
from contextlib import ExitStack
from pathlib import Path

import pytest
from support import pgbouncer
from support.api_process import SENSOR, TYPE, ApiProcess, report, write_jwks
from support.event_chaos import streamed_ids
from support.nats_server import NatsServer
from support.pgbouncer import PgBouncer
from support.postgres import PostgresServer

pytest_plugins = ["support.api_fixtures"]
pytestmark = [
    pytest.mark.nats,
    pytest.mark.skipif(pgbouncer.PROGRAM is None, reason="needs Debian's package 'pgbouncer'"),
]

CONNECTIONS = 3


async def test_transactions_of_replicas_share_connections(
    tmp_path: Path, postgres: PostgresServer, nats_server: NatsServer
) -> None:
    direct = postgres.create_database()
    with ExitStack() as stack:
        bouncer = PgBouncer(postgres, mode="transaction", pool_size=CONNECTIONS)
        stack.callback(bouncer.remove)
        bouncer.start()
        replicas = [
            ApiProcess(
                tmp_path / name,
                database_url=bouncer.url(direct, application_name=name),
                nats_url=nats_server.url,
                check_rules="false",
            )
            for name in ("one", "two")
        ]
        replicas[1].minter = replicas[0].minter
        write_jwks(replicas[1].jwks_file, replicas[0].minter)
        for api in replicas:
            stack.callback(api.stop)
            await asyncio.to_thread(api.start)
        await asyncio.gather(*(_post_and_read(api, start) for api in replicas for start in (0, 50, 100)))
        for place, api in enumerate(replicas):  # many at once, half of them known already by then
            batch = {"events": [report(k) for k in range(150 + 100 * place, 350 + 100 * place)]}
            async with api.client() as sensor:
                (await sensor.post("/api/v1/events/batch", json=batch)).raise_for_status()
        async with replicas[0].reader() as reader:
            minted = await reader.post("/auth/sensor-token", json={"sensor_ref": str(SENSOR), "trigger_types": [TYPE]})
            assert minted.status_code == 201, minted.text
            stored = (await reader.get("/api/v1/events?order=asc&limit=1000")).raise_for_status().json()["data"]
        ids = [event["id"] for event in stored]
        assert sorted(event["payload"]["k"] for event in stored) == list(range(450))
        for sent in (range(50), range(50, 100), range(100, 150), range(150, 450)):
            order = [event["payload"]["k"] for event in stored if event["payload"]["k"] in sent]
            assert order == list(sent)
        assert await streamed_ids(nats_server, set(ids)) == ids
        leads = [len(api.events_logged("outbox_leads")) for api in replicas]
        assert sorted(leads) == [0, 1]
        query = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{direct.rpartition('/')[2]}'"
        assert int(postgres.query(query)) <= CONNECTIONS
        # What one reader's transaction has set is gone with it.
        settings = "SELECT current_setting('statement_timeout') || ' ' || current_setting('enable_bitmapscan')"
        assert postgres.query(settings, direct.rpartition("/")[2], port=bouncer.port) == "0 on"
        for api in replicas:
            log = api.log.read_text()
            assert re.search("request_failed|background_task_died|outbox_waits|retention_waits", log) is None, log


async def _post_and_read(api: ApiProcess, start: int) -> None:
    """Post the same events as the other replica does, and read what is there by queries of several kinds."""
    async with api.client() as sensor, api.reader() as reader:
        for k in range(start, start + 50):
            answer = await sensor.post("/api/v1/events", json=report(k))
            assert answer.status_code in (200, 201), answer.text
            if k % 10 == 0:
                for path in (
                    "/api/v1/events?limit=5",
                    f"/api/v1/events?rule_namespace=default&limit={k + 1}",
                    "/ready",
                ):
                    assert (await reader.get(path)).status_code == 200, path
