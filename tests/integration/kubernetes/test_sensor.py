"""The Kubernetes sensor against a real kube-apiserver."""

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.eventually import until
from support.kubernetes_storm import go_through, judge
from support.nats_server import NatsServer

from attune_cluster.apiserver import ApiServer
from attune_contract.events import EventReport
from attune_kubernetes.handler import KubernetesHandler
from attune_operator.resources.kinds import CONFIG_MAP, NAMESPACE, SECRET, Kind, Object
from attune_operator.runtime import kube_client
from attune_operator.runtime.kube_client import KubeClient
from attune_sensor import AckState, Rule
from attune_sensor.testing import FakeApi, SensorHarness

pytestmark = [pytest.mark.apiserver, pytest.mark.nats]

MAPS = {"apiVersion": "v1", "kind": "ConfigMap"}


@pytest.fixture(scope="module")
def kubernetes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """An API server of this module's own."""
    with ApiServer(tmp_path_factory.mktemp("kubernetes")) as server:
        yield server


class World:
    """A namespace, somebody who works in it, and sensors that watch it."""

    def __init__(self, client: KubeClient, directory: Path) -> None:
        self.client = client
        self.namespace = ""
        self.directory = directory
        self.api = FakeApi()

    async def make_namespace(self, labels: dict[str, str] | None = None) -> str:
        name = f"test-{uuid.uuid4().hex[:8]}"
        await self.client.create(
            NAMESPACE,
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels or {}}},
        )
        return name

    async def apply(
        self,
        name: str,
        *,
        kind: Kind = CONFIG_MAP,
        namespace: str = "",
        labels: dict[str, str] | None = None,
        **data: str,
    ) -> Object:
        metadata = {"name": name, "namespace": namespace or self.namespace, "labels": labels or {}}
        return await self.client.apply(
            kind, {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, "data": data}
        )

    async def delete(self, name: str, *, kind: Kind = CONFIG_MAP) -> None:
        found = await self.client.get(kind, self.namespace, name)
        assert found is not None
        await self.client.delete(kind, self.namespace, name, uid=found["metadata"]["uid"])

    @contextlib.asynccontextmanager
    async def sensor(self, **config: Any) -> AsyncIterator["Sensor"]:
        """A sensor; started again, it goes on from what the one before has left."""
        harness = SensorHarness(
            KubernetesHandler,
            trigger_types=["core.kubernetes"],
            config=config,
            settings={"spool_dir": self.directory},
            api=self.api,
        )
        async with harness:
            yield Sensor(harness, self)


class Sensor:
    """A sensor under test."""

    def __init__(self, harness: SensorHarness, world: World) -> None:
        self.harness = harness
        self.world = world

    async def rule(self, *, state: AckState = AckState.ACTIVE, name: str = "rule", **parameters: Any) -> Rule:
        given = {**MAPS, "namespaces": [self.world.namespace], **parameters}
        rule = self.harness.apply("core.kubernetes", given, name=name)
        await self.harness.wait_for(rule, state, within=60)
        return rule

    async def next(self) -> EventReport:
        return await self.harness.next_event(within=60)

    async def changes(self, number: int) -> list[tuple[str, str]]:
        """The next events, as (change, name)."""
        found = [await self.next() for _ in range(number)]
        return [(event.payload["change"], event.payload["name"]) for event in found]


@pytest.fixture
async def world(kubernetes: ApiServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[World]:
    monkeypatch.setenv("KUBECONFIG", str(kubernetes.kubeconfig))
    client = KubeClient(kube_client.load_access())
    made = World(client, tmp_path)
    made.namespace = await made.make_namespace()
    yield made
    await client.close()


async def test_objects_that_come_change_and_go(world: World) -> None:
    await world.apply("before", a="1")
    async with world.sensor() as sensor:
        await sensor.rule()
        await world.apply("one", a="1")
        await world.apply("one", a="2")
        await world.delete("one")
        await world.apply("before", a="2")
        assert await sensor.changes(4) == [
            ("added", "one"),
            ("modified", "one"),
            ("deleted", "one"),
            ("modified", "before"),
        ]


async def test_selectors_filter_and_fields(world: World) -> None:
    async with world.sensor() as sensor:
        await sensor.rule(
            labelSelector="app=web",
            fieldSelector="metadata.name!=skipped",
            events=["modified"],
            filter="int(object.data.n) > int(oldObject.data.n)",
            fields={"now": "int(object.data.n)", "before": "int(oldObject.data.n)"},
        )
        web = {"app": "web"}
        for name, labels in (("skipped", web), ("other", {}), ("one", web)):
            for n in ("1", "3", "2", "7"):
                await world.apply(name, labels=labels, n=n)
        events = [await sensor.next() for _ in range(2)]
        assert [event.payload["fields"] for event in events] == [{"now": 3, "before": 1}, {"now": 7, "before": 2}]
        await world.apply("one", labels=web, n="8")
        assert (await sensor.next()).payload["fields"] == {"now": 8, "before": 7}, "nothing else came in between"


async def test_rules_that_watch_the_same_share_a_watch(world: World) -> None:
    async with world.sensor() as sensor:
        await sensor.rule(name="one")
        await sensor.rule(name="two", filter="object.data.a == '2'")
        await world.apply("x", a="1")
        await world.apply("x", a="2")
        events = [await sensor.next() for _ in range(3)]
        assert sorted(event.rule_name for event in events) == ["one", "one", "two"]


async def test_a_filter_that_was_never_true_is_remarked_until_it_is(world: World) -> None:
    async with world.sensor() as sensor:
        rule = await sensor.rule(filter="object.data.a == 'never'")
        for a in ("1", "2", "3"):
            await world.apply("x", a=a)
        said = "No event yet: 3 changes left out since "
        await until(lambda: sensor.harness.message(rule).startswith(said))
        await world.apply("x", a="never")
        await sensor.next()
        await until(lambda: sensor.harness.message(rule) == "")


async def test_secrets_are_reported_without_what_is_in_them(world: World) -> None:
    async with world.sensor() as sensor:
        await sensor.rule(kind="Secret", filter="has(object.data.password)")
        await world.apply("s", kind=SECRET, password="aHVudGVyMg==")
        event = await sensor.next()
        assert event.payload["object"]["data"] == {"password": None}
        assert "aHVudGVyMg" not in str(event.payload)


async def test_a_rule_may_watch_its_own_namespace_and_others_only_where_the_sensor_says_so(world: World) -> None:
    async with world.sensor() as sensor:
        # The harness's rules, and its sensor, are in the namespace "default": they may watch everything.
        await sensor.rule()
        allowed = sensor.harness.apply("core.kubernetes", {"apiVersion": "v1", "kind": "Namespace"}, name="namespaces")
        await sensor.harness.wait_for(allowed, AckState.ACTIVE, within=60)
        foreign = sensor.harness.apply(
            "core.kubernetes", {**MAPS, "namespaces": ["default"]}, name="foreign", namespace="b"
        )
        assert "may watch its own namespace, b;" in await sensor.harness.wait_for(foreign, AckState.REJECTED)
        everywhere = sensor.harness.apply(
            "core.kubernetes", {"apiVersion": "v1", "kind": "Namespace"}, name="everywhere", namespace="b"
        )
        assert "belongs to no namespace" in await sensor.harness.wait_for(everywhere, AckState.REJECTED)
        own = sensor.harness.apply("core.kubernetes", MAPS, name="own", namespace="b")
        await sensor.harness.wait_for(own, AckState.ACTIVE, within=60)


async def test_what_cannot_be_watched_is_said(world: World) -> None:
    async with world.sensor() as sensor:
        unknown = sensor.harness.apply("core.kubernetes", {"apiVersion": "v1", "kind": "Unicorn"}, name="unknown")
        message = await sensor.harness.wait_for(unknown, AckState.FAILING, within=60)
        assert "the API server serves no Unicorn of v1" in message
        wrong = sensor.harness.apply("core.kubernetes", {**MAPS, "labelSelector": "a=("}, name="wrong")
        message = await sensor.harness.wait_for(wrong, AckState.FAILING, within=60)
        assert "with labelSelector 'a=('" in message
        assert "400" in message


async def test_a_wrong_expression_is_told_with_its_column(world: World) -> None:
    async with world.sensor() as sensor:
        for parameters, told in (
            ({"filter": "object.data.a == '1' && objct.b"}, "parameters.filter is not a CEL expression that can be used here: "
             "column 25: unknown variable objct; expected one of: object, oldObject"),
            ({"filter": "duration('1d') > duration('1h')"}, "column 10: '1d' is not a valid duration"),
            ({"filter": "object.data.size()"}, "it gives int; expected true or false"),
            ({"fields": {"x": "object.data.a.matchs('b')"}}, "parameters.fields.x is not a CEL expression"),
        ):  # fmt: skip
            rule = await sensor.rule(state=AckState.REJECTED, name=f"wrong-{len(told)}", **parameters)
            assert told in sensor.harness.message(rule)


async def test_a_sensor_that_is_started_again_misses_nothing_and_repeats_nothing(world: World) -> None:
    fields = {"now": "object.data.a", "was": "oldObject.data.a"}
    async with world.sensor() as sensor:
        await sensor.rule(fields=fields)
        await world.apply("stays", a="1")
        await world.apply("goes", a="1")
        await sensor.changes(2)
    await world.apply("stays", a="2")
    await world.apply("stays", a="3")
    await world.apply("comes", a="1")
    await world.delete("goes")
    async with world.sensor() as sensor:
        await sensor.rule(fields=fields)
        events = [(await sensor.next()).payload for _ in range(4)]
        assert [(event["change"], event["name"], event["fields"]) for event in events] == [
            ("modified", "stays", {"now": "2", "was": "1"}),
            ("modified", "stays", {"now": "3", "was": "2"}),
            ("added", "comes", {"now": "1", "was": None}),
            ("deleted", "goes", {"now": "1", "was": "1"}),
        ], "also what was in between, what it was before, and what went"
        await world.apply("stays", a="4")
        assert await sensor.changes(1) == [("modified", "stays")]


async def test_rules_that_are_many_go_on_together(world: World) -> None:
    """More than are started at once: each must be there when the watch begins."""
    async with world.sensor() as sensor:
        for number in range(20):
            await sensor.rule(name=f"rule-{number}")
        await world.apply("one", a="1")
        await sensor.changes(20)
    await world.apply("one", a="2")
    await world.delete("one")
    async with world.sensor() as sensor:
        await asyncio.gather(*(sensor.rule(name=f"rule-{number}") for number in range(20)))
        events = [await sensor.next() for _ in range(40)]
        reported = {(event.rule_name, event.payload["change"]) for event in events}
        assert len(reported) == 40, "each rule heard of both, once"


async def _next_second() -> None:
    """The API server's clock is in whole seconds."""
    await asyncio.sleep(1.01 - time.time() % 1)


@pytest.mark.parametrize("later", [False, True], ids=["in the rule's second", "in a later second"])
async def test_a_sensor_whose_pod_has_moved_reports_the_last_state_of_each(world: World, later: bool) -> None:
    async with world.sensor() as sensor:
        if not later:
            await _next_second()
        rule = await sensor.rule()
        if later:
            await _next_second()
        await world.apply("same", a="1")
        await world.apply("stays", a="1")
        await sensor.changes(2)
    (world.directory / "watches.json").unlink()
    await asyncio.sleep(3.1)  # the API server's clock is in whole seconds, and two are taken as doubtful
    await world.apply("stays", a="2")
    await world.apply("stays", a="3")
    await world.apply("comes", a="1")
    async with world.sensor() as sensor:
        given = {**MAPS, "namespaces": [world.namespace]}
        again = sensor.harness.apply("core.kubernetes", given, name="rule", since=rule.since)
        await sensor.harness.wait_for(again, AckState.ACTIVE, within=60)
        assert sorted(await sensor.changes(2)) == [("added", "comes"), ("modified", "stays")]
        await world.apply("same", a="2")
        assert await sensor.changes(1) == [("modified", "same")]


async def test_api_server_that_is_away_and_comes_back(kubernetes: ApiServer, world: World) -> None:
    async with world.sensor() as sensor:
        rule = await sensor.rule()
        await world.apply("one", a="1")
        await sensor.next()
        kubernetes.kill("kube-apiserver")
        await sensor.harness.wait_for(rule, AckState.FAILING, within=60)
        # Not in a thread of its own: programs end with the thread that started them.
        kubernetes.stop()
        kubernetes.start()
        await sensor.harness.wait_for(rule, AckState.ACTIVE, within=60)
        await world.apply("one", a="2")
        assert await sensor.changes(1) == [("modified", "one")]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("lose_state", [False, True], ids=["killed", "killed, and its volume lost"])
async def test_last_state_of_each_is_reported_whatever_kills_the_sensor(
    kubernetes: ApiServer, world: World, nats_server: NatsServer, tmp_path: Path, lose_state: bool
) -> None:
    versions, stored = await go_through(
        tmp_path,
        server=kubernetes,
        client=world.client,
        nats=nats_server,
        namespace=world.namespace,
        number=100,
        lose_state=lose_state,
    )
    judge(versions, stored, every_change=not lose_state)
