"""What was answered with 201 or 200 is there after the API, or its database, was killed."""

import asyncio
import sqlite3
from pathlib import Path

import httpx
import pytest
from support.api_process import ApiProcess, report
from support.eventually import until
from support.postgres import PostgresServer

pytest_plugins = ["support.api_fixtures"]


async def _send_until_it_dies(api: ApiProcess, accepted: set[str], *, worker: int, start: int) -> None:
    """Post singles (even workers) or batches (odd ones) until the connection breaks."""
    async with api.client() as sensor:
        for n in range(start, start + 100_000):
            events = [report(n * 20 + k, rule_uid=f"rule-{worker}") for k in range(20 if worker % 2 else 1)]
            try:
                if worker % 2:
                    answer = await sensor.post("/api/v1/events/batch", json={"events": events})
                else:
                    answer = await sensor.post("/api/v1/events", json=events[0])
            except httpx.TransportError:
                return
            if answer.status_code in (200, 201):
                accepted.update(event["id"] for event in events)


async def _accepted(accepted: set[str], count: int, senders: list["asyncio.Task[None]"]) -> None:
    """Wait until so many events were accepted."""
    await until(lambda: len(accepted) >= count or any(sender.done() for sender in senders), within=100)
    assert not any(sender.done() for sender in senders)


async def _ids(api: ApiProcess) -> list[str]:
    seen: list[str] = []
    query = {"order": "asc", "limit": "1000"}
    async with api.reader() as reader:
        while True:
            page = (await reader.get("/api/v1/events", params=query)).json()
            seen += [event["id"] for event in page["data"]]
            if page["next_cursor"] is None:
                return seen
            query["cursor"] = page["next_cursor"]


async def test_every_accepted_event_survives_kill_9(tmp_path: Path, database_url: str) -> None:
    api = ApiProcess(tmp_path / "api", database_url=database_url)
    accepted: set[str] = set()
    try:
        for round_ in range(2):
            api.start()
            before = len(accepted)
            senders = [
                asyncio.create_task(_send_until_it_dies(api, accepted, worker=worker, start=round_ * 100_000))
                for worker in range(4)
            ]
            await _accepted(accepted, before + 300, senders)
            api.kill()
            await asyncio.gather(*senders)
        api.start()
        stored = await _ids(api)
    finally:
        api.stop()
    assert len(stored) == len(set(stored))
    assert accepted <= set(stored)


async def test_a_stop_answers_what_was_taken_and_ends_with_0(tmp_path: Path) -> None:
    api = ApiProcess(tmp_path / "api")
    api.start()
    accepted: set[str] = set()
    senders = [asyncio.create_task(_send_until_it_dies(api, accepted, worker=worker, start=0)) for worker in range(4)]
    await _accepted(accepted, 200, senders)
    assert await asyncio.to_thread(api.stop) == 0
    await asyncio.gather(*senders)
    api.start()
    assert accepted <= set(await _ids(api))
    assert api.stop() == 0


@pytest.fixture
def own_postgres() -> PostgresServer:
    return PostgresServer()


async def test_the_database_goes_away_and_comes_back(tmp_path: Path, own_postgres: PostgresServer) -> None:
    try:
        own_postgres.start()
        with ApiProcess(tmp_path / "api", database_url=own_postgres.create_database()) as api:
            async with api.client() as sensor, api.reader() as reader:
                assert (await sensor.post("/api/v1/events", json=report(1))).status_code == 201
                assert (await reader.get("/api/v1/events")).status_code == 200
                own_postgres.stop()
                answer = await sensor.post("/api/v1/events", json=report(2))
                assert answer.status_code == 503
                assert answer.headers["retry-after"]
                assert answer.json()["type"] == "urn:attune:problem:storage-unavailable"
                assert (await sensor.get("/ready")).status_code == 503
                read = await reader.get("/api/v1/events")
                assert (read.status_code, read.json()["type"]) == (503, "urn:attune:problem:storage-unavailable")
                assert (await sensor.get("/health")).status_code == 200  # a restart would not mend it
                own_postgres.start()
                assert (await sensor.post("/api/v1/events", json=report(2))).status_code == 201
                assert (await sensor.get("/ready")).status_code == 200
                assert (await reader.get("/api/v1/events")).status_code == 200
            assert len(await _ids(api)) == 2
            assert len(api.events_logged("events_not_stored")) == 1
            assert len(api.events_logged("events_stored_again")) == 1
    finally:
        own_postgres.remove()


async def test_what_cannot_wait_is_refused_at_once_and_what_waits_is_stored(tmp_path: Path) -> None:
    with ApiProcess(tmp_path / "api", queue_events="1000") as api:
        locking = sqlite3.connect(tmp_path / "api" / "db" / "attune.db", isolation_level=None)
        locking.execute("BEGIN IMMEDIATE")
        async with api.client() as sensor:
            first = asyncio.create_task(
                sensor.post("/api/v1/events/batch", json={"events": [report(k) for k in range(1000)]})
            )
            while "attune_api_events_waiting 1000.0" not in (await sensor.get("/metrics")).text:
                assert not first.done()
            answer = await sensor.post("/api/v1/events", json=report(1000))
            assert answer.status_code == 503
            assert answer.json()["type"] == "urn:attune:problem:overloaded"
            assert answer.headers["retry-after"]
            locking.execute("ROLLBACK")
            locking.close()
            assert {result["status"] for result in (await first).json()["data"]} == {"stored"}
            assert (await sensor.post("/api/v1/events", json=report(1000))).status_code == 201
