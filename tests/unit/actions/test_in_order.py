"""Turns of Rules with ``order: Strict``, against a model of NATS, the API and replicas that are killed and frozen."""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.actions_stage import NAMESPACE, http, rule_actions

from attune_actions.in_order import InOrder
from attune_actions.turns import (
    Next,
    Turn,
    begun,
    decode_turn,
    encode_turn,
    idle,
    is_turn,
    passed,
    pause,
    rung,
    turn_subject,
)
from attune_contract.actions import run_id
from attune_contract.events import event_id
from attune_kit.actions.plan import Plan

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
UID = "uid-r"
ACTIONS = ("a", "b")
SUBJECT = turn_subject(NAMESPACE, UID)


def turn(**fields: Any) -> Turn:
    return Turn(namespace=NAMESPACE, uid=UID, **{"sequence": 5, "seq": 50, **fields})


RUN = UUID(int=1)
EVENT = Next(sequence=7, seq=70, data=b"{}", stored=0.0)


def test_a_ring_wakes_an_idle_turn_and_leaves_a_busy_one() -> None:
    first = turn(sequence=1, seq=10)
    assert rung(None, first=first, sequence=7) is first
    assert rung(turn(), first=first, sequence=7) is None
    assert rung(turn(idle_until=NOW), first=first, sequence=5) is None
    assert rung(turn(idle_until=NOW, looks=2), first=first, sequence=7) == turn()
    assert rung(turn(idle_until=NOW), first=first, sequence=None) == turn()


def test_a_turn_moves_on_when_all_runs_are_over() -> None:
    waits = begun(turn(looks=1), EVENT, left=[RUN])
    assert (waits.sequence, waits.seq, waits.runs, waits.looks) == (5, 50, (RUN,), 0)
    assert passed(waits) == turn(sequence=7, seq=70)
    assert begun(turn(), EVENT, left=[]) == turn(sequence=7, seq=70)
    lost = Next(sequence=5, seq=60, data=b"{}")
    assert begun(turn(), lost, left=[]) == turn(seq=60)


def test_a_turn_never_goes_back() -> None:
    republished = Next(sequence=9, seq=40, data=b"{}", stored=0.0)
    assert begun(turn(), republished, left=[]) == turn(sequence=9, seq=50)
    assert idle(turn(), now=NOW, seen=(3, 30)).sequence == 5


def test_a_turn_is_looked_at_twice_before_it_rests() -> None:
    once = idle(turn(), now=NOW)
    assert once.idle_until == NOW
    assert not once.forgotten
    twice = idle(once, now=NOW, seen=(9, 90))
    assert twice.idle_until is not None
    assert twice.idle_until > NOW
    assert (twice.sequence, twice.seq, twice.forgotten) == (9, 90, True)


def test_pauses_are_bounded() -> None:
    pauses = [pause(delivered) for delivered in (1, 2, 3, 100, 10**9)]
    assert pauses == sorted(pauses)
    assert pauses[-1] == 0.5


def test_a_turn_is_told_from_a_run() -> None:
    assert is_turn(SUBJECT)
    assert not is_turn(f"attune.runqueue.{NAMESPACE}.{UID}.{RUN}")
    assert decode_turn(encode_turn(turn(runs=(RUN,), idle_until=NOW))) == turn(runs=(RUN,), idle_until=NOW)


class KilledError(Exception):
    """The replica is no more."""


class World:
    """NATS, the API and the targets: what there is in truth, which nobody sees at once."""

    def __init__(self, chance: random.Random, events: int) -> None:
        self.chance = chance
        self.events = events
        self.stream: dict[int, int] = {}  #: sequence: seq
        self.last = 0
        self.dropped = 0
        self.turn: tuple[bytes, int] | None = None
        self.resting = 0  #: the sequence of a turn that does not come again before it is replaced
        self.count = 0
        self.begun: set[UUID] = set()
        self.standing: set[UUID] = set()
        self.over: set[UUID] = set()
        self.order: list[int] = []
        self.clock = NOW

    def now(self) -> datetime:
        """A clock on which pauses pass, and the rest of an idle turn does not: only a ring ends it."""
        self.clock += timedelta(microseconds=1)
        return self.clock

    async def pass_time(self) -> None:
        """Let others go on for a while; sometimes for long, as a frozen process does."""
        for _ in range(self.chance.choice((0, 0, 1, 2, 30))):
            await asyncio.sleep(0)

    def runs_of(self, seq: int) -> list[UUID]:
        """The ids of an event's runs."""
        return [run_id(UID, event_id(UID, str(seq)), name) for name in ACTIONS]

    def is_over(self, seq: int) -> bool:
        """Whether all runs of an event are over."""
        return self.over.issuperset(self.runs_of(seq))

    def start(self, seq: int, run: UUID) -> None:
        """A request leaves. The first one of a run must find all earlier events over."""
        if run not in self.begun:
            early = [before for before in range(1, seq) if not self.is_over(before)]
            assert early == [], f"event {seq} began before {early} were over"
            self.order.append(seq)
        self.begun.add(run)

    def store(self) -> int:
        """A further event; the sequences of other Rules' events lie between."""
        self.last += self.chance.randrange(1, 4)
        self.stream[self.last] = len(self.stream) + self.dropped + 1
        return self.last

    def drop(self) -> None:
        """The oldest event leaves the stream."""
        if self.stream:
            self.stream.pop(min(self.stream))
            self.dropped += 1


class Book:
    """Knows one Rule."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    async def plan(self, namespace: str, uid: str) -> Plan | None:
        return self._plan


class Replica:
    """One runner: the real thing, but for the doors to the world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.done: set[UUID] = set()
        self.dead = False
        plan = Plan(rule_actions("r", *(http("http://a.example/", name=name) for name in ACTIONS), order="Strict"))
        self.in_order = InOrder(
            store=self,
            book=Book(plan),
            begin=self.begin,
            is_done=self.done.__contains__,
            over=self.api_knows,
            now=world.now,
        )

    async def _door(self) -> None:
        await self.world.pass_time()
        if self.dead:
            raise KilledError

    async def begin(
        self,
        plan: Plan,
        data: bytes,
        *,
        attempt: int,
        stored: float | None,
        known: Callable[[UUID], Awaitable[bool]] | None,
        begin_by: float,
    ) -> list[UUID]:
        seq = msgspec.json.decode(data)["seq"]
        runs = self.world.runs_of(seq)
        for run in runs:
            if run in self.done or (known is not None and await known(run)):
                continue
            await self._door()
            self.world.start(seq, run)
            await self._door()
            if self.world.chance.random() < 0.6:
                self.world.over.add(run)
                self.done.add(run)
            else:
                self.world.standing.add(run)
        return runs

    async def api_knows(self, run: UUID) -> bool:
        await self._door()
        return run in self.world.over and self.world.chance.random() < 0.7

    async def read(self, subject: str) -> tuple[Turn | None, int]:
        await self._door()
        assert subject == SUBJECT
        found = self.world.turn
        return (None, 0) if found is None else (decode_turn(found[0]), found[1])

    async def replace(self, turn: Turn, *, sequence: int) -> bool:
        await self._door()
        world = self.world
        if sequence != (world.turn[1] if world.turn is not None else 0):
            return False
        world.count += 1
        world.turn = (encode_turn(turn), world.count)
        await self._door()
        return True

    async def stands(self, namespace: str, rule_uid: str, run: UUID) -> bool:
        await self._door()
        return run in self.world.standing

    async def first_turn(self, namespace: str, rule_uid: str, *, seq: int) -> Turn:
        await self._door()
        return Turn(namespace=namespace, uid=rule_uid, sequence=0, seq=0, doubtful=self.world.last)

    async def next(self, turn: Turn) -> Next | None:
        await self._door()
        stream = self.world.stream
        lost = list(range(turn.seq + 1, self.world.dropped + 1))
        if lost:
            return Next(sequence=turn.sequence, seq=lost[0], data=msgspec.json.encode({"seq": lost[0]}))
        at = min((sequence for sequence in stream if sequence > turn.sequence), default=None)
        found = None
        if at is not None:
            found = Next(sequence=at, seq=stream[at], data=msgspec.json.encode({"seq": stream[at]}), stored=0.0)
        await self._door()
        return found

    async def end(self) -> tuple[int, int] | None:
        found = max(self.world.stream.items(), default=None)
        await self._door()
        return found


class Message:
    """A turn in hand."""

    def __init__(self, world: World, delivered: int) -> None:
        assert world.turn is not None
        self.world = world
        self.subject = SUBJECT
        self.data, self.sequence = world.turn
        self.delivered = delivered
        self.begin_by = 0.0

    async def ack(self) -> None:
        if self.world.turn is not None and self.world.turn[1] == self.sequence:
            self.world.turn = None

    async def hand_back(self, delay: float = 0.0) -> None:
        if delay > 5:
            self.world.resting = self.sequence


async def live(world: World) -> None:
    """Let events come, and replicas handle them, be killed, and handle each turn more than once."""
    chance = world.chance
    replicas = [Replica(world) for _ in range(3)]
    to_ring: list[tuple[int, int]] = []
    tasks: set[asyncio.Task[None]] = set()
    delivered: dict[int, int] = {}
    stored = 0

    async def ring(replica: Replica, sequence: int, seq: int) -> None:
        try:
            await replica.in_order.ring(NAMESPACE, UID, sequence=sequence, seq=seq)
        except KilledError:
            to_ring.append((sequence, seq))

    async def handle(replica: Replica, message: Message) -> None:
        with contextlib.suppress(KilledError):
            await replica.in_order.handle(message)

    def finished() -> bool:
        return stored == world.events and not to_ring and all(world.is_over(seq) for seq in range(1, world.events + 1))

    for _ in range(20_000):
        if finished():
            break
        draw = chance.random()
        if draw < 0.1 and stored < world.events:
            stored += 1
            to_ring.append((world.store(), stored))
        elif draw < 0.25 and to_ring:
            sequence, seq = to_ring.pop(chance.randrange(len(to_ring)))
            tasks.add(asyncio.create_task(ring(chance.choice(replicas), sequence, seq)))
        elif draw < 0.28:
            index = chance.randrange(len(replicas))
            replicas[index].dead = True
            replicas[index] = Replica(world)
        elif draw < 0.3 and stored:
            world.drop()
        elif draw < 0.4 and world.standing:
            run = chance.choice(sorted(world.standing))
            world.over.add(run)
            world.standing.discard(run)
        elif world.turn is not None:
            # Once, or again while another replica still has it in hand.
            number = world.turn[1]
            if number != world.resting and (delivered.get(number, 0) == 0 or chance.random() < 0.05):
                delivered[number] = delivered.get(number, 0) + 1
                message = Message(world, delivered[number])
                tasks.add(asyncio.create_task(handle(chance.choice(replicas), message)))
        await asyncio.sleep(0)
        for task in [each for each in tasks if each.done()]:
            tasks.discard(task)
            task.result()
    assert finished(), "an event was lost"
    await asyncio.gather(*tasks)


@pytest.mark.parametrize("events", [1, 6])
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_runs_begin_in_order_and_none_is_lost(events: int, seed: int) -> None:
    world = World(random.Random(seed), events)
    asyncio.run(live(world))
    assert world.order == sorted(world.order)
    assert set(world.order) == set(range(1, events + 1))


class Hasty(World):
    """A world in which nobody waits."""

    async def pass_time(self) -> None:
        """Go on at once."""


class Late(Replica):
    """Looks for the next event, and an event is stored and rings before it has the answer."""

    async def next(self, turn: Turn) -> Next | None:
        found = await super().next(turn)
        if found is None and not self.world.stream:
            sequence = self.world.store()
            await Replica(self.world).in_order.ring(NAMESPACE, UID, sequence=sequence, seq=1)
        return found


@pytest.mark.parametrize("before", [turn(sequence=0, seq=0), turn(sequence=0, seq=0, idle_until=NOW, looks=1)])
async def test_an_event_that_rings_during_a_look_is_not_missed(before: Turn) -> None:
    world = Hasty(random.Random(0), 1)
    world.turn = (encode_turn(before), 1)
    world.count = 1
    replica = Late(world)
    for _ in range(4):
        if world.resting != world.turn[1]:
            await replica.in_order.handle(Message(world, 1))
    assert world.order[:1] == [1]


async def test_a_replica_that_holds_an_old_turn_begins_nothing() -> None:
    world = Hasty(random.Random(0), 2)
    world.turn = (encode_turn(turn(sequence=0, seq=0)), 1)
    world.count = 1
    old = Message(world, 1)
    await Replica(world).in_order.ring(NAMESPACE, UID, sequence=world.store(), seq=1)
    world.over.update(world.runs_of(1))
    world.turn = (encode_turn(turn(sequence=world.last, seq=1)), 2)
    await Replica(world).in_order.handle(old)
    assert world.order == []
    assert world.turn[1] == 2
