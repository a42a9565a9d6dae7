"""The replica of the API that publishes is killed, stands still or is stopped: when the other one publishes. It needs no cluster.

pytest -s tests/soak/test_takeover.py
"""

import asyncio
import itertools
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest
from nats.aio.msg import Msg
from support.api_process import ApiProcess, report, write_jwks
from support.event_chaos import post, streamed_ids
from support.eventually import until
from support.nats_client import connect
from support.nats_server import NatsServer
from support.postgres import PostgresServer
from support.sensor_process import stored_events

from attune_contract.subjects import ALL_EVENTS

ROUNDS = 5
#: Seconds between two posts.
_PAUSE = 0.02


class Replicas:
    """Two replicas on one database."""

    def __init__(self, directory: Path, database: str, nats_server: NatsServer) -> None:
        self.all = [
            ApiProcess(directory / name, database_url=database, nats_url=nats_server.url, check_rules="false")
            for name in ("one", "two")
        ]
        one, two = self.all
        two.minter = one.minter
        write_jwks(two.jwks_file, one.minter)

    def led(self) -> list[int]:
        """How often each of them began to publish."""
        return [len(api.events_logged("outbox_leads")) for api in self.all]


@pytest.fixture
def replicas(tmp_path: Path, nats_server: NatsServer) -> Iterator[Replicas]:
    with ExitStack() as stack:
        postgres = PostgresServer()
        stack.callback(postgres.remove)
        postgres.start()
        both = Replicas(tmp_path, postgres.create_database(), nats_server)
        for api in both.all:
            stack.enter_context(api)
        yield both


async def _send(api: ApiProcess, numbers: "itertools.count[int]", accepted: set[str], until_set: asyncio.Event) -> None:
    async with api.client() as sensor:
        while not until_set.is_set():
            event = report(next(numbers))
            assert await post(sensor, [event], accepted, refused_with=()) == ""
            await asyncio.sleep(_PAUSE)


class Published:
    """When each event came out of the stream."""

    def __init__(self) -> None:
        self.at: dict[str, float] = {}

    async def arrived(self, message: Msg) -> None:
        self.at.setdefault(msgspec.json.decode(message.data)["id"], time.monotonic())

    def longest_pause(self, began: float) -> float:
        """The longest time after a moment in which nothing came, in seconds."""
        times = [began, *sorted(at for at in self.at.values() if at > began)]
        return max(later - earlier for earlier, later in itertools.pairwise(times))


async def _take_over(
    replicas: Replicas, published: Published, fault: str, numbers: "itertools.count[int]", accepted: set[str]
) -> float:
    """Let the fault happen to the one that publishes, and events come meanwhile; how long nothing was published."""
    leader = max(replicas.all, key=_last_led)
    other = next(api for api in replicas.all if api is not leader)
    led, start = sum(replicas.led()), len(published.at)
    enough = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(_send(other, numbers, accepted, enough))
        await until(lambda: len(published.at) >= start + 50, within=30, what="events are published")
        began = time.monotonic()
        if fault == "killed":
            leader.kill()
        elif fault == "frozen":
            leader.freeze()
        else:
            await asyncio.to_thread(leader.stop)
        sent = len(accepted)
        await until(lambda: sum(replicas.led()) > led, within=60, every=0.01, what="the other one leads")
        await until(lambda: len(published.at) >= sent + 50, within=60, what="events are published again")
        pause = published.longest_pause(began)
        enough.set()
    if fault == "frozen":
        leader.thaw()
    else:
        await asyncio.to_thread(leader.start)
    return pause


@pytest.mark.parametrize("fault", ["killed", "frozen", "stopped"])
async def test_the_other_one_publishes(replicas: Replicas, nats_server: NatsServer, fault: str) -> None:
    published = Published()
    client = await connect(nats_server.url)
    await client.subscribe(ALL_EVENTS, cb=published.arrived)
    numbers = itertools.count()
    accepted: set[str] = set()
    seconds = [await _take_over(replicas, published, fault, numbers, accepted) for _ in range(ROUNDS)]
    ids = [each["id"] for each in await stored_events(replicas.all[0])]
    assert set(ids) == accepted
    assert await streamed_ids(nats_server, set(ids)) == ids, "lost, doubled, or in another order"
    await client.close()
    shown = ", ".join(f"{each:.1f}" for each in seconds)
    print(
        f"\n{fault}: published again after {shown} s; {len(ids)} events, none lost, doubled or out of order",
        file=sys.stderr,
    )


def _last_led(api: ApiProcess) -> str:
    return max((str(line["timestamp"]) for line in api.events_logged("outbox_leads")), default="")
