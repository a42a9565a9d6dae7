"""One replica at a time holds a lease of a real PostgreSQL, and what an earlier holder writes is refused."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial

import pytest
from sqlalchemy import Connection, text
from support.eventually import until
from support.postgres import PostgresServer
from support.tcp_relay import TcpRelay

from attune_api.settings import Settings
from attune_api.storage.database import Database
from attune_api.storage.leases import Held, LeaseLostError, Leases
from attune_api.storage.migrate import upgrade
from attune_api.storage.opening import open_database
from attune_api.streams.lag import newest_and_published
from attune_api.streams.outbox import begin_epoch, move_position

pytest_plugins = ["support.api_fixtures"]

#: Seconds; short, since tests wait for its end.
LENGTH = 2.0


@pytest.fixture
async def url(postgres: PostgresServer) -> str:
    made = Settings(database_url=postgres.create_database()).database_url
    database = open_database(made)
    await upgrade(database)
    await database.close()
    return made


@pytest.fixture
async def databases(url: str) -> AsyncIterator[list[Database]]:
    """One for each of three replicas."""
    opened = [open_database(url) for _ in range(3)]
    yield opened
    for database in opened:
        await database.close()


class Replica:
    """Takes a lease as soon as it can, and holds it until told otherwise."""

    def __init__(self, database: Database, *, length: float = LENGTH) -> None:
        self._leases = Leases(database, length=length)
        self._done = asyncio.Event()
        self.held: Held | None = None
        self.since = 0.0

    async def run(self) -> None:
        async with self._leases.hold("example") as held:
            self.held, self.since = held, time.monotonic()
            await self._done.wait()

    def finish(self) -> None:
        self._done.set()


def _holders(replicas: list[Replica]) -> list[Replica]:
    return [replica for replica in replicas if replica.held is not None and not replica.held.lost]


def _lasts_beyond(held: Held, time: float) -> bool:
    return held.until > time


async def test_one_holds_it_at_a_time_and_each_holder_has_a_greater_epoch(databases: list[Database]) -> None:
    waiting = [Replica(database, length=20.0) for database in databases]
    epochs: list[int] = []
    async with asyncio.TaskGroup() as group:
        tasks = {replica: group.create_task(replica.run()) for replica in waiting}
        while waiting:
            await until(lambda: _holders(waiting))
            (holder,) = _holders(waiting)
            assert holder.held is not None
            if not epochs:
                await until(partial(_lasts_beyond, holder.held, holder.held.until), what="it is renewed")
                assert _holders(waiting) == [holder]
            epochs.append(holder.held.epoch)
            holder.finish()
            await tasks[holder]
            waiting.remove(holder)
    assert epochs == [1, 2, 3]


async def test_a_holder_that_is_cut_off_knows_before_another_takes_over(url: str, postgres: PostgresServer) -> None:
    async with AsyncExitStack() as stack:
        relay = await stack.enter_async_context(TcpRelay(postgres.port))
        far = open_database(url.replace(f":{postgres.port}/", f":{relay.port}/"))
        near = open_database(url)
        stack.push_async_callback(far.close)
        stack.push_async_callback(near.close)
        first, second = Replica(far), Replica(near)
        tasks = [asyncio.create_task(first.run())]
        try:
            await until(lambda: first.held)
            assert first.held is not None
            tasks.append(asyncio.create_task(second.run()))
            relay.hold()
            await until(lambda: second.held)
            assert second.held is not None
            assert second.since >= first.held.until
            with pytest.raises(LeaseLostError):
                first.held.check()
            assert second.held.epoch > first.held.epoch
            # Its renewals come through late, and change nothing.
            relay.let_go()
            first.finish()
            await tasks[0]
            assert first.held.lost
            assert second.held.until > 0, "nobody took it from the second"
        finally:
            relay.let_go()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def test_one_whose_end_is_too_far_away_is_of_a_clock_that_was_set_back(databases: list[Database]) -> None:
    def write(connection: Connection, *, seconds: int) -> None:
        connection.execute(text("DELETE FROM leases"))
        row = "INSERT INTO leases VALUES ('example', 'gone', 7, clock_timestamp() + make_interval(secs => :seconds))"
        connection.execute(text(row), {"seconds": seconds})

    await databases[0].write(partial(write, seconds=3600))
    async with Leases(databases[0], length=LENGTH).hold("example") as held:
        assert held.epoch == 8
    await databases[0].write(partial(write, seconds=50))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(2 * LENGTH), Leases(databases[0], length=LENGTH).hold("example"):
            pytest.fail("it was somebody else's")


async def test_an_earlier_holder_does_not_move_the_position(database_url: str) -> None:
    database = open_database(Settings(database_url=database_url).database_url)
    await upgrade(database)
    assert await database.write(partial(begin_epoch, epoch=3)) == 0
    await database.write(partial(move_position, position=10, epoch=3))
    assert await database.write(partial(begin_epoch, epoch=4)) == 10
    for refused in (partial(move_position, position=20, epoch=3), partial(begin_epoch, epoch=3)):
        with pytest.raises(LeaseLostError):
            await database.write(refused)
    await database.write(partial(move_position, position=11, epoch=4))
    assert await database.read(newest_and_published) == (0, 11)
    await database.close()


async def test_the_only_process_on_sqlite_holds_everything(tmp_path_factory: pytest.TempPathFactory) -> None:
    database = open_database(f"sqlite:///{tmp_path_factory.mktemp('db')}/attune.db")
    await upgrade(database)
    async with Leases(database).hold("example") as first, Leases(database).hold("example") as second:
        first.check()
        second.check()
    await database.close()
