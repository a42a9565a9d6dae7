"""Kubernetes in memory, operators, a real NATS server, and sensors as the SDK runs them; and a check of what must never happen.

The rules that a sensor runs are judged while they run, not only at the end: a sensor may be late, as long as a fault lasts, but
it must never run what nobody wanted, go back to an older generation, or stop what nobody stopped.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import structlog
from support.eventually import until
from support.rule_cluster import MemoryCluster, Object
from support.rule_side import RuleSideUnderTest, Stream

from attune_contract import subjects
from attune_contract.identity import SensorRef
from attune_kit.nats.connection import NatsEndpoint
from attune_kit.nats.connector import NatsConnector
from attune_kit.supervisor import end
from attune_operator.runtime.client import WatchEventType
from attune_sensor._acks import AckPublisher
from attune_sensor._metrics import Metrics
from attune_sensor._rule_reader import RuleReader
from attune_sensor._rule_supervisor import RuleSupervisor
from attune_sensor._rule_table import RuleChange, RuleTable
from attune_sensor._rules import Rule

#: uid → generation, enabled.
Rules = dict[str, tuple[int, bool]]


def should_have(cluster: MemoryCluster) -> dict[str, Rules]:
    """Which sensor should know which rules now, by ref. It has nothing in common with the operator's way to find out."""
    sensors = cluster.all("Sensor")
    wanted: dict[str, Rules] = {_ref(sensor): {} for sensor in sensors}
    for item in cluster.all("Rule"):
        namespace, asked = item["metadata"]["namespace"], item["spec"]["trigger"]["type"]
        takers = [sensor for sensor in sensors if _offers(sensor, asked) and _takes(cluster, sensor, namespace)]
        if takers:
            takers.sort(key=lambda s: (s["metadata"]["namespace"] != namespace, s["metadata"]["creationTimestamp"]))
            wanted[_ref(takers[0])][item["metadata"]["uid"]] = (item["metadata"]["generation"], item["spec"]["enabled"])
    return wanted


def _offers(sensor: Object, asked: str) -> bool:
    return any(asked in (t["name"], *t.get("aliases", ())) for t in sensor["spec"]["triggerTypes"])


def _ref(sensor: Object) -> str:
    return f"{sensor['metadata']['namespace']}/{sensor['metadata']['name']}"


def _takes(cluster: MemoryCluster, sensor: Object, namespace: str) -> bool:
    policy = sensor["spec"]["rules"]["namespaces"]
    if policy["from"] == "Same":
        return bool(sensor["metadata"]["namespace"] == namespace)
    if policy["from"] == "All":
        return True
    team = cluster.get("Namespace", "", namespace)["metadata"]["labels"].get("team")
    return bool(team == "blue") if "matchLabels" in policy["selector"] else bool(team != "red")


class ReferenceModel:
    """What Kubernetes ever wanted of each sensor, change by change."""

    def __init__(self, cluster: MemoryCluster) -> None:
        self._cluster = cluster
        self.seen_at_once = True
        """Whether the operator sees what changes in the order in which it does. When watch events are lost it does not: it may
        combine a Rule of now with a Sensor of before, and give the Rule for a moment to one that merely would have taken it.
        """
        self._enabled: set[tuple[str, int]] = set()
        self._asked: dict[tuple[str, int], tuple[str, str]] = {}
        self._could: set[tuple[str, str, str]] = set()
        self._wanted: dict[str, set[tuple[str, int]]] = {}
        self._parameters: dict[tuple[str, int], Any] = {}
        self._born: dict[tuple[str, int], int] = {}
        self._latest: dict[str, tuple[int, bool]] = {}
        self._not_here: dict[tuple[str, str], int] = {}
        self._now = 0
        self._ran: set[tuple[str, str, int]] = set()
        self.wrong: list[str] = []
        cluster.onlookers.append(self._changed)
        self._changed(None, {})

    def ran(self, ref: str, rule: Rule) -> None:
        """A sensor runs the rule."""
        self._ran.add((ref, rule.uid, rule.generation))

    def _changed(self, _kind: WatchEventType, item: Object) -> None:
        self._now += 1
        if "trigger" in item.get("spec", ()):
            self._judge_status(item)
        for item in self._cluster.all("Rule"):
            key = (item["metadata"]["uid"], item["metadata"]["generation"])
            self._born.setdefault(key, self._now)
            self._parameters[key] = item["spec"]["trigger"]["parameters"]
            self._asked[key] = (item["spec"]["trigger"]["type"], item["metadata"]["namespace"])
            if item["spec"]["enabled"]:
                self._enabled.add(key)
            self._could.update(
                (_ref(sensor), *self._asked[key])
                for sensor in self._cluster.all("Sensor")
                if _offers(sensor, self._asked[key][0]) and _takes(self._cluster, sensor, self._asked[key][1])
            )
            self._latest[key[0]] = (key[1], item["spec"]["enabled"])
        wanted = should_have(self._cluster)
        for ref, rules in wanted.items():
            self._wanted.setdefault(ref, set()).update(
                (uid, generation) for uid, (generation, on) in rules.items() if on
            )
        for ref in self._wanted:
            for uid in self._latest:
                if uid not in wanted.get(ref, {}):
                    self._not_here[ref, uid] = self._now

    def _judge_status(self, item: Object) -> None:
        """Active is said of a generation only after its sensor ran it."""
        generation, ref, _, active = _said(item)
        key = (str(ref), item["metadata"]["uid"], generation)
        if active == "True" and key not in self._ran:
            self.wrong.append(f"{key} is said to be active, and never was")

    def ever_wanted(self, ref: str, rule: Rule) -> bool:
        """Whether this sensor was ever to run the rule like this."""
        key = (rule.uid, rule.generation)
        if key not in self._parameters or self._parameters[key] != rule.parameters:
            return False
        if key in self._wanted.get(ref, ()):
            return True
        return not self.seen_at_once and key in self._enabled and (ref, *self._asked[key]) in self._could

    def may_stop(self, ref: str, rule: Rule) -> bool:
        """Whether, since the rule was as it runs, it was to stop here: deleted, changed, disabled, or served elsewhere."""
        generation, enabled = self._latest[rule.uid]
        born = self._born[rule.uid, rule.generation]
        gone_since = self._not_here.get((ref, rule.uid), -1) >= born
        # One that was given away for a moment (see ``seen_at_once``) stops, too.
        return gone_since or generation > rule.generation or not enabled or not self.seen_at_once


class CheckingHandler:
    """What runs in one sensor, and what was wrong about it (a ``RuleHandler``)."""

    def __init__(self, ref: str, reference: ReferenceModel) -> None:
        self._ref = ref
        self._reference = reference
        self._highest: dict[str, int] = {}
        self.running: dict[str, Rule] = {}
        self.wrong: list[str] = []

    def see(self, changes: list[RuleChange]) -> None:
        """What the reader tells, before it is acted upon."""
        for change in changes:
            if change.new is not None:
                self._newer(change.uid, change.new.generation)

    def _newer(self, uid: str, generation: int) -> None:
        if generation < self._highest.get(uid, 0):
            self.wrong.append(f"{self._ref}: {uid} went back from {self._highest[uid]} to {generation}")
        self._highest[uid] = max(generation, self._highest.get(uid, 0))

    async def start(self, rule: Rule) -> None:
        if not self._reference.ever_wanted(self._ref, rule):
            self.wrong.append(f"{self._ref} runs {rule.uid} as nobody ever wanted it: {rule}")
        self.running[rule.uid] = rule
        self._reference.ran(self._ref, rule)

    async def update(self, old: Rule, new: Rule) -> None:
        await self.start(new)

    async def stop(self, rule: Rule) -> None:
        if not self._reference.may_stop(self._ref, rule):
            self.wrong.append(f"{self._ref} stopped {rule.uid} at {rule.generation}, which nobody had stopped")
        self.running.pop(rule.uid, None)

    async def close(self) -> None:
        self.running.clear()


class SensorUnderTest:
    """One sensor: the SDK's reader, supervisor and acks around a handler that checks what it is asked to run."""

    def __init__(self, ref: str, url: str, reference: ReferenceModel, *, resync_seconds: float = 1.0) -> None:
        self.ref = ref
        self.table = RuleTable()
        self.handler = CheckingHandler(ref, reference)
        self._parts = self._build(SensorRef.parse(ref), url, resync_seconds)
        self._tasks: list[asyncio.Task[None]] = []

    def _build(self, ref: SensorRef, url: str, resync_seconds: float) -> list[Any]:
        metrics, log = Metrics(), structlog.get_logger()
        connector = NatsConnector(NatsEndpoint(url=url, name=str(ref), inbox_prefix=ref.inbox_prefix))
        acks = AckPublisher(
            connector=connector, prefix=subjects.acks_prefix(ref), instance="pod-1", metrics=metrics, log=log
        )
        supervisor = RuleSupervisor(
            handler=self.handler, acks=acks, trigger_types=[*_ANY_TYPE], metrics=metrics, log=log
        )

        def changed(changes: list[RuleChange]) -> None:
            self.handler.see(changes)
            supervisor.apply(changes)

        reader = RuleReader(
            connector=connector,
            filter_subject=subjects.rules_filter(ref),
            table=self.table,
            on_changes=changed,
            on_snapshot=acks.repeat,
            metrics=metrics,
            log=log,
            resync_seconds=resync_seconds,
            heartbeat_seconds=0.3,
            absence_seconds=2.0,
        )
        self._acks = acks
        return [connector, reader, acks, supervisor]

    def start(self) -> None:
        self._tasks = [asyncio.create_task(part.run()) for part in self._parts]

    async def stop(self) -> None:
        await end(*reversed(self._tasks), patience=0.5)

    def repeat_acks(self) -> None:
        """Say everything again, as after each snapshot."""
        self._acks.repeat()

    def known(self) -> Rules:
        return {rule.uid: (rule.generation, rule.state.enabled) for rule in self.table}

    def running(self) -> Rules:
        return {rule.uid: (rule.generation, True) for rule in self.handler.running.values()}


#: What the tests' sensors may offer.
_ANY_TYPE = ("core.timer", "core.cron", "web.hook", "core.canonical", "core.other")


class SystemModel:
    """All sides of one test."""

    def __init__(self, cluster: MemoryCluster, url: str, *refs: str) -> None:
        self.cluster = cluster
        self.url = url
        self.reference = ReferenceModel(cluster)
        self.sensors = {ref: SensorUnderTest(ref, url, self.reference) for ref in refs}
        self._ended: list[CheckingHandler] = []

    def start(self) -> None:
        for sensor in self.sensors.values():
            sensor.start()

    async def stop(self) -> None:
        for sensor in self.sensors.values():
            await sensor.stop()

    async def restart_sensor(self, ref: str) -> None:
        """End a sensor, and start one that knows nothing."""
        await self.sensors[ref].stop()
        self._ended.append(self.sensors[ref].handler)
        self.sensors[ref] = SensorUnderTest(ref, self.url, self.reference)
        self.sensors[ref].start()

    def ready(self, side: RuleSideUnderTest) -> None:
        """Tell an operator that all sensors' pods are ready."""
        for ref in self.sensors:
            side.ready(ref)

    def differences(self) -> dict[str, Any]:
        """Where the sensors and Kubernetes do not say the same; empty when they do."""
        wanted: dict[str, Rules] = {ref: {} for ref in self.sensors} | should_have(self.cluster)
        found: dict[str, Any] = {}
        for ref, sensor in self.sensors.items():
            if sensor.known() != wanted[ref]:
                found[f"known to {ref}"] = (sensor.known(), wanted[ref])
            enabled = {uid: state for uid, state in wanted[ref].items() if state[1]}
            if sensor.running() != enabled:
                found[f"running in {ref}"] = (sensor.running(), enabled)
        served = {uid: (ref, state) for ref, rules in wanted.items() for uid, state in rules.items()}
        for item in self.cluster.all("Rule"):
            uid, name = item["metadata"]["uid"], f"{item['metadata']['namespace']}/{item['metadata']['name']}"
            said = _said(item)
            if said != (expected := self._expected(item, *served.get(uid, (None, (0, False))))):
                found[f"status of {name}"] = (said, expected)
        return found

    def _expected(self, item: Object, ref: str | None, state: tuple[int, bool]) -> tuple[Any, ...]:
        generation = item["metadata"]["generation"]
        if ref is None:
            return (generation, None, "False", "False")
        paused = self.cluster.get("Sensor", *ref.split("/"))["spec"].get("paused", False)
        return (generation, ref, "True", str(state[1] and not paused))

    async def agrees(self, *, within: float = 60.0) -> None:
        """Wait until all sides say the same: Kubernetes' Rules and statuses, the stream, and every sensor; and nothing that a
        sensor did on the way there was wrong.
        """
        with contextlib.suppress(AssertionError):
            await until(lambda: not self.differences(), within=within)
        self._same()
        wanted = {
            subjects.rule_subject(SensorRef.parse(ref), uid): state
            for ref, rules in should_have(self.cluster).items()
            for uid, state in rules.items()
        }
        await Stream(self.url).shows(_on_stream, wanted, within=within)
        self._same()
        self.nothing_was_wrong()

    def _same(self) -> None:
        found = self.differences()
        assert not found, "\n".join(
            f"{what}: {is_!r}, and should be {should!r}" for what, (is_, should) in found.items()
        )

    def nothing_was_wrong(self) -> None:
        """No sensor did what it must not, and no status claimed what was not so."""
        handlers = [*self._ended, *(sensor.handler for sensor in self.sensors.values())]
        wrong = [*self.reference.wrong, *(wrong for handler in handlers for wrong in handler.wrong)]
        assert not wrong, "\n".join(wrong)


def _said(item: Object) -> tuple[Any, ...]:
    """What a Rule's status says: of which generation, served by whom, accepted, active."""
    status = item.get("status", {})
    conditions = {condition["type"]: condition for condition in status.get("conditions", ())}
    active = conditions.get("Active", {})
    return (
        min(status.get("observedGeneration", 0), active.get("observedGeneration", 0)),
        status.get("sensor"),
        conditions.get("Accepted", {}).get("status"),
        active.get("status"),
    )


async def _on_stream(stream: Stream) -> dict[str, tuple[int, bool]]:
    return {subject: (state.generation, state.enabled) for subject, state in (await stream.states()).items()}


@contextlib.asynccontextmanager
async def system_model(cluster: MemoryCluster, url: str, *refs: str) -> AsyncIterator[SystemModel]:
    """Sensors at work; operators are the test's business."""
    it = SystemModel(cluster, url, *refs)
    it.start()
    try:
        yield it
    finally:
        await it.stop()
