"""Random changes of Rules, Sensors and namespaces, random faults: at rest, every sensor has exactly the rules it should.

The operator's Rule side and the SDK's rule reader run as they are, against a real NATS server; what should be is worked out
anew here, by a few lines that have nothing in common with the operator's.
"""

import asyncio
import contextlib
import random
import shutil
import tempfile
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from support.nats_server import NatsServer
from support.rule_cluster import MemoryCluster, Object
from support.rule_side import RuleSideUnderTest, Stream
from support.sensor_reader import SensorReader
from support.until import until

from attune_contract import subjects
from attune_operator.streams.connection import NatsEndpoint, open_connection

pytestmark = pytest.mark.nats

NAMESPACES = ("one", "two", "three")
SENSORS = ("one/alpha", "two/beta.x", "three/gamma")
TYPES = ("core.timer", "core.cron", "web.hook")
POLICIES: tuple[dict[str, Any], ...] = (
    {"from": "Same"},
    {"from": "All"},
    {"from": "Selector", "selector": {"matchLabels": {"team": "blue"}}},
    {"from": "Selector", "selector": {"matchExpressions": [{"key": "team", "operator": "NotIn", "values": ["red"]}]}},
)
_Result = TypeVar("_Result")

#: What is changed, where, to which of several contents, and one more choice.
Change = tuple[str, int, int, bool]
CHANGES = st.tuples(
    st.sampled_from(("rule", "rule", "rule", "delete rule", "sensor", "delete sensor", "label")),
    st.integers(0, 2),
    st.integers(0, 11),
    st.booleans(),
)


def should_have(cluster: MemoryCluster) -> dict[str, dict[str, tuple[int, bool]]]:
    """Which sensor should run which rules: ref → uid → generation, enabled."""
    wanted: dict[str, dict[str, tuple[int, bool]]] = {ref: {} for ref in SENSORS}
    for item in cluster.all("Rule"):
        namespace, asked = item["metadata"]["namespace"], item["spec"]["trigger"]["type"]
        takers = [
            sensor
            for sensor in cluster.all("Sensor")
            if any(asked in (t["name"], *t.get("aliases", ())) for t in sensor["spec"]["triggerTypes"])
            and _takes(cluster, sensor, namespace)
        ]
        if takers:
            takers.sort(key=lambda s: (s["metadata"]["namespace"] != namespace, s["metadata"]["creationTimestamp"]))
            meta = takers[0]["metadata"]
            wanted[f"{meta['namespace']}/{meta['name']}"][item["metadata"]["uid"]] = (
                item["metadata"]["generation"],
                item["spec"]["enabled"],
            )
    return wanted


def _takes(cluster: MemoryCluster, sensor: Object, namespace: str) -> bool:
    policy = sensor["spec"]["rules"]["namespaces"]
    if policy["from"] == "Same":
        return bool(sensor["metadata"]["namespace"] == namespace)
    if policy["from"] == "All":
        return True
    team = cluster.get("Namespace", "", namespace)["metadata"]["labels"].get("team")
    return bool(team == "blue") if "matchLabels" in policy["selector"] else bool(team != "red")


class Faults(RuleBasedStateMachine):
    """Hypothesis drives it; the operator works between the steps, as long as each lets it."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="rules-property-"))
        self.runner = asyncio.Runner()
        self.server = NatsServer(self.directory)
        self.server.start()
        self.up = True
        self.cluster = MemoryCluster()
        self.side: RuleSideUnderTest | None = None
        self.readers = {ref: SensorReader(ref, self.server.url) for ref in SENSORS}
        self.rng = random.Random(0)

    def run_async(self, work: Awaitable[_Result]) -> _Result:
        async def wrapped() -> _Result:
            return await work

        return self.runner.run(wrapped())

    def let_work(self, seconds: float) -> None:
        self.run_async(asyncio.sleep(seconds))

    @initialize()
    def begin(self) -> None:
        for place, name in enumerate(NAMESPACES):
            self.cluster.namespace(name, team="blue")
            self.apply("sensor", place, place + 1, False)
            for choice in range(4):
                self.apply("rule", place, choice, choice != 2)
        self.operator_starts()
        self.run_async(self._start_readers())

    async def _start_readers(self) -> None:
        for reader in self.readers.values():
            reader.start()

    # -- what users do

    @rule(changes=st.lists(CHANGES, min_size=1, max_size=6), pause=st.sampled_from((0.0, 0.002, 0.02)))
    def users_change_things(self, changes: list[Change], pause: float) -> None:
        async def inside() -> None:
            for change in changes:
                self.apply(*change)
                await asyncio.sleep(pause)

        self.run_async(inside())

    def apply(self, kind: str, place: int, choice: int, flag: bool) -> None:
        """One change; the numbers choose among what there is."""
        namespace = NAMESPACES[place % len(NAMESPACES)]
        ref = SENSORS[place % len(SENSORS)].split("/")
        match kind:
            case "rule":
                name = "abcd"[choice % 4]
                self.cluster.rule(namespace, name, TYPES[choice % 3], enabled=flag, value=choice)
            case "delete rule":
                keys = sorted(key for key in self.cluster.objects if key[0] == "Rule")
                if keys:
                    self.cluster.delete(*keys[choice % len(keys)])
            case "sensor":
                types = [TYPES[choice % 3], TYPES[(choice + 1) % 3]]
                declared: list[Object] = [{"name": name} for name in types]
                if flag:
                    declared = [{"name": "core.canonical", "aliases": types}]
                policy = POLICIES[choice % len(POLICIES)]
                self.cluster.sensor(*ref, *declared, rules={"namespaces": policy}, paused=choice % 5 == 0)
            case "delete sensor":
                if ("Sensor", *ref) in self.cluster.objects:
                    self.cluster.delete("Sensor", *ref)
            case _:
                self.cluster.namespace(namespace, team="blue" if flag else "red")

    # -- what goes wrong

    @rule(seen=st.booleans())
    def watch_events_are_lost_or_come_again(self, seen: bool) -> None:
        if self.side is not None:
            self.side.sees_events = seen

    @rule(reachable=st.booleans())
    def kubernetes_is_away_or_back(self, reachable: bool) -> None:
        self.cluster.reachable = reachable

    @precondition(lambda self: self.up)
    @rule(wipe=st.booleans())
    def nats_dies(self, wipe: bool) -> None:
        self.up = False
        if wipe:
            self.server.wipe()
        else:
            self.server.kill()
        self.let_work(0.02)

    @precondition(lambda self: not self.up)
    @rule()
    def nats_comes_back(self) -> None:
        self.server.start()
        self.up = True
        self.let_work(0.05)

    @precondition(lambda self: self.up)
    @rule(how=st.sampled_from(("delete", "purge", "rubbish")))
    def somebody_spoils_the_stream(self, how: str) -> None:
        self.run_async(self._spoil(how))

    async def _spoil(self, how: str) -> None:
        with contextlib.suppress(Exception):
            async with open_connection(NatsEndpoint(url=self.server.url)) as connection:
                match how:
                    case "delete":
                        await connection.jetstream.delete_stream(subjects.RULES_STREAM)
                    case "purge":
                        await connection.jetstream.purge_stream(subjects.RULES_STREAM)
                    case _:
                        info = await connection.jetstream.stream_info(subjects.RULES_STREAM, subjects_filter=">")
                        for subject in info.state.subjects or {}:
                            await connection.jetstream.publish(subject, b"{rubbish")

    @precondition(lambda self: self.side is not None)
    @rule()
    def operator_is_killed(self) -> None:
        assert self.side is not None
        self.run_async(self.side.stop())
        self.side = None

    @precondition(lambda self: self.side is None)
    @rule()
    def operator_starts(self) -> None:
        self.run_async(self._start_operator())

    async def _start_operator(self) -> None:
        self.side = RuleSideUnderTest(
            self.cluster, self.server.url, sweep_interval=0.5, check_interval=0.2, seed=self.rng.randrange(1000)
        )
        self.side.start()

    @rule(seconds=st.sampled_from((0.01, 0.1, 0.5)))
    def time_passes(self, seconds: float) -> None:
        self.let_work(seconds)

    # -- at rest

    def teardown(self) -> None:
        try:
            self.cluster.reachable = True
            if not self.up:
                self.nats_comes_back()
            if self.side is None:
                self.operator_starts()
            assert self.side is not None
            self.side.sees_events = True
            self.run_async(self._agrees())
        finally:
            self.run_async(self._stop())
            self.runner.close()
            self.server.stop()
            shutil.rmtree(self.directory, ignore_errors=True)

    async def _agrees(self) -> None:
        wanted = should_have(self.cluster)

        def read() -> dict[str, dict[str, tuple[int, bool]]]:
            return {ref: reader.state() for ref, reader in self.readers.items()}

        with contextlib.suppress(TimeoutError):
            await until(lambda: read() == wanted, within=20)
        assert read() == wanted
        assert self.side is not None
        served = {uid: ref for ref, uids in wanted.items() for uid in uids}

        def shown() -> dict[str, str | None]:
            return {item["metadata"]["uid"]: item.get("status", {}).get("sensor") for item in self.cluster.all("Rule")}

        expected = {item["metadata"]["uid"]: served.get(item["metadata"]["uid"]) for item in self.cluster.all("Rule")}
        with contextlib.suppress(TimeoutError):
            await until(lambda: shown() == expected, within=10)
        assert shown() == expected

        async def live(stream: Stream) -> set[str]:
            return {state.uid for state in (await stream.states()).values()}

        await Stream(self.server.url).shows(live, set(served), within=20)

    async def _stop(self) -> None:
        if self.side is not None:
            await self.side.stop()
        for reader in self.readers.values():
            await reader.stop()


TestFaults = Faults.TestCase
TestFaults.settings = settings(
    max_examples=12,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],  # an example takes a second, and making it smaller hundreds of them
    print_blob=True,
)
