"""The API goes away under load and comes back; meanwhile the sensor is killed. For an integration test and for a soak."""

import asyncio
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from support.api_process import ADMIN_TOKEN, ApiProcess
from support.eventually import until
from support.nats_server import NatsServer
from support.rule_stream import SENSOR, RuleStream, rule_state
from support.sensor_process import SensorProcess, newest_event, newest_seq

#: Rules, and events of each in a second: 200 together.
RULES = 50
RATE = 4


class TimerProcess(SensorProcess):
    """The timer sensor as a process, with its spool, against the real API."""

    def __init__(self, directory: Path, *, api: ApiProcess, nats: NatsServer, **variables: str) -> None:
        super().__init__(
            "attune_timer",
            directory=directory,
            ref=SENSOR,
            trigger_type="core.intervaltimer",
            api=api,
            nats=nats,
            **variables,
        )


@dataclass
class Outcome:
    """What the API has at the end: numbers k of each rule's events in the order in which they were stored."""

    catching_up: dict[str, list[int]] = field(default_factory=dict)
    skipping: dict[str, list[int]] = field(default_factory=dict)
    killed_at: int = 0  #: microseconds
    served_at: int = 0
    events: int = 0


def k_at(moment: int) -> int:
    """The number of the last occurrence not later than this moment (microseconds)."""
    anchor = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000
    return (moment - anchor) * RATE // 1_000_000


async def go_through(directory: Path, *, nats: NatsServer, seconds: float) -> Outcome:
    """Run the sensor with the API away for so many seconds, and killed in the middle of them."""
    stream = RuleStream(nats.url)
    await stream.connect()
    await stream.make_streams()
    states = [
        rule_state(
            number, parameters={"interval": 1 / RATE, **({"missed": "all", "maxMissed": 10_000} if number % 2 else {})}
        )
        for number in range(RULES)
    ]
    await stream.put_many(states)
    api = ApiProcess(directory / "api")
    await asyncio.to_thread(api.start)
    timer = TimerProcess(directory, api=api, nats=nats)
    outcome = Outcome()
    try:
        await timer.start()
        async with api.client(ADMIN_TOKEN) as reader:

            async def steady() -> bool:
                return await newest_seq(reader) >= 3 * RULES

            await until(steady, within=30)
            await asyncio.to_thread(api.kill)
            away = time.monotonic()

            async def half_over() -> bool:
                return time.monotonic() - away > seconds / 2 and timer.spooled() > 0

            await until(half_over, within=seconds / 2 + 20)
            outcome.killed_at = time.time_ns() // 1000
            await timer.kill()
            await timer.start()

            async def over() -> bool:
                return time.monotonic() - away > seconds and bool(timer.logged("api_unavailable"))

            await until(over, within=seconds / 2 + 30)
            began = datetime.fromisoformat(timer.logged("sensor_starting")[-1]["timestamp"])
            outcome.served_at = int(began.timestamp() * 1e6)
            await asyncio.to_thread(api.start)
            back = datetime.now(UTC)

            async def caught_up() -> bool:
                newest = await newest_event(reader)
                late = newest is not None and datetime.fromisoformat(newest["occurred_at"]) > back
                return late and timer.spooled() == 0

            await until(caught_up, within=60 + seconds / 5)
            assert await timer.stop() == 0
            await read(reader, outcome)
    finally:
        await timer.kill()
        await asyncio.to_thread(api.stop)
        await stream.close()
    return outcome


async def read(reader: Any, outcome: Outcome) -> None:
    """Everything that is stored, in its order."""
    query: dict[str, Any] = {"order": "asc", "limit": 1000}
    while True:
        page = (await reader.get("/api/v1/events", params=query)).json()
        for event in page["data"]:
            number = int(event["rule_name"].removeprefix("rule-"))
            kept = outcome.catching_up if number % 2 else outcome.skipping
            kept.setdefault(event["rule_name"], []).append(event["payload"]["k"])
            outcome.events += 1
        if page["next_cursor"] is None:
            return
        query["cursor"] = page["next_cursor"]


def judge(outcome: Outcome) -> None:
    """Everything once, in order per rule, and nothing missing but what fell due while no process ran and the rule says skip."""
    assert len(outcome.catching_up) + len(outcome.skipping) == RULES
    for name, ks in outcome.catching_up.items():
        assert ks == list(range(ks[0], ks[-1] + 1)), f"{name} is not complete, once each and in order"
    down = range(k_at(outcome.killed_at - 1_500_000), k_at(outcome.served_at + 10_000_000))
    for name, ks in outcome.skipping.items():
        assert ks == sorted(set(ks)), f"{name} is not in order, or some are there twice"
        missing = set(range(ks[0], ks[-1] + 1)) - set(ks)
        assert missing <= set(down), f"{name} lacks what was fired: {sorted(missing - set(down))}"
