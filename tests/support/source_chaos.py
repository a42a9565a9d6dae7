"""A sensor that reads a queue, while everything around it fails: for integration tests and for soaks."""

import asyncio
import contextlib
import json
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import httpx
from support.api_process import ApiProcess
from support.eventually import until
from support.nats_server import NatsServer
from support.sensor_process import SensorProcess, drained, newest_seq, serve, stored_events

from attune_contract.identity import SensorRef
from attune_contract.messages import AckState, RuleState

#: Rules with the same subscription: each has an event of every message.
RULES = 2


class Server(Protocol):
    """A process of a broker. All methods block."""

    def start(self) -> None:
        """Start it, with what it kept."""

    def kill(self) -> None:
        """End it at once (SIGKILL)."""

    def stop(self) -> None:
        """Let it end."""


S = TypeVar("S", bound=Server)


class ServerQueue(ABC, Generic[S]):
    """The queue that is read, of a server that is started and killed. All methods block."""

    def __init__(self, server: S) -> None:
        self.server = server

    def start(self) -> None:
        """Start the server, with what it kept."""
        self.server.start()

    def kill(self) -> None:
        """End the server at once (SIGKILL)."""
        self.server.kill()

    @abstractmethod
    def make(self) -> None:
        """Make the queue, if the first message does not."""

    @abstractmethod
    def send(self, numbers: range) -> None:
        """Send messages with these numbers, each once, in order, although the server may end meanwhile."""

    @abstractmethod
    def unacknowledged(self) -> int:
        """Messages that nobody has acknowledged."""


@dataclass
class Chaos:
    """What happens during a run.

    Attributes:
        messages: how many are sent.
        kills: how often the sensor is killed (SIGKILL).
        restarts: how often the broker is killed and started again.
        away: for how long (seconds) the API is away, once; the sensor is killed once more meanwhile.
        comings: how often a second replica comes or goes; it ends by itself and is killed in turns.
    """

    messages: int
    kills: int
    restarts: int = 1
    away: float = 0.0
    comings: int = 0


@dataclass
class Outcome:
    """What became of the messages."""

    sent: int
    events: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    kills: int = 0

    @property
    def numbers(self) -> dict[str, list[int]]:
        """Of each rule, the numbers of the messages in the order in which their events were stored."""
        found: dict[str, list[int]] = {}
        for event in self.events:
            found.setdefault(event["rule_name"], []).append(number_of(event["payload"]))
        return found


def number_of(payload: dict[str, Any]) -> int:
    """The number in the body of a message."""
    return int(payload["body"]["n"])


async def live_through(
    directory: Path,
    queue: ServerQueue[Any],
    *,
    module: str,
    ref: SensorRef,
    trigger_type: str,
    config: dict[str, Any],
    parameters: dict[str, Any],
    nats: NatsServer,
    chaos: Chaos,
    **variables: str,
) -> Outcome:
    """Start the API, the queue's server and its sensor, send messages and let things fail; returns what became of them.

    ``nats`` is Attune's own, which runs already. ``variables`` are more of the sensor's environment.
    """
    api = ApiProcess(directory / "api")
    await asyncio.to_thread(api.start)
    await asyncio.to_thread(queue.start)
    try:
        await asyncio.to_thread(queue.make)
        sensor, replica = (
            sensor_of(
                module,
                directory / name,
                api=api,
                nats=nats,
                config=config,
                ref=ref,
                trigger_type=trigger_type,
                **variables,
            )
            for name in ("sensor", "replica")
        )
        return await go_through(chaos, queue, sensor, replica, api, parameters=parameters)
    finally:
        await asyncio.to_thread(queue.server.stop)
        await asyncio.to_thread(api.stop)


async def go_through(
    chaos: Chaos,
    broker: ServerQueue[Any],
    sensor: SensorProcess,
    replica: SensorProcess,
    api: ApiProcess,
    *,
    parameters: dict[str, Any],
) -> Outcome:
    """Send messages while the sensor is killed, the broker is killed and the API is away; return when all is acknowledged.

    Everything runs already, except the sensor and its replica.
    """
    outcome = Outcome(sent=chaos.messages)
    stream = await sensor.stream()
    rules = [sensor.rule(number + 1, parameters) for number in range(RULES)]
    began = time.monotonic()
    sending: asyncio.Task[None] | None = None
    try:
        await sensor.start()
        await serve(stream, rules, within=60)
        stored = Stored(api, ahead=max(20, chaos.messages // 10))
        sending = asyncio.create_task(_send(chaos, broker, stored))
        faults = _faults(chaos, broker, sensor, api, stream, rules, outcome, stored) + _comings(chaos, replica, outcome)
        for share, fault in sorted(faults, key=lambda fault: fault[0]):
            await until(partial(stored.reached, share * chaos.messages * RULES), within=600, every=0.02)
            await fault()
        await sending
        await until(lambda: asyncio.to_thread(_all_acknowledged, broker), within=600, every=0.1)
        await drained(sensor, within=120)
        await drained(replica, within=120)
        outcome.seconds = time.monotonic() - began
        assert await sensor.stop() == 0
        if replica.runs:
            assert await replica.stop() == 0
        outcome.events = await stored_events(api)
    finally:
        if sending is not None:
            sending.cancel()
            await asyncio.wait({sending})
        await sensor.kill()
        await replica.kill()
        await stream.close()
    return outcome


def judge(outcome: Outcome, *, lanes: int = 1) -> None:
    """Each message is one event of each rule, in the order of sending: of those whose numbers modulo ``lanes`` are equal."""
    wanted = list(range(outcome.sent))
    assert len(outcome.numbers) == RULES
    for rule, numbers in outcome.numbers.items():
        lost = sorted(set(wanted) - set(numbers))
        doubled = sorted(number for number, times in Counter(numbers).items() if times > 1)
        assert (rule, lost[:20], doubled[:20]) == (rule, [], [])
        for lane in range(lanes):
            assert [number for number in numbers if number % lanes == lane] == wanted[lane::lanes]


class Stored:
    """About how many events the API has, and how many messages may be sent before they are stored."""

    def __init__(self, api: ApiProcess, *, ahead: int) -> None:
        self._api = api
        self.number = 0
        self.ahead = ahead

    async def reached(self, number: float) -> bool:
        """Whether it has so many, or had them before it went away."""
        with contextlib.suppress(httpx.HTTPError, KeyError):
            async with self._api.reader() as reader:
                self.number = max(self.number, await newest_seq(reader))
        return self.number >= number

    async def room(self, sent: int) -> bool:
        """Whether another message may be sent."""
        return await self.reached((sent - self.ahead) * RULES)


Fault = Callable[[], Awaitable[None]]


def _faults(
    chaos: Chaos,
    broker: ServerQueue[Any],
    sensor: SensorProcess,
    api: ApiProcess,
    stream: Any,
    rules: list[RuleState],
    outcome: Outcome,
    stored: Stored,
) -> list[tuple[float, Fault]]:
    """What fails, and when: at which share of the events."""

    async def kill() -> None:
        outcome.kills += 1
        await sensor.kill()
        await sensor.start()

    async def restart() -> None:
        await asyncio.to_thread(broker.kill)
        await stream.wait_ack(rules[0], AckState.FAILING, within=60)
        await asyncio.to_thread(broker.start)

    async def away() -> None:
        # A sensor that was killed a moment ago reads again: one that has to ask the API where to go on would wait for it.
        await stored.reached(0)
        await until(partial(stored.reached, stored.number + 1), within=60)
        await asyncio.to_thread(api.kill)
        stored.ahead *= 2  # so that something is read now, whatever was stored before
        await until(lambda: sensor.spooled() > 0, within=60)
        await kill()
        await asyncio.sleep(chaos.away)
        await asyncio.to_thread(api.start)

    faults: list[tuple[float, Fault]] = [((number + 1) / (chaos.kills + 1), kill) for number in range(chaos.kills)]
    faults += [((number + 0.6) / (chaos.restarts + 0.2), restart) for number in range(chaos.restarts)]
    faults.append((0.4, away))
    return faults


def _comings(chaos: Chaos, replica: SensorProcess, outcome: Outcome) -> list[tuple[float, Fault]]:
    """When the replica starts, ends by itself, starts and is killed, and so on."""

    async def start() -> None:
        await replica.start()
        await replica.ready(within=60)

    async def stop() -> None:
        assert await replica.stop() == 0

    async def kill() -> None:
        outcome.kills += 1
        await replica.kill()

    turns = (start, stop, start, kill)
    return [((number + 0.8) / (chaos.comings + 1), turns[number % len(turns)]) for number in range(chaos.comings)]


async def _send(chaos: Chaos, broker: ServerQueue[Any], stored: Stored) -> None:
    """Send, and keep ahead of what is stored, so that something is always under way."""
    step = max(5, stored.ahead // 10)
    for begin in range(0, chaos.messages, step):
        await until(partial(stored.room, begin), within=600)
        await asyncio.to_thread(broker.send, range(begin, min(begin + step, chaos.messages)))


def _all_acknowledged(broker: ServerQueue[Any]) -> bool:
    return broker.unacknowledged() == 0


def sensor_of(
    module: str, directory: Path, *, api: ApiProcess, nats: NatsServer, config: dict[str, Any], **given: Any
) -> SensorProcess:
    """The sensor's process, with its configuration in a file."""
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / "config.json"
    file.write_text(json.dumps(config))
    return SensorProcess(module, directory=directory, api=api, nats=nats, ATTUNE_CONFIG_FILE=str(file), **given)
