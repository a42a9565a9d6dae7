"""Four senders report events while the API, its database and NATS are killed at random. For an integration test and for a soak.

Senders do as sensors do: what is not answered, or answered with 503, they send again, in its order. What was accepted is written
down, and at the end looked for in the database and in the stream ``ATTUNE_EVENTS``.
"""

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import msgspec
import nats
import nats.errors
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from support.api_process import ApiProcess, report
from support.eventually import eventually
from support.nats_client import connect
from support.nats_server import NatsServer
from support.postgres import PostgresServer
from support.rule_stream import RuleStream, rule_state
from support.sensor_process import stored_events

from attune_contract.subjects import ALL_EVENTS, EVENTS_STREAM

SENDERS = 4
#: Rules of each sender, whose events it sends in order.
RULES = 5
_LARGEST_BATCH = 100


@dataclass
class Outcome:
    """What was accepted, what the database has, and what came out of the stream, each in its order."""

    accepted: set[str] = field(default_factory=set)
    stored: list[dict[str, Any]] = field(default_factory=list)
    streamed: list[str] = field(default_factory=list)
    kills: Counter[str] = field(default_factory=Counter)
    again: int = 0  #: requests that had to be sent again
    seconds: float = 0.0


@dataclass
class System:
    """The real parts, each a process that can be killed."""

    api: ApiProcess
    nats: NatsServer
    postgres: PostgresServer | None  #: None where the database is SQLite, which dies with the API

    def victims(self) -> Iterator[str]:
        yield "api"
        yield "nats"
        if self.postgres is not None:
            yield "database"

    def kill(self, victim: str) -> None:
        self._part(victim).kill()

    def start(self, victim: str) -> None:
        if victim == "api":
            self._start_api()
        else:
            self._part(victim).start()

    def _part(self, victim: str) -> ApiProcess | NatsServer | PostgresServer:
        part = {"api": self.api, "nats": self.nats, "database": self.postgres}[victim]
        assert isinstance(part, ApiProcess | NatsServer | PostgresServer)
        return part

    def _start_api(self) -> None:
        """As kubelet does: again, if it ends because its database is away."""

        def starts() -> bool:
            self.api.start()
            return True

        eventually(starts, within=120, every=0.5)


async def go_through(
    directory: Path, *, postgres: PostgresServer | None, events: int, kills: int, seed: int
) -> Outcome:
    """Send at least ``events`` events, through at least ``kills`` kills of each part."""
    chance = random.Random(seed)
    (directory / "nats").mkdir()
    server = NatsServer(directory / "nats")
    server.start()
    url = postgres.create_database() if postgres is not None else None
    api = ApiProcess(directory / "api", database_url=url, nats_url=server.url)
    system = System(api, server, postgres)
    outcome = Outcome()
    try:
        await _make_rules(server)
        await asyncio.to_thread(api.start)
        began = time.monotonic()
        killed = asyncio.Event()
        least = events // SENDERS
        senders = [
            asyncio.create_task(
                _send(api, number, outcome, least=least, killed=killed, chance=random.Random(f"{seed}/{number}"))
            )
            for number in range(SENDERS)
        ]
        await _kill_at_random(system, senders, outcome, kills=kills, killed=killed, chance=chance)
        await asyncio.gather(*senders)
        outcome.seconds = time.monotonic() - began
        outcome.stored = await stored_events(api)
        outcome.streamed = await streamed_ids(server, {each["id"] for each in outcome.stored})
    finally:
        await asyncio.to_thread(api.stop)
        server.stop()
    return outcome


def judge(outcome: Outcome) -> None:
    """What must hold after all that.

    Raises:
        AssertionError: something does not.
    """
    ids = [each["id"] for each in outcome.stored]
    assert len(ids) == len(set(ids)), "an event is stored twice"
    assert outcome.accepted == set(ids)
    assert set(outcome.streamed) == set(ids)
    # Each rule's events were sent in order, so they are stored in order; and they leave in that order. What is published
    # again after a crash was published before, so the first time counts.
    places = {event_id: place for place, event_id in reversed(list(enumerate(outcome.streamed)))}
    rules: dict[str, list[dict[str, Any]]] = {}
    for each in outcome.stored:
        rules.setdefault(each["rule_uid"], []).append(each)
    for stored in rules.values():
        assert [each["payload"]["k"] for each in stored] == list(range(len(stored)))
        order = [places[each["id"]] for each in stored]
        assert order == sorted(order)


def _rule(sender: int, number: int) -> Any:
    return rule_state(1 + sender * RULES + number)


async def _make_rules(server: NatsServer) -> None:
    stream = RuleStream(server.url)
    await stream.connect()
    await stream.make_streams()
    await stream.put_many([_rule(sender, number) for sender in range(SENDERS) for number in range(RULES)])
    await stream.close()


async def _send(
    api: ApiProcess, sender: int, outcome: Outcome, *, least: int, killed: asyncio.Event, chance: random.Random
) -> None:
    counts: Counter[int] = Counter()
    async with api.client() as client:
        while sum(counts.values()) < least or not killed.is_set():
            batch = []
            for _ in range(chance.choice((1, 5, _LARGEST_BATCH))):
                number = chance.randrange(RULES)
                state = _rule(sender, number)
                batch.append(
                    report(counts[number], rule_uid=state.uid, rule_name=state.name, payload={"k": counts[number]})
                )
                counts[number] += 1
            await _deliver(client, batch, outcome)
            if sum(counts.values()) >= least:
                await asyncio.sleep(0.05)  # enough; only something to be interrupted


async def _deliver(client: httpx.AsyncClient, batch: list[dict[str, Any]], outcome: Outcome) -> None:
    """Send events until each is accepted."""
    while await post(client, batch, outcome.accepted, refused_with=(503,)):
        outcome.again += 1
        await asyncio.sleep(0.2)


async def post(
    client: httpx.AsyncClient, batch: list[dict[str, Any]], accepted: set[str], *, refused_with: tuple[int, ...]
) -> str:
    """Send events once, and note the ids of those that are accepted: all or none.

    Returns:
        "" when they are accepted, else the status, or the name of the error when there was no answer.

    Raises:
        AssertionError: they are refused with another status than may be.
    """
    try:
        if len(batch) == 1:
            answer = await client.post("/api/v1/events", json=batch[0])
        else:
            answer = await client.post("/api/v1/events/batch", json={"events": batch})
    except httpx.TransportError as error:
        return type(error).__name__
    if answer.status_code not in (200, 201):
        assert answer.status_code in refused_with, answer.text
        return str(answer.status_code)
    data = answer.json()["data"]
    results = data if isinstance(data, list) else [data]
    assert {each["status"] for each in results} <= {"stored", "duplicate"}, results
    accepted.update(each["id"] for each in results)
    return ""


async def _kill_at_random(
    system: System,
    senders: "list[asyncio.Task[None]]",
    outcome: Outcome,
    *,
    kills: int,
    killed: asyncio.Event,
    chance: random.Random,
) -> None:
    victims = list(system.victims()) * kills
    chance.shuffle(victims)
    while victims or not all(sender.done() for sender in senders):
        await asyncio.sleep(chance.uniform(0.1, 2.0))
        if (failed := next((s for s in senders if s.done() and s.exception()), None)) is not None:
            await failed
        victim = victims.pop() if victims else chance.choice(list(system.victims()))
        await asyncio.to_thread(system.kill, victim)
        outcome.kills[victim] += 1
        await asyncio.sleep(chance.uniform(0, 1.0))
        await asyncio.to_thread(system.start, victim)
        if not victims:
            killed.set()


async def streamed_ids(server: NatsServer, wanted: set[str]) -> list[str]:
    """The ids of the events in the stream, in its order, when all that are wanted have come.

    Pulled: a push consumer without flow control is cut off when it falls behind, and what it misses looks lost.
    """
    client = await connect(server.url)
    ids: list[str] = []
    missing = set(wanted)
    deadline = time.monotonic() + 180
    try:
        subscription = None
        while subscription is None:
            # A server that has just joined the others again loses the request.
            with contextlib.suppress(nats.errors.TimeoutError):
                subscription = await client.jetstream(timeout=10).pull_subscribe(
                    ALL_EVENTS,
                    stream=EVENTS_STREAM,
                    config=ConsumerConfig(ack_policy=AckPolicy.NONE, deliver_policy=DeliverPolicy.ALL),
                )
            assert subscription is not None or time.monotonic() < deadline, "no consumer could be made"
        while missing and time.monotonic() < deadline:
            with contextlib.suppress(nats.errors.TimeoutError):
                for message in await subscription.fetch(500, timeout=1):
                    event_id = message.headers["ce-id"]
                    assert msgspec.json.decode(message.data)["id"] == event_id
                    ids.append(event_id)
                    missing.discard(event_id)
    finally:
        await client.close()
    assert not missing, f"{len(missing)} of {len(wanted)} events never came out"
    return ids
