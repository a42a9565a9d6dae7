"""Ready means ready: /ready, /health and a gauge say when nothing can be stored, and why."""

import os
import resource
import sqlite3
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from support.api_process import ApiProcess, report
from support.eventually import until
from support.nats_server import NatsServer
from support.postgres import PostgresServer

pytest_plugins = ["support.api_fixtures"]


async def _gauge(client: httpx.AsyncClient, name: str) -> float | None:
    lines = (await client.get("/metrics")).text.splitlines()
    found = [float(line.split()[1]) for line in lines if line.startswith(f"{name} ")]
    return found[0] if found else None


def _size(path: str) -> int:
    return Path(path).stat().st_size


async def _is_ready(client: httpx.AsyncClient) -> bool:
    return (await client.get("/ready")).status_code == 200


async def _not_ready(client: httpx.AsyncClient, why: str) -> None:
    answer = await client.get("/ready")
    assert answer.status_code == 503, answer.text
    assert why in answer.json()["problems"]["database"]
    assert await _gauge(client, "attune_api_storage_writable") == 0


async def test_a_server_that_takes_no_writes_is_not_ready(tmp_path: Path, postgres: PostgresServer) -> None:
    """Before any event comes, and with connections that were opened when it took them."""
    url = postgres.create_database()
    name = url.rpartition("/")[2]
    with ApiProcess(tmp_path, database_url=url) as api:
        async with api.client() as client:
            assert await _is_ready(client)
            assert await _gauge(client, "attune_api_storage_writable") == 1
            postgres.query(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
            postgres.end_connections(name)
            await _not_ready(client, "takes writes")
            assert (await client.get("/health")).status_code == 200
            postgres.query(f"ALTER DATABASE {name} RESET default_transaction_read_only")
            await until(lambda: _is_ready(client), what="it is ready")
            assert await _gauge(client, "attune_api_storage_writable") == 1
        assert len(api.events_logged("storage_not_writable")) == 1
        assert len(api.events_logged("storage_writable_again")) == 1


async def test_a_full_disk_is_not_ready_until_there_is_room(api: ApiProcess) -> None:
    """A limit on the size of files does to SQLite what a full disk does: writes fail half way."""
    pid = api.process.pid
    async with api.client() as client:
        assert (await client.post("/api/v1/events", json=report(1))).status_code == 201
        before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        written = _size(f"{api.database_url.removeprefix('sqlite:///')}-wal")
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (written, before[1]))
        answer = await client.post("/api/v1/events", json=report(2))
        assert answer.status_code == 503
        await _not_ready(client, "disk")
        await _not_ready(client, "disk")
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
        await until(lambda: _is_ready(client), what="it is ready")
        assert (await client.post("/api/v1/events", json=report(2))).status_code == 201
        assert await _gauge(client, "attune_api_storage_writable") == 1


def _replace(path: Path) -> None:
    copy = path.with_suffix(".copy")
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    copy.replace(path)


@pytest.mark.parametrize("how", ["removed", "replaced"])
async def test_a_file_that_is_no_longer_the_one_that_was_opened_is_noticed(api: ApiProcess, how: str) -> None:
    """SQLite would go on with the one that nobody finds any more, and all would be lost at the next start."""
    path = Path(api.database_url.removeprefix("sqlite:///"))
    async with api.client() as client:
        assert (await client.post("/api/v1/events", json=report(1))).status_code == 201
        (_replace if how == "replaced" else os.unlink)(path)
        assert (await client.post("/api/v1/events", json=report(2))).status_code == 503
        await _not_ready(client, how)
        health = await client.get("/health")
        assert health.status_code == 503
        assert "restart the API" in health.json()["problems"]["database"]


async def test_head_is_answered_as_get_is_without_a_body(shared_api: ApiProcess) -> None:
    """Uptime checks and proxies ask so."""
    async with shared_api.reader() as client:
        for path in ("/health", "/ready", "/metrics", "/.well-known/jwks.json", "/openapi.json", "/api/v1/events"):
            head, get = await client.head(path), await client.get(path)
            assert (head.status_code, head.content) == (200, b""), path
            assert head.headers["content-type"] == get.headers["content-type"]
            assert int(head.headers["content-length"]) > 0
        assert (await client.head("/nothing")).status_code == 404
        assert (await client.head("/api/v1/events/stream")).status_code == 405


async def test_events_are_counted_by_what_became_of_them(tmp_path: Path) -> None:
    with ApiProcess(tmp_path / "api", check_rules="false") as api:
        async with api.client() as client:

            async def counted(**wanted: int) -> bool:
                found = {each: await _gauge(client, f'attune_api_events_total{{status="{each}"}}') for each in wanted}
                return found == wanted

            for body, status in ((report(1), 201), (report(2), 201), (report(1), 200)):
                assert (await client.post("/api/v1/events", json=body)).status_code == status
            await until(lambda: counted(stored=2, duplicate=1), every=0.2)


@pytest.mark.nats
async def test_how_far_the_outbox_is_behind_is_a_number(tmp_path: Path, nats_server: NatsServer) -> None:
    with ApiProcess(tmp_path / "api", nats_url=nats_server.url, check_rules="false") as api:
        async with api.client() as client:

            async def shown(newest: int, position: int) -> bool:
                return (
                    await _gauge(client, "attune_api_events_newest_seq") == newest
                    and await _gauge(client, "attune_api_outbox_position") == position
                )

            assert (await client.post("/api/v1/events", json=report(1))).status_code == 201
            await until(lambda: shown(1, 1), every=0.2)
            nats_server.kill()
            assert (await client.post("/api/v1/events", json=report(2))).status_code == 201
            await until(lambda: shown(2, 1), every=0.2)
            nats_server.start()
            await until(lambda: shown(2, 2), every=0.2)
