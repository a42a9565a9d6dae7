"""Two replicas of the API behind a pooler, under load, while the pooler and the replica that publishes are killed.

Senders post each rule's events in order, single and in batches, to one replica or the other, and send again what was not
accepted. Readers read pages and follow the stream of events meanwhile, and go to the other replica when theirs goes.
"""

import asyncio
import itertools
import re
import time
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx
from support.api_process import ApiProcess, report, write_jwks
from support.event_chaos import post, streamed_ids
from support.event_stream import StreamReader
from support.eventually import eventually, until
from support.nats_server import NatsServer
from support.pgbouncer import PgBouncer
from support.postgres import PostgresServer
from support.sensor_process import newest_seq, stored_events

#: Each with a rule of its own.
SENDERS: Final = 3
_BATCH: Final = 7
#: Seconds between two posts of a sender, so that the load lasts as long as the faults.
_PAUSE: Final = 0.02
#: Seconds before the next try, page or stream, so that an outage is told by some tries and not by a busy loop.
_NEXT_TRY: Final = 0.1
#: How many events are accepted before each fault, so that it comes under load.
_LOAD: Final = 300
#: How many tries fail before the pooler is back: what the senders make in a second.
_FAILED: Final = 30


@dataclass
class Outcome:
    """What was accepted, and what came of it."""

    accepted: set[str] = field(default_factory=set)
    again: Counter[str] = field(default_factory=Counter)  #: requests sent again, by what had come of them
    reads: Counter[int] = field(default_factory=Counter)  #: pages, by status
    stored: list[dict[str, Any]] = field(default_factory=list)
    followed: list[int] = field(default_factory=list)  #: ``seq`` of the events in the stream over HTTP
    published: list[str] = field(default_factory=list)  #: ids in ``ATTUNE_EVENTS``
    shares: list[int] = field(default_factory=list)  #: what each replica published of some events at the end
    leads: int = 0  #: how often a replica began to publish
    most_connections: int = 0
    seconds: float = 0.0


class Replicas:
    """Two of them, each known to PostgreSQL by its name."""

    def __init__(self, directory: Path, bouncer: PgBouncer, direct: str, nats: NatsServer) -> None:
        self.all = {
            name: ApiProcess(
                directory / name,
                database_url=bouncer.url(direct, application_name=name),
                nats_url=nats.url,
                check_rules="false",
            )
            for name in ("one", "two")
        }
        one, two = self.all.values()
        two.minter = one.minter
        write_jwks(two.jwks_file, one.minter)

    def leads(self) -> int:
        """How often one of them began to publish."""
        return sum(len(api.events_logged("outbox_leads")) for api in self.all.values())


@dataclass
class System:
    """The real parts."""

    postgres: PostgresServer
    database: str
    bouncer: PgBouncer
    nats: NatsServer
    replicas: Replicas

    def holders(self) -> list[str]:
        """Names of the replicas that hold the publisher's lease: one or none."""
        query = "SELECT epoch FROM leases WHERE name = 'outbox' AND expires_at > clock_timestamp()"
        epochs = [int(epoch) for epoch in self.postgres.query(query, self.database).split()]
        return [
            name
            for name, api in self.replicas.all.items()
            if any(said["epoch"] in epochs for said in api.events_logged("outbox_leads"))
        ]

    def connections(self) -> int:
        """Connections to the database now."""
        query = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{self.database}'"
        return int(self.postgres.query(query))


async def go_through(system: System, *, posts: int, pooler_kills: int, leader_kills: int) -> Outcome:
    """Send at least so many requests, and go on until all kills are done; then look at what came of it."""
    outcome = Outcome()
    began = time.monotonic()
    done = asyncio.Event()
    async with asyncio.TaskGroup() as readers:
        follower = readers.create_task(_follow(system.replicas, outcome, done))
        pages = readers.create_task(_read(system.replicas, outcome, done))
        async with asyncio.TaskGroup() as group:
            faults = group.create_task(_kill(system, outcome, pooler_kills=pooler_kills, leader_kills=leader_kills))
            for sender in range(SENDERS):
                group.create_task(_send(system.replicas, sender, outcome, faults, least=posts // SENDERS))
        outcome.most_connections = faults.result()
        await _share(system.replicas, outcome)
        outcome.stored = await stored_events(system.replicas.all["one"])
        await until(lambda: len(outcome.followed) >= len(outcome.stored), what="the stream has all events")
        done.set()
        await asyncio.wait((follower, pages))
    outcome.published = await streamed_ids(system.nats, {each["id"] for each in outcome.stored})
    outcome.leads = system.replicas.leads()
    outcome.seconds = time.monotonic() - began
    return outcome


def _event(sender: int, k: int) -> dict[str, Any]:
    uid = f"7c1f3f0e-37e9-4d5e-9d2f-{sender:012d}"
    return report(k, rule_uid=uid, rule_name=f"rule-{sender}")


async def _send(replicas: Replicas, sender: int, outcome: Outcome, faults: "asyncio.Task[int]", *, least: int) -> None:
    number = itertools.count()
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(api.client()) for api in replicas.all.values()]
        turn = itertools.cycle(clients[sender % 2 :] + clients[: sender % 2])
        for posts in itertools.count():
            if posts >= least and faults.done():
                return
            batch = [_event(sender, next(number)) for _ in range(_BATCH if posts % 3 == 2 else 1)]
            await _deliver(turn, batch, outcome)
            await asyncio.sleep(_PAUSE)


async def _deliver(turn: "itertools.cycle[httpx.AsyncClient]", batch: list[dict[str, Any]], outcome: Outcome) -> None:
    while failure := await post(next(turn), batch, outcome.accepted, refused_with=(500, 503)):
        outcome.again[failure] += 1
        await asyncio.sleep(_NEXT_TRY)


async def _read(replicas: Replicas, outcome: Outcome, done: asyncio.Event) -> None:
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(api.reader()) for api in replicas.all.values()]
        for client in itertools.cycle(clients):
            if done.is_set():
                return
            try:
                outcome.reads[(await client.get("/api/v1/events?limit=100")).status_code] += 1
            except httpx.TransportError:
                outcome.reads[0] += 1
            await asyncio.sleep(_NEXT_TRY)


async def _follow(replicas: Replicas, outcome: Outcome, done: asyncio.Event) -> None:
    for api in itertools.cycle(replicas.all.values()):
        if done.is_set():
            return
        reader = StreamReader(api.port, after=outcome.followed[-1] if outcome.followed else 0)
        try:
            await reader.open()
        except (OSError, TimeoutError, IndexError):
            await asyncio.sleep(_NEXT_TRY)
            continue
        waits = asyncio.create_task(done.wait())
        while reader.status == 200 and not reader.ended and not done.is_set():
            line = asyncio.create_task(reader.read_line())
            await asyncio.wait((line, waits), return_when=asyncio.FIRST_COMPLETED)
            line.cancel()
            await asyncio.gather(line, return_exceptions=True)
            outcome.followed += [event["seq"] for event in reader.events]
            reader.events.clear()
        waits.cancel()
        reader.close()
        await asyncio.sleep(_NEXT_TRY)


async def _kill(system: System, outcome: Outcome, *, pooler_kills: int, leader_kills: int) -> int:
    """Kill what is to be killed, one after the other, each when all is well; the most connections that were seen."""
    most = 0
    for fault in ["pooler"] * pooler_kills + ["leader"] * leader_kills:
        await until(lambda: system.replicas.leads() > 0 and len(system.holders()) >= 1, within=60, every=0.2)
        await until(partial(_accepted, outcome, len(outcome.accepted) + _LOAD), within=60, what="load")
        most = max(most, system.connections())
        if fault == "pooler":
            before = outcome.again.total()
            await asyncio.to_thread(system.bouncer.kill)
            await until(partial(_sent_again, outcome, before + _FAILED), within=60, what="the outage is noticed")
            await asyncio.to_thread(system.bouncer.start)
            continue
        led = system.replicas.leads()
        leader = system.replicas.all[system.holders()[0]]
        await asyncio.to_thread(leader.kill)
        await until(partial(_led_more_often, system.replicas, led), within=60, every=0.2, what="another one publishes")
        await asyncio.to_thread(_start_again, leader)
    return max(most, system.connections())


def _accepted(outcome: Outcome, number: int) -> bool:
    return len(outcome.accepted) >= number


def _sent_again(outcome: Outcome, times: int) -> bool:
    return outcome.again.total() >= times


def _led_more_often(replicas: Replicas, often: int) -> bool:
    return replicas.leads() > often


def _start_again(api: ApiProcess) -> None:
    """As kubelet does."""

    def starts() -> bool:
        api.start()
        return True

    eventually(starts, within=120, every=0.5)


async def outbox_published(api: ApiProcess) -> int:
    """How many events it has published since its start."""
    async with api.reader() as reader:
        shown = (await reader.get("/metrics")).text
    found = re.search(r"^attune_api_outbox_published_total ([0-9.e+]+)$", shown, re.MULTILINE)
    return int(float(found[1])) if found else 0


async def _share(replicas: Replicas, outcome: Outcome) -> None:
    """Post 50 events when all is quiet, and see which replica publishes how many of them."""
    apis = list(replicas.all.values())
    async with AsyncExitStack() as stack:
        turn = itertools.cycle([await stack.enter_async_context(api.client()) for api in apis])

        async def come() -> bool:
            newest: list[int] = []
            position: list[float] = []
            for api in apis:
                async with api.reader() as reader:
                    newest.append(await newest_seq(reader))
                    shown = (await reader.get("/metrics")).text
                said = re.findall(r"^attune_api_outbox_position ([0-9.e+]+)$", shown, re.MULTILINE)
                position += [float(each) for each in said]
            return max(position) >= max(newest)

        await until(come, within=60, every=0.2, what="all that was accepted is published")
        before = [await outbox_published(api) for api in apis]
        for k in range(50):
            await _deliver(turn, [_event(99, k)], outcome)
        await until(come, within=60, every=0.2, what="all that was accepted is published")

        async def counted() -> bool:
            outcome.shares = [await outbox_published(api) - old for api, old in zip(apis, before, strict=True)]
            return sum(outcome.shares) >= 50

        await until(counted, within=30, every=0.2)
