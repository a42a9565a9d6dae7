"""PostgreSQL fails over, and events go on being stored: a real primary and a real standby, killed, frozen, demoted."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from support.api_process import SENSOR, TYPE, ApiProcess, report
from support.eventually import until
from support.postgres import PostgresServer
from support.tcp_relay import TcpRelay

pytest_plugins = ["support.api_fixtures"]


@dataclass
class Pair:
    """A primary and its standby."""

    primary: PostgresServer
    standby: PostgresServer


@pytest.fixture
def pair() -> Iterator[Pair]:
    with contextlib.ExitStack() as stack:
        primary = PostgresServer()
        stack.callback(primary.remove)
        primary.start()
        primary.create_database()
        standby = primary.standby()
        stack.callback(standby.remove)
        yield Pair(primary, standby)


@dataclass
class Sender:
    """Posts one event after the other, each until it is stored, as sensors do."""

    client: httpx.AsyncClient
    stored: int = 0
    refused: list[httpx.Response] = field(default_factory=list)

    async def run(self) -> None:
        while True:
            answer = await self.client.post("/api/v1/events", json=report(self.stored))
            if answer.status_code == 503:
                self.refused.append(answer)
                await asyncio.sleep(0.1)
                continue
            assert answer.status_code in (200, 201), answer.text
            self.stored += 1

    async def goes_on(self) -> float:
        """Wait until an event is stored that was sent from now on; the seconds until then."""
        begun, target = time.monotonic(), self.stored + 2
        await until(lambda: self.stored >= target, within=30, what="an event is stored")
        return time.monotonic() - begun


@asynccontextmanager
async def _sending(api: ApiProcess) -> AsyncIterator[Sender]:
    async with api.client() as client:
        sender = Sender(client)
        task = asyncio.create_task(sender.run())
        try:
            await sender.goes_on()
            yield sender
            assert not task.done(), task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def _running(api: ApiProcess) -> AsyncIterator[None]:
    """The program, started and stopped beside this loop, in which its way to the database is."""
    await asyncio.to_thread(api.start)
    try:
        yield
    finally:
        await asyncio.to_thread(api.stop)


async def _each_stored_once_in_order(api: ApiProcess, count: int) -> None:
    found: list[int] = []
    async with api.reader() as reader:
        parameters = {"order": "asc", "limit": "1000"}
        while True:
            page = (await reader.get("/api/v1/events", params=parameters)).raise_for_status().json()
            found += [event["payload"]["k"] for event in page["data"]]
            if not page.get("next_cursor"):
                break
            parameters["cursor"] = page["next_cursor"]
    # The last one may have been stored though its answer was not waited for.
    assert found[:count] == list(range(count))
    assert len(found) <= count + 1


def _retryable(answer: httpx.Response) -> bool:
    return (
        answer.status_code == 503
        and answer.json()["type"] == "urn:attune:problem:storage-unavailable"
        and int(answer.headers["retry-after"]) > 0
    )


async def test_a_killed_primary_is_left_for_the_other_host(tmp_path: Path, pair: Pair) -> None:
    hosts = f"127.0.0.1:{pair.primary.port},127.0.0.1:{pair.standby.port}"
    with ApiProcess(tmp_path, database_url=f"postgresql://attune@{hosts}/test_1") as api:
        async with _sending(api) as sender:
            await asyncio.to_thread(pair.primary.kill)
            async with api.reader() as reader:
                seen = await reader.get("/api/v1/events")
            assert _retryable(seen), seen.text
            await asyncio.to_thread(pair.standby.promote)
            seconds = await sender.goes_on()
            refused = len(sender.refused)
            assert all(_retryable(answer) for answer in sender.refused)
            # The old one comes back, first in the list, and is not written to.
            pair.primary.demote()
            await asyncio.to_thread(pair.primary.start)
            await sender.goes_on()
            assert len(sender.refused) == refused
            stored = sender.stored
        await _each_stored_once_in_order(api, stored)
    print(f"killed: stored again {seconds:.2f} s after the promotion")


async def test_an_old_primary_that_became_a_standby_is_left_behind_a_service(tmp_path: Path, pair: Pair) -> None:
    """The Service still leads to the old one for a while, so that connections are opened to it that answer."""
    async with TcpRelay(pair.primary.port) as service:
        api = ApiProcess(tmp_path, database_url=f"postgresql://attune@127.0.0.1:{service.port}/test_1")
        async with _running(api):
            async with _sending(api) as sender, api.reader() as reader:
                await asyncio.to_thread(pair.primary.kill)
                await asyncio.to_thread(pair.standby.promote)
                pair.primary.demote()
                await asyncio.to_thread(pair.primary.start)
                before = len(sender.refused)
                await until(lambda: len(sender.refused) >= before + 5, within=30)
                stored = sender.stored
                minted = await reader.post(
                    "/auth/sensor-token", json={"sensor_ref": str(SENSOR), "trigger_types": [TYPE]}
                )
                assert _retryable(minted), minted.text
                assert (await reader.get("/ready")).status_code == 503
                service.point_at(pair.standby.port)
                seconds = await sender.goes_on()
                assert sender.stored > stored
                await until(lambda: _status(reader, "/ready"), what="it is ready")
                assert all(_retryable(answer) for answer in sender.refused)
                stored = sender.stored
            await _each_stored_once_in_order(api, stored)
    print(f"demoted: stored again {seconds:.2f} s after the Service was moved")


async def test_a_primary_that_vanishes_without_a_word_is_noticed(tmp_path: Path, pair: Pair) -> None:
    async with TcpRelay(pair.primary.port) as service:
        api = ApiProcess(tmp_path, database_url=f"postgresql://attune@127.0.0.1:{service.port}/test_1")
        async with _running(api):
            async with _sending(api) as sender:
                begun = time.monotonic()
                await asyncio.to_thread(pair.primary.freeze)
                await asyncio.to_thread(pair.standby.promote)
                service.point_at(pair.standby.port)
                await sender.goes_on()
                seconds = time.monotonic() - begun
                assert all(_retryable(answer) for answer in sender.refused)
                # When it comes back it is not asked either, though its connections would answer now.
                await asyncio.to_thread(pair.primary.thaw)
                await sender.goes_on()
                stored = sender.stored
            await _each_stored_once_in_order(api, stored)
            # The same again, and nobody takes its place: the program ends all the same.
            await asyncio.to_thread(pair.standby.freeze)
            async with api.client() as client:
                answer = await client.post("/api/v1/events", json=report(stored + 10))
                assert _retryable(answer), answer.text
            begun = time.monotonic()
            assert await asyncio.to_thread(api.stop) == 0
            ended = time.monotonic() - begun
            pair.standby.thaw()
        assert not api.events_logged("background_task_died")
    print(f"vanished: stored again after {seconds:.2f} s; SIGTERM took {ended:.2f} s")


async def test_a_server_that_takes_no_writes_is_an_outage_and_nothing_else(
    tmp_path: Path, postgres: PostgresServer
) -> None:
    url = postgres.create_database()
    name = url.rpartition("/")[2]
    with ApiProcess(tmp_path, database_url=url) as api:
        async with api.client() as client, api.reader() as reader:
            request = {"sensor_ref": str(SENSOR), "trigger_types": [TYPE]}
            assert (await client.post("/api/v1/events", json=report(1))).status_code == 201
            postgres.query(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
            postgres.end_connections(name)
            for answer in (
                await client.post("/api/v1/events", json=report(2)),
                await reader.post("/auth/sensor-token", json=request),
            ):
                assert _retryable(answer), answer.text
            assert len((await reader.get("/api/v1/events")).json()["data"]) == 1
            postgres.query(f"ALTER DATABASE {name} RESET default_transaction_read_only")
            assert (await client.post("/api/v1/events", json=report(2))).status_code == 201
            # Cut connections, as a restart or a proxy that cuts those that are idle leaves them, are noticed by nobody.
            for method, path, body in (
                ("POST", "/auth/sensor-token", request),
                ("POST", "/api/v1/events", report(3)),
                ("GET", "/api/v1/events", None),
            ):
                postgres.end_connections(name)
                answer = await reader.request(
                    method, path, json=body, headers=client.headers if path == "/api/v1/events" and body else None
                )
                assert answer.status_code in (200, 201), (method, path, answer.text)
        assert not api.events_logged("request_failed")


async def test_a_server_without_a_connection_left_is_an_outage(tmp_path: Path, postgres: PostgresServer) -> None:
    url = postgres.create_database()
    name = url.rpartition("/")[2]
    postgres.query("CREATE ROLE few LOGIN")
    postgres.query(f"ALTER DATABASE {name} OWNER TO few")
    with ApiProcess(tmp_path, database_url=url.replace("attune@", "few@")) as api:
        async with api.client() as client, api.reader() as reader:
            postgres.query("ALTER ROLE few CONNECTION LIMIT 0")
            postgres.end_connections(name)
            request = {"sensor_ref": str(SENSOR), "trigger_types": [TYPE]}
            for answer in (
                await reader.get("/api/v1/events"),
                await client.post("/api/v1/events", json=report(1)),
                await reader.post("/auth/sensor-token", json=request),
            ):
                assert _retryable(answer), answer.text
            postgres.query("ALTER ROLE few CONNECTION LIMIT -1")
            assert (await client.post("/api/v1/events", json=report(1))).status_code == 201


async def _status(reader: httpx.AsyncClient, path: str) -> bool:
    return (await reader.get(path)).status_code == 200


@pytest.mark.alone
async def test_a_server_that_is_only_slow_is_waited_for(tmp_path: Path, postgres: PostgresServer) -> None:
    """A lock that somebody else holds for longer than the server is given before it is looked at."""
    with ApiProcess(tmp_path, database_url=postgres.create_database()) as api:
        async with api.client() as client:
            assert (await client.post("/api/v1/events", json=report(1))).status_code == 201
            name = api.database_url.rpartition("/")[2]
            locked = asyncio.create_task(
                asyncio.to_thread(
                    postgres.query, "BEGIN; LOCK TABLE events IN EXCLUSIVE MODE; SELECT pg_sleep(6); COMMIT", name
                )
            )
            waiting = "SELECT count(*) FROM pg_locks WHERE relation = 'events'::regclass AND mode = 'ExclusiveLock'"
            await until(lambda: asyncio.to_thread(lambda: postgres.query(waiting, name) != "0"))
            answer = await client.post("/api/v1/events", json=report(2))
            assert answer.status_code == 201, answer.text
            await locked
        assert not api.events_logged("database_lost")
