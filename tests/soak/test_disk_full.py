"""The disk under the database is full for a while, as the events come. It needs root, to mount a small file system.

pytest -s tests/soak/test_disk_full.py
"""

import asyncio
import contextlib
import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from support.api_process import ApiProcess, report
from support.event_chaos import post, streamed_ids
from support.eventually import until
from support.nats_server import NatsServer
from support.postgres import PostgresServer
from support.sensor_process import stored_events

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount a small file system")

#: Seconds between two tries of a sender that was refused.
_NEXT_TRY = 0.02


@dataclass(slots=True)
class Outcome:
    """What came of it.

    Attributes:
        accepted: ids of the events that were acknowledged.
        refused: answers that a sender got in place of an acknowledgement, and how often.
        again: seconds from the moment at which there was room until the next event was stored.
    """

    accepted: set[str] = field(default_factory=set)
    refused: Counter[str] = field(default_factory=Counter)
    again: float = 0.0


class SmallDisk:
    """A file system in memory, and a file that takes what room is left."""

    def __init__(self, mebibytes: int) -> None:
        # Not in pytest's folders, which only root can enter: PostgreSQL runs as another user.
        self.directory = Path(tempfile.mkdtemp(prefix="attune-disk-"))
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m,mode=0755", "attune-test", self.directory], check=True
        )
        self._ballast = self.directory / "ballast"

    def fill(self) -> None:
        """Leave no room, nor what programs give back in the meantime."""
        with self._ballast.open("ab", buffering=0) as ballast, contextlib.suppress(OSError):
            while True:
                ballast.write(b"\0" * 4096)

    def empty(self) -> None:
        """Give the room back."""
        self._ballast.unlink()

    def unmount(self) -> None:
        """End the file system."""
        subprocess.run(["umount", self.directory], check=True)
        self.directory.rmdir()


@pytest.fixture
def disk() -> Iterator[SmallDisk]:
    small = SmallDisk(160)
    yield small
    small.unmount()


async def _send(api: ApiProcess, outcome: Outcome, enough: asyncio.Event) -> None:
    """Report one event after the other, each until it is acknowledged, until there are enough."""
    async with api.client() as sensor:
        for k in itertools.count():
            if enough.is_set():
                return
            while failure := await post(sensor, [report(k)], outcome.accepted, refused_with=(503,)):
                outcome.refused[failure] += 1
                await asyncio.sleep(_NEXT_TRY)


async def _go_through(
    api: ApiProcess, disk: SmallDisk, nats_server: NatsServer, server: PostgresServer | None
) -> Outcome:
    outcome = Outcome()
    enough = asyncio.Event()
    async with asyncio.TaskGroup() as group, api.reader() as reader:
        group.create_task(_send(api, outcome, enough))
        await until(lambda: len(outcome.accepted) >= 100)
        await asyncio.to_thread(disk.fill)

        async def refuses() -> bool:
            # Room that a program had already, as in a log of its own, is used up first.
            await asyncio.to_thread(disk.fill)
            return outcome.refused.total() >= 20 and (await reader.get("/ready")).status_code == 503

        await until(refuses, within=60, what="events are refused, and the API is not ready")
        said = (await reader.get("/ready")).json()
        async with api.client() as sensor:
            answer = await sensor.post("/api/v1/events", json=report(10**6))
        assert answer.status_code == 503, answer.text
        assert answer.json()["type"].endswith("storage-unavailable"), answer.text
        assert int(answer.headers["retry-after"]) >= 1
        assert (await reader.get("/health")).status_code == 200
        before = len(outcome.accepted)
        disk.empty()
        if server is not None and not server.runs:  # it ends when it cannot write its log; somebody starts it again
            server.start()
        began = time.monotonic()
        await until(lambda: len(outcome.accepted) > before, within=30, every=0.005, what="events are stored again")
        outcome.again = time.monotonic() - began
        await until(lambda: len(outcome.accepted) >= before + 100, within=30)

        async def is_ready() -> bool:
            return (await reader.get("/ready")).status_code == 200

        await until(is_ready, what="the API is ready")
        enough.set()
    stored = await stored_events(api)
    ids = [each["id"] for each in stored]
    assert set(ids) == outcome.accepted
    assert [each["payload"]["k"] for each in stored] == list(range(len(stored)))
    published = await streamed_ids(nats_server, set(ids))
    assert list(dict.fromkeys(published)) == ids
    assert len(api.events_logged("background_task_died")) == 0
    print(
        f"\n{said['problems']['database']}\n{len(stored)} events acknowledged, each stored once and in "
        f"order; {outcome.refused.total()} times refused ({dict(outcome.refused)}); stored again after {outcome.again:.2f} s; "
        f"{len(published)} messages",
        file=sys.stderr,
    )
    return outcome


async def test_sqlite(tmp_path: Path, disk: SmallDisk, nats_server: NatsServer) -> None:
    database = f"sqlite:///{disk.directory}/db/attune.db"
    with ApiProcess(tmp_path / "api", database_url=database, nats_url=nats_server.url, check_rules="false") as api:
        outcome = await _go_through(api, disk, nats_server, None)
    assert outcome.again < 5


async def test_sqlite_starts_while_it_is_full(tmp_path: Path, disk: SmallDisk, nats_server: NatsServer) -> None:
    database = f"sqlite:///{disk.directory}/db/attune.db"
    with ApiProcess(tmp_path / "api", database_url=database, nats_url=nats_server.url, check_rules="false") as api:
        async with api.client() as sensor:
            for k in range(10):
                assert (await sensor.post("/api/v1/events", json=report(k))).status_code == 201
        api.kill()
        disk.fill()
        with api:
            async with api.client() as sensor:
                answer = await sensor.post("/api/v1/events", json=report(10))
                assert answer.status_code == 503, answer.text
                disk.empty()

                async def stored() -> bool:
                    return (await sensor.post("/api/v1/events", json=report(10))).status_code in (200, 201)

                await until(stored, within=30, what="events are stored again")
            assert [each["payload"]["k"] for each in await stored_events(api)] == list(range(11))


async def test_postgresql(tmp_path: Path, disk: SmallDisk, nats_server: NatsServer) -> None:
    postgres = PostgresServer(disk.directory / "postgres", max_wal_size="64MB", min_wal_size="32MB")
    postgres.start()
    try:
        url = postgres.create_database()
        with ApiProcess(tmp_path / "api", database_url=url, nats_url=nats_server.url, check_rules="false") as api:
            await _go_through(api, disk, nats_server, postgres)
    finally:
        postgres.remove()
