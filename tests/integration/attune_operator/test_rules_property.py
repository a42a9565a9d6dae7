"""Random changes of Rules, Sensors and namespaces, random faults: at rest, every sensor has exactly the rules it should.

The operator's Rule side and the SDK (reader, supervisor, acks) run as they are, against a real NATS server; what should be is
computed again, by a few lines that share nothing with the operator. Meanwhile the handler in each sensor checks that it
never runs what nobody wanted, never goes back, and stops nothing that nobody stopped (``support.system_model``).

What these tests and those of ``test_rules_system.py`` catch was tried by breaking the code, each time until the first failure;
where this test is not named, its ten examples did not happen upon the fault:

- the sensor's table takes an older generation (``_supersedes``): ``TestRepeatedAndReordered.test_rule_messages``;
- no tombstone on the old subject when a binding moves (``projection.plan``): this test, and
  ``test_nats_is_killed_and_comes_back``;
- an ack of another generation counts (``active_verdict``): ``test_somebody_takes_the_stream_away``;
- the operator buries before it has listed anything (``first_list``, ``_may_touch``):
  ``test_fifty_operators_killed_between_kubernetes_and_the_stream``;
- the operator decides before it has listed anything (``first_list``):
  ``test_what_is_known_only_in_part_moves_no_rule_and_judges_none``;
- the sensor's table forgets what a tombstone overtook (``_buried``): ``test_state_that_a_tombstone_overtook_starts_no_rule``;
- the operator buries what it saw only after its latest list (``_may_touch``): ``test_two_operators_of_which_one_is_deaf``.
"""

import asyncio
import contextlib
import gc
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
from support.system_model import SystemModel

from attune_contract import subjects
from attune_contract.messages import AckState
from attune_kit.nats.connection import NatsEndpoint, open_connection
from attune_operator.runtime.client import WatchEventType

pytestmark = [
    pytest.mark.nats,
    pytest.mark.timeout(600),
    # Sensors and operators are ended in the middle of connecting, where nobody has the socket yet.
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning", "ignore:loop is closed:ResourceWarning"),
]

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
        self.model = SystemModel(self.cluster, self.server.url, *SENSORS)
        self.rng = random.Random(0)
        self.told: list[tuple[WatchEventType, Object]] = []
        self.cluster.onlookers.append(self._tell)

    def _tell(self, kind: WatchEventType, item: Object) -> None:
        if "trigger" in item["spec"]:
            self.told.append((kind, item))

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
        self.run_async(self._start_sensors())

    async def _start_sensors(self) -> None:
        self.model.start()

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
        if not seen:
            self.model.reference.seen_at_once = False

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
        self.model.ready(self.side)

    @rule(ref=st.sampled_from(SENSORS))
    def a_sensor_is_killed_and_started_anew(self, ref: str) -> None:
        self.run_async(self.model.restart_sensor(ref))

    @precondition(lambda self: self.side is not None)
    @rule(place=st.integers(0, 1000))
    def an_old_watch_event_comes_again(self, place: int) -> None:
        self.run_async(self._observe(*self.told[place % len(self.told)]))

    async def _observe(self, kind: WatchEventType, item: Object) -> None:
        assert self.side is not None
        self.side.controller.observe_rule(kind, item)

    @precondition(lambda self: self.up)
    @rule(how_old=st.integers(1, 3), state=st.sampled_from((AckState.ACTIVE, AckState.REJECTED, AckState.STOPPED)))
    def old_acks_come_again(self, how_old: int, state: AckState) -> None:
        self.run_async(self._old_acks(how_old, state))

    async def _old_acks(self, how_old: int, state: AckState) -> None:
        stream = Stream(self.server.url)
        with contextlib.suppress(Exception):  # the streams may not be there
            for ref, sensor in self.model.sensors.items():
                for uid, (generation, _) in list(sensor.known().items())[:2]:
                    await stream.ack(ref, uid, generation - how_old, state, "an old word")

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
            gc.collect()  # where the warnings of what was ended in the middle of connecting are still let pass
            self.server.stop()
            shutil.rmtree(self.directory, ignore_errors=True)

    async def _agrees(self) -> None:
        assert self.side is not None
        self.model.ready(self.side)  # of a Sensor that was deleted and made again, it knows no pods yet
        for sensor in self.model.sensors.values():
            sensor.repeat_acks()
        await self.model.agrees()

    async def _stop(self) -> None:
        if self.side is not None:
            await self.side.stop()
        await self.model.stop()


TestFaults = Faults.TestCase
TestFaults.settings = settings(
    max_examples=10,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],  # an example takes a second, and making it smaller hundreds of them
    print_blob=True,
)
