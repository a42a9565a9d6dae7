"""A timer sensor's process is stopped (SIGSTOP) for a while, and rules change meanwhile: seconds in a test, or a minute."""

import asyncio
import random
import signal
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from support.eventually import until
from support.nats_server import NatsServer
from support.rule_cluster import MemoryCluster
from support.rule_side import RuleSideUnderTest, rule_side
from support.scripted_api import ScriptedApi
from support.timer_process import timer_environment, timer_process

from attune_contract.identity import SensorRef

REF = SensorRef("attune-system", "core.timer")
NUMBER = 30
#: So many occurrences are due at any moment that one of them would fire before the first word of a change is heard.
INTERVALS = [0.1 + number / 1000 for number in range(NUMBER + 10)]


@dataclass
class Outcome:
    """What came of it.

    ``wrong`` are events of rules that had been switched off, changed or deleted when they occurred; ``premature`` are Rules that
    claimed to be active in a form that the sensor could not know yet.
    """

    changes: int
    events: int
    wrong: list[str]
    premature: list[str]
    caught_up: float
    log: str


async def go_through(directory: Path, *, nats: NatsServer, seconds: float) -> Outcome:
    """Stop the sensor for ``seconds``, change rules all the time, let it go on, and wait until all sides agree."""
    cluster = MemoryCluster()
    cluster.namespace("attune-system")
    cluster.namespace("default")
    cluster.sensor("attune-system", "core.timer", "core.intervaltimer", rules={"namespaces": {"from": "All"}})
    for number in range(NUMBER):
        cluster.rule("default", f"r{number}", interval=INTERVALS[number])
    over: dict[str, datetime] = {}  # rules by uid that may not fire since then
    rng = random.Random(1)
    log = directory / "sensor.log"
    api = ScriptedApi()
    await api.start()
    environment = timer_environment(REF, nats_url=nats.url, api_url=api.url, directory=directory)
    try:
        async with rule_side(cluster, nats.url) as side, timer_process(environment, log) as sensor:
            side.ready(str(REF))
            await until(lambda: _agree(cluster), within=60)
            await api.wait_for(lambda: len({event["rule_uid"] for event in api.events}) == NUMBER, within=30)
            sensor.send_signal(signal.SIGSTOP)
            premature, changes = await _change_for(seconds, cluster, side, over, rng)
            assert _state(sensor.pid) == "T", "somebody let the sensor go on"
            sensor.send_signal(signal.SIGCONT)
            began = asyncio.get_running_loop().time()
            await until(lambda: _agree(cluster), within=90)
            caught_up = asyncio.get_running_loop().time() - began
            live = {rule["metadata"]["uid"] for rule in cluster.all("Rule") if rule["spec"]["enabled"]}
            marks = len(api.events)
            await api.wait_for(lambda: {event["rule_uid"] for event in api.events[marks:]} >= live, within=30)
    finally:
        await api.stop()
    wrong = [
        f"{event['rule_name']} at {event['occurred_at']}, over since {over[event['rule_uid']]}"
        for event in api.events
        if event["rule_uid"] in over and datetime.fromisoformat(event["occurred_at"]) > over[event["rule_uid"]]
    ]
    return Outcome(changes, len(api.events), wrong, premature, caught_up, log.read_text())


def _state(pid: int) -> str:
    """The process's state, T when it is stopped (proc(5))."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


async def _change_for(
    seconds: float, cluster: MemoryCluster, side: RuleSideUnderTest, over: dict[str, datetime], rng: random.Random
) -> tuple[list[str], int]:
    """Switch off, delete, change and make rules; none of them may claim to be active in its new form."""
    loop = asyncio.get_running_loop()
    await asyncio.sleep(0.2)  # what was on its way when the signal came
    ends, changes, changed, premature = loop.time() + seconds, 0, set[str](), list[str]()
    while loop.time() < ends:
        number = rng.randrange(NUMBER + 10)
        name = f"r{number}"
        key = ("Rule", "default", name)
        uid = cluster.objects[key]["metadata"]["uid"] if key in cluster.objects else ""
        match rng.randrange(3) if uid else 2:
            case 0:
                cluster.rule("default", name, enabled=False, interval=INTERVALS[number])
                over.setdefault(uid, datetime.now(UTC))
            case 1:
                cluster.delete(*key)
                over.setdefault(uid, datetime.now(UTC))
            case _:
                cluster.rule("default", name, interval=rng.choice((0.25, 0.75, 1)))
                over.pop(uid, None)
        changed.add(name)
        changes += 1
        await asyncio.sleep(seconds / 60)
        for name in changed:
            if ("Rule", "default", name) in cluster.objects and _active(cluster.get("Rule", "default", name)):
                premature.append(name)
    assert side.controller.summary(REF).synced is True
    return premature, changes


def _active(rule: dict[str, Any]) -> bool:
    """Whether a Rule is said to be active as it is now."""
    conditions = {each["type"]: each for each in rule.get("status", {}).get("conditions", ())}
    active = conditions.get("Active", {})
    return bool(active.get("status") == "True" and active["observedGeneration"] == rule["metadata"]["generation"])


def _agree(cluster: MemoryCluster) -> bool:
    """Whether the sensor has said of each Rule, as it is now, that it runs it, or that it does not."""
    for rule in cluster.all("Rule"):
        conditions = {each["type"]: each for each in rule.get("status", {}).get("conditions", ())}
        active = conditions.get("Active", {})
        wanted = ("True", "Active") if rule["spec"]["enabled"] else ("False", "Disabled")
        if (active.get("status"), active.get("reason")) != wanted:
            return False
        if active["observedGeneration"] != rule["metadata"]["generation"]:
            return False
    return True


def judge(outcome: Outcome) -> None:
    """What must hold."""
    assert outcome.wrong == []
    assert outcome.premature == []
    assert "clock_was_suspended" in outcome.log
    assert outcome.changes > 20
