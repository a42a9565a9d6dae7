"""A Sensor becomes objects in a real Kubernetes, which stay as they should be whatever is done to them."""

import asyncio
import base64
from typing import Any

import pytest
from support.eventually import until
from support.kubectl_user import REPLICA_SET, KubectlUser, running, settings_for
from support.nats_server import NatsServer

from attune_operator.app import Operator
from attune_operator.resources import kinds
from attune_operator.resources.kinds import Kind, Object
from attune_operator.runtime import metrics
from attune_operator.runtime.client import ClusterError
from attune_operator.sensors.cache import CHILDREN

pytest_plugins = ["support.operator_fixtures"]
pytestmark = [pytest.mark.apiserver, pytest.mark.nats]


@pytest.fixture(autouse=True)
def listening(user: KubectlUser) -> None:
    """Sensors of these tests listen and have a budget, and so have all kinds of objects."""
    ports = [{"name": "http", "port": 8000, "servicePort": 80}]
    user.defaults = {"ports": ports, "podDisruptionBudget": {}}


async def all_there(user: KubectlUser, *, config: bool = False) -> dict[str, Object]:
    """The Sensor's objects by kind, once all of them are there."""

    async def look() -> dict[str, Object] | None:
        found = {kind.kind: await user.find(kind) for kind in CHILDREN if config or kind is not kinds.CONFIG_MAP}
        return None if None in found.values() else found  # type: ignore[return-value]

    there: dict[str, Object] = await until(look, what="all objects of the Sensor")
    return there


async def ready(user: KubectlUser, name: str = "core.timer") -> Object:
    async def look() -> Any:
        if await user.pods(name):
            await user.run_pods(name)
        condition = await user.condition("Ready", name)
        return condition if condition.get("status") == "True" else None

    found: Object = await until(look, what=f"{name} is ready", within=20)
    return found


async def test_a_sensor_gets_what_it_needs_and_owns_it(user: KubectlUser, operator: Operator) -> None:
    sensor = await user.apply_sensor(config={"zone": "Europe/Vienna"})
    objects = await all_there(user, config=True)
    for body in objects.values():
        [owner] = body["metadata"]["ownerReferences"]
        assert (owner["uid"], owner["controller"], owner["blockOwnerDeletion"]) == (
            sensor["metadata"]["uid"],
            True,
            True,
        )
    assert objects["ServiceAccount"]["automountServiceAccountToken"] is False
    assert objects["Secret"]["type"] == "Opaque"
    assert objects["ConfigMap"]["data"] == {"config.json": '{\n  "zone": "Europe/Vienna"\n}'}


async def test_its_pods_pass_the_restricted_pod_security_level(user: KubectlUser, operator: Operator) -> None:
    await user.apply_sensor(config={"a": 1})
    [pod] = await until(user.pods, what="a pod that the restricted level admits")
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert all(volume.get("projected") is None for volume in pod["spec"]["volumes"])


@pytest.mark.alone
async def test_it_is_ready_within_a_second_of_its_pod(user: KubectlUser, operator: Operator) -> None:
    await user.apply_sensor()
    await until(user.pods)

    async def progressing() -> bool:
        return (await user.condition("Ready")).get("reason") == "Progressing"

    await until(progressing, within=10)
    await user.run_pods()

    async def is_ready() -> bool:
        return (await user.condition("Ready")).get("status") == "True"

    await until(is_ready, within=3)
    status = (await user.get(kinds.SENSOR, "core.timer"))["status"]
    assert status["observedGeneration"] == 1
    assert {c["type"]: c["reason"] for c in status["conditions"]}["CredentialsValid"] == "Valid"


async def test_a_sensor_that_is_as_it_should_be_costs_no_write(user: KubectlUser, nats_server: NatsServer) -> None:
    # Quantities and numbers are kept by Kubernetes in another form than they are written in.
    resources = {"requests": {"cpu": 0.5, "memory": "1024Mi"}, "limits": {"memory": "2048Mi"}}
    tolerations = [{"key": "a", "operator": "Exists", "tolerationSeconds": 5, "effect": "NoExecute"}]
    async with running(settings_for(user, nats_server, sweep_interval="0.2")):
        await user.apply_sensor(resources=resources, tolerations=tolerations, config={"a": 1}, replicas=2)
        await ready(user)

        async def settled() -> bool:
            """The rules are compared, and the pods' health, which is looked at every other second, is judged."""
            synced, healthy = [await user.condition(name) for name in ("RulesSynced", "Healthy")]
            return synced.get("status") == "True" and healthy.get("message", "").startswith(
                "Its pods send no health reports"
            )

        await until(settled, within=60)

        async def objects() -> list[Object]:
            found = [await user.get(kind) for kind in CHILDREN] + [await user.get(kinds.SENSOR, "core.timer")]
            return [body for body in found if body is not None]

        def versions(found: list[Object]) -> list[str]:
            return [body["metadata"]["resourceVersion"] for body in found]

        async def at_rest() -> bool:
            """Nothing is written for a second: conditions that are judged after a while have been judged."""
            seen = versions(await objects())
            await asyncio.sleep(1)
            return versions(await objects()) == seen

        await until(at_rest, within=60)
        before = await objects()
        writes = _writes()
        sweeps = metrics.LAST_SWEEP._value.get()
        for _ in range(5):

            async def swept(since: float = sweeps) -> bool:
                return bool(metrics.LAST_SWEEP._value.get() > since)

            await until(swept)
            sweeps = metrics.LAST_SWEEP._value.get()
        assert versions(await objects()) == versions(before)
        assert _writes() == writes


def _writes() -> float:
    """Requests of the operator that were no reads (the test's own client counts too, and only reads meanwhile)."""
    return sum(
        sample.value
        for metric in metrics.REQUESTS.collect()
        for sample in metric.samples
        if sample.name.endswith("_total") and sample.labels["verb"] != "GET"
    )


@pytest.mark.parametrize(
    "kind", [kind for kind in CHILDREN if kind is not kinds.CONFIG_MAP], ids=lambda kind: kind.kind
)
async def test_what_is_deleted_comes_back(user: KubectlUser, operator: Operator, kind: Kind) -> None:
    await user.apply_sensor()
    uid = (await all_there(user))[kind.kind]["metadata"]["uid"]
    await user.delete(kind)

    async def back() -> bool:
        found = await user.find(kind)
        return found is not None and found["metadata"]["uid"] != uid

    await until(back, within=5)


EDITS: dict[str, tuple[Kind, Object]] = {
    "an image of somebody's": (
        kinds.DEPLOYMENT,
        {"spec": {"template": {"spec": {"containers": [{"name": "sensor", "image": "registry.invalid/evil:1"}]}}}},
    ),
    "a variable that was added": (
        kinds.DEPLOYMENT,
        {"spec": {"template": {"spec": {"containers": [{"name": "sensor", "env": [{"name": "X", "value": "1"}]}]}}}},
    ),
    "a container that was added": (
        kinds.DEPLOYMENT,
        {"spec": {"template": {"spec": {"containers": [{"name": "miner", "image": "registry.invalid/miner:1"}]}}}},
    ),
    "another number of pods": (kinds.DEPLOYMENT, {"spec": {"replicas": 7}}),
    "another strategy": (kinds.DEPLOYMENT, {"spec": {"minReadySeconds": 30}}),
    "a rule that lets everything in": (kinds.NETWORK_POLICY, {"spec": {"ingress": [{}]}}),
    "a selector of somebody's": (kinds.SERVICE, {"spec": {"selector": {"app": "evil"}}}),
    "a Service that is open to the world": (kinds.SERVICE, {"spec": {"type": "NodePort"}}),
    "a mounted token": (kinds.SERVICE_ACCOUNT, {"automountServiceAccountToken": True}),
    "a file that was added": (kinds.SECRET, {"data": {"more": "eA=="}}),
    "an owner that was taken away": (kinds.DEPLOYMENT, {"metadata": {"ownerReferences": None}}),
    "a label that was taken away": (
        kinds.NETWORK_POLICY,
        {"metadata": {"labels": {"app.kubernetes.io/managed-by": None, "attune.dev/sensor": None}}},
    ),
    "a label that was changed": (kinds.SECRET, {"metadata": {"labels": {"attune.dev/sensor": "other"}}}),
}


def _content(body: Object) -> Object:
    metadata = {key: body["metadata"].get(key) for key in ("labels", "ownerReferences")}
    return {"metadata": metadata} | {key: value for key, value in body.items() if key not in ("metadata", "status")}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS.keys())
async def test_what_is_edited_by_hand_is_put_back(
    user: KubectlUser, operator: Operator, edit: tuple[Kind, Object]
) -> None:
    kind, patch = edit
    await user.apply_sensor()
    await ready(user)
    before = await user.get(kind)
    assert _content(await user.edit(kind, patch, strategic=True)) != _content(before), "the edit did nothing"

    async def as_before() -> bool:
        assert _content(await user.get(kind)) == _content(before)
        return True

    await until(as_before, within=5)

    async def said() -> bool:
        return any(event["reason"] == "Repaired" for event in await user.events())

    await until(said)


async def test_a_rollout_restart_is_let_be(user: KubectlUser, operator: Operator) -> None:
    await user.apply_sensor()
    await ready(user)
    at = {"kubectl.kubernetes.io/restartedAt": "2026-11-23T12:00:00Z"}
    await user.edit(kinds.DEPLOYMENT, {"spec": {"template": {"metadata": {"annotations": at}}}})
    await user.edit(kinds.SERVICE_ACCOUNT, {"automountServiceAccountToken": True})

    async def repaired() -> bool:
        return (await user.get(kinds.SERVICE_ACCOUNT))["automountServiceAccountToken"] is False

    await until(repaired)  # and so the Deployment was looked at as well
    annotations = (await user.get(kinds.DEPLOYMENT))["spec"]["template"]["metadata"]["annotations"]
    assert annotations.items() >= at.items()


async def test_a_token_that_was_damaged_by_hand_is_replaced(user: KubectlUser, operator: Operator) -> None:
    await user.apply_sensor()
    await all_there(user)
    await user.edit(kinds.SECRET, {"data": {"token": base64.b64encode(b"garbage").decode()}})

    async def good() -> bool:
        return base64.b64decode((await user.get(kinds.SECRET))["data"]["token"]).count(b".") == 2

    await until(good, within=5)
    assert (await user.condition("CredentialsValid"))["status"] == "True"


async def test_a_secret_that_was_made_immutable_is_made_anew(user: KubectlUser, operator: Operator) -> None:
    await user.apply_sensor()
    await all_there(user)
    await user.edit(kinds.SECRET, {"immutable": True})

    async def mutable() -> bool:
        return not (await user.get(kinds.SECRET)).get("immutable")

    await until(mutable, within=5)


async def test_paused_it_has_no_pods_and_says_so(user: KubectlUser, operator: Operator) -> None:
    await user.apply_sensor()
    await ready(user)
    await user.apply_sensor(paused=True)

    async def paused() -> bool:
        return (await user.condition("Ready")).get("reason") == "Paused"

    await until(paused)
    assert (await user.get(kinds.DEPLOYMENT))["spec"]["replicas"] == 0
    assert (await user.condition("CredentialsValid"))["status"] == "True"
    await user.apply_sensor(paused=False)
    await ready(user)


async def test_a_changed_config_rolls_the_pods_and_a_removed_one_goes(user: KubectlUser, operator: Operator) -> None:
    await user.apply_sensor(config={"a": 1})
    await all_there(user, config=True)
    generation = (await user.get(kinds.DEPLOYMENT))["metadata"]["generation"]
    await user.apply_sensor(config={"a": 2})

    async def rolled() -> bool:
        return bool((await user.get(kinds.DEPLOYMENT))["metadata"]["generation"] > generation)

    await until(rolled)
    assert '"a": 2' in (await user.get(kinds.CONFIG_MAP))["data"]["config.json"]
    await user.apply_sensor()

    async def gone() -> bool:
        return await user.find(kinds.CONFIG_MAP) is None

    await until(gone)
    mounts = (await user.get(kinds.DEPLOYMENT))["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]
    assert "config" not in {mount["name"] for mount in mounts}


async def test_what_keeps_it_from_being_ready_is_in_its_condition(user: KubectlUser, operator: Operator) -> None:
    await user.apply_sensor()
    await until(user.pods)
    waiting = {"waiting": {"reason": "ErrImagePull", "message": "no such host"}}
    await user.run_pods(ready=False, state=waiting, started=False)

    async def image() -> bool:
        condition = await user.condition("Ready")
        return condition["reason"] == "ImagePullBackOff" and "no such host" in condition["message"]

    await until(image)
    ended = {"terminated": {"exitCode": 3, "reason": "Error", "message": "cannot open the queue"}}
    crashing = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}
    await user.run_pods(ready=False, state=crashing, lastState=ended, restartCount=2, started=False)

    async def crash() -> bool:
        condition = await user.condition("Ready")
        return condition["reason"] == "CrashLoopBackOff" and "cannot open the queue" in condition["message"]

    await until(crash)


async def test_a_schema_that_is_none_is_refused_and_nothing_else_is_disturbed(
    user: KubectlUser, operator: Operator
) -> None:
    wrong = {"type": "object", "properties": {"interval": {"type": "integr"}}}
    await user.apply_sensor("broken", triggerTypes=[{"name": "acme.queue", "parametersSchema": wrong}])
    await user.apply_sensor()

    async def refused() -> bool:
        condition = await user.condition("Ready", "broken")
        where = "spec.triggerTypes[0].parametersSchema"
        return condition["reason"] == "InvalidParametersSchema" and where in condition["message"]

    await until(refused)
    assert await user.find(kinds.DEPLOYMENT, "sensor-broken") is None
    await ready(user)


async def test_what_belongs_to_somebody_else_is_not_taken(user: KubectlUser, operator: Operator) -> None:
    theirs = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "sensor-core.timer", "namespace": user.namespace},
    }
    await user.client.create(kinds.SECRET, {**theirs, "stringData": {"password": "theirs"}})
    await user.apply_sensor()

    async def refused() -> bool:
        condition = await user.condition("CredentialsValid")
        return condition["reason"] == "NameTaken" and "does not belong to this Sensor" in condition["message"]

    await until(refused)
    assert set((await user.get(kinds.SECRET))["data"]) == {"password"}


async def test_what_kubernetes_refuses_is_said(user: KubectlUser, operator: Operator) -> None:
    await user.apply_sensor(tolerations=[{"operator": "Sometimes"}])

    async def refused() -> bool:
        condition = await user.condition("Ready")
        return condition["reason"] == "ApplyFailed" and "tolerations" in condition["message"]

    await until(refused)
    assert (await user.condition("CredentialsValid"))["status"] == "True"
    await user.apply_sensor()
    await ready(user)


async def test_one_that_is_made_again_gets_everything_anew(user: KubectlUser, operator: Operator) -> None:
    first = await user.apply_sensor()
    old = await all_there(user)
    await user.delete(kinds.SENSOR, "core.timer")
    second = await user.apply_sensor()
    assert first["metadata"]["uid"] != second["metadata"]["uid"]

    async def replaced() -> bool:
        for kind, body in (await all_there(user)).items():
            assert body["metadata"]["uid"] != old[kind]["metadata"]["uid"], kind
            assert [owner["uid"] for owner in body["metadata"]["ownerReferences"]] == [second["metadata"]["uid"]]
        return True

    await until(replaced)


async def test_deleted_it_takes_everything_with_it_and_hangs_nowhere(
    user: KubectlUser, nats_server: NatsServer
) -> None:
    async with running(settings_for(user, nats_server)):
        await user.apply_sensor(config={"a": 1})
        await all_there(user, config=True)
        sensor = await user.get(kinds.SENSOR, "core.timer")
        assert "finalizers" not in sensor["metadata"]
        assert not sensor["metadata"].get("annotations")
    # With the operator gone as well: nothing of it is needed for a Sensor to end.
    await user.delete(kinds.SENSOR, "core.timer")
    assert await user.find(kinds.SENSOR, "core.timer") is None

    async def all_gone() -> bool:
        left = [await user.find(kind) for kind in CHILDREN]
        return left == [None] * len(CHILDREN)

    # The garbage collector learns of new kinds of owners every half minute.
    await until(all_gone, within=60)


async def test_while_nobody_looked_is_caught_up_with(user: KubectlUser, nats_server: NatsServer) -> None:
    async with running(settings_for(user, nats_server)):
        await user.apply_sensor()
        await all_there(user)
    await user.delete(kinds.SECRET)
    await user.apply_sensor(replicas=3)
    async with running(settings_for(user, nats_server)):

        async def caught_up() -> bool:
            objects = await all_there(user)
            return bool(objects["Deployment"]["spec"]["replicas"] == 3)

        await until(caught_up, within=5)


async def test_events_say_what_happened(user: KubectlUser, operator: Operator) -> None:
    await user.apply_sensor()
    await ready(user)

    async def told() -> bool:
        reasons = {event["reason"] for event in await user.events()}
        return reasons >= {"Created", "TokenIssued", "Available"}

    await until(told)
    messages = {event["message"] for event in await user.events()}
    assert (
        "Created ServiceAccount, NetworkPolicy, Service, PodDisruptionBudget, Deployment sensor-core.timer." in messages
    )


async def test_only_the_watched_namespaces_are_looked_after(user: KubectlUser, operator: Operator) -> None:
    other = KubectlUser(user.client, f"{user.namespace}-other")
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": other.namespace}}
    await user.client.create(kinds.NAMESPACE, body)
    await other.apply_sensor("elsewhere")
    await user.apply_sensor()
    await ready(user)
    assert await other.find(kinds.SECRET, "sensor-elsewhere") is None
    assert (await other.get(kinds.SENSOR, "elsewhere"))["status"] == {"observedGeneration": -1}  # nobody wrote one


async def test_a_whole_cluster_is_looked_after_where_no_namespace_is_named(
    user: KubectlUser, nats_server: NatsServer
) -> None:
    async with running(settings_for(user, nats_server, watch_namespaces=())):
        await user.apply_sensor()
        await ready(user)


async def test_it_rolls_no_pods_that_are_as_they_should_be(user: KubectlUser, nats_server: NatsServer) -> None:
    async with running(settings_for(user, nats_server)):
        await user.apply_sensor()
        await ready(user)
        sets = await user.client.list_objects(REPLICA_SET, user.namespace)
    async with running(settings_for(user, nats_server)):
        await user.annotate(rotate_at="2026-01-01T00:00:00Z")
        await ready(user)
        assert len(await user.client.list_objects(REPLICA_SET, user.namespace)) == len(sets) == 1


async def test_a_client_says_which_call_failed(user: KubectlUser) -> None:
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x", "namespace": "nowhere"}}
    with pytest.raises(ClusterError, match=r"PATCH /api/v1/namespaces/nowhere/secrets/x.*: 404 .*not found") as failed:
        await user.client.apply(kinds.SECRET, body)
    assert failed.value.status == 404
