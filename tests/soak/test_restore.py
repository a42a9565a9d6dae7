"""A copy of PostgreSQL that is made while events come is restored with the commands of docs/api.md. It needs no cluster.

The same for SQLite is in tests/integration/api/test_retention.py.
"""

import asyncio
import itertools
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

from support.api_process import ApiProcess, report
from support.event_chaos import streamed_ids
from support.event_stream import StreamReader
from support.eventually import until
from support.nats_server import NatsServer
from support.postgres import PostgresServer
from support.sensor_process import stored_events

_DOCUMENT = Path(__file__).parents[2] / "docs" / "api.md"


def command(program: str) -> str:
    """The one command of the document that begins so."""
    lines = [line for line in _DOCUMENT.read_text().splitlines() if line.startswith("    ")]
    found = [line.strip() for line in lines if line.split()[0] == program]
    assert len(found) == 1, found
    return found[0]


async def _run(program: str, directory: Path, **environment: str) -> None:
    done = await asyncio.to_thread(
        subprocess.run,
        ["bash", "-euc", command(program)],
        cwd=directory,
        env={"PATH": os.environ["PATH"], "HOME": str(directory), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr


async def test_postgresql(tmp_path: Path) -> None:
    (tmp_path / "nats").mkdir()
    nats = NatsServer(tmp_path / "nats")
    postgres = PostgresServer()
    try:
        nats.start()
        postgres.start()
        second = postgres.url("attune_restored")
        with ApiProcess(
            tmp_path / "api", database_url=postgres.create_database(), nats_url=nats.url, check_rules="false"
        ) as api:
            sent = await _back_up_under_load(api, tmp_path)
            before = await stored_events(api)
        assert len(before) == sent
        await _run("createdb", tmp_path, ADMIN_URL=postgres.url("postgres"))
        await _run("pg_restore", tmp_path, NEW_DATABASE_URL=second)
        api.environment["ATTUNE_API_DATABASE_URL"] = second
        with api:
            restored = await stored_events(api)
            assert 200 <= len(restored) < sent
            assert restored == before[: len(restored)]
            # All is reported again, as a sensor might, and something new.
            again: Counter[int] = Counter()
            async with api.client() as sensor:
                for k in range(sent + 10):
                    again[(await sensor.post("/api/v1/events", json=report(k))).status_code] += 1
            assert again == {200: len(restored), 201: sent + 10 - len(restored)}
            after = await stored_events(api)
            assert after[: len(restored)] == restored
            assert [each["payload"]["k"] for each in after] == list(range(sent + 10))
            async with StreamReader(api.port, after=restored[-1]["seq"]) as reader:
                await reader.read_until(sent + 10 - len(restored))
                assert reader.events == after[len(restored) :]
            published = await streamed_ids(nats, {each["id"] for each in after})
            # What had been published before comes once more at the most.
            assert list(dict.fromkeys(published)) == [each["id"] for each in after]
            assert len(api.events_logged("background_task_died")) == 0
    finally:
        nats.stop()
        postgres.remove()
    print(
        f"\nPostgreSQL: a copy with {len(restored)} of {sent} events, made while they came; restored, and {sent + 10} "
        f"reported again: each stored once, {len(published)} messages in ATTUNE_EVENTS",
        file=sys.stderr,
    )


async def _back_up_under_load(api: ApiProcess, directory: Path) -> int:
    """Post 200 events, make a copy while others come, and post another 20; how many there were."""
    copied = asyncio.Event()
    enough = asyncio.Event()

    async def send() -> int:
        async with api.client() as sensor:
            left = 20
            for k in itertools.count():
                assert (await sensor.post("/api/v1/events", json=report(k))).status_code == 201
                if k >= 200:
                    enough.set()
                if copied.is_set():
                    left -= 1
                if left == 0:
                    break
            return k + 1

    async with asyncio.TaskGroup() as group:
        sending = group.create_task(send())
        await until(lambda: enough.is_set() or sending.done())
        await _run("pg_dump", directory, DATABASE_URL=api.database_url)
        copied.set()
    return sending.result()
