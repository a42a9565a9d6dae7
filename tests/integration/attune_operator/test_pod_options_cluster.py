"""A Sensor's options for its pods on a real API server: taken or refused at admission, written once, and within the restricted
Pod Security level.
"""

from datetime import UTC, datetime
from typing import Any

import pytest
from support.eventually import until
from support.kubectl_user import KubectlUser

from attune_contract.resources import Sensor
from attune_operator.app import Operator
from attune_operator.resources import companions, difference, kinds
from attune_operator.resources.common import Environment
from attune_operator.resources.deployment import deployment
from attune_operator.runtime.client import ClusterError
from attune_operator.sensors.cache import SensorCache
from attune_operator.sensors.objects import Objects

pytest_plugins = ["support.operator_fixtures"]
pytestmark = [pytest.mark.apiserver, pytest.mark.nats]

AROUND = Environment(nats_url="nats://nats:4222", api_url="http://api")
SPREAD = {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway"}


def volume(**source: Any) -> dict[str, Any]:
    """A volume and its mount. Everything that the API server fills in or leaves out is written out."""
    mount = {"name": "more", "mountPath": "/opt/more", "readOnly": False}
    return {"volumes": [{"name": "more", **source}], "volumeMounts": [mount]}


OPTIONS: dict[str, dict[str, Any]] = {
    "labels": {"podMetadata": {"labels": {"team": "a", "example.org/tier": "", "app.kubernetes.io/component": "x"}}},
    "annotations": {
        "podMetadata": {"annotations": {"prometheus.io/scrape": "false", "sidecar.istio.io/inject": "false"}}
    },
    "a ConfigMap": volume(
        configMap={"name": "a", "optional": False, "items": [{"key": "k", "path": "p", "mode": 288}]}
    ),
    "a Secret": volume(secret={"secretName": "a", "defaultMode": 288, "optional": True}),
    "a claim": volume(persistentVolumeClaim={"claimName": "a", "readOnly": False}),
    "an empty folder": volume(emptyDir={}),
    "a folder in memory": volume(emptyDir={"medium": "Memory", "sizeLimit": "1024Mi"}),
    "a folder with an empty medium": volume(emptyDir={"medium": "", "sizeLimit": "0.5Gi"}),
    "a projection": volume(
        projected={
            "sources": [
                {"configMap": {"name": "a"}},
                {"secret": {"name": "b", "optional": False, "items": [{"key": "k", "path": "p"}]}},
                {"serviceAccountToken": {"audience": "vault", "path": "token"}},
                {"downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}},
            ]
        }
    ),
    "a part of a volume": {
        "volumes": [{"name": "more", "configMap": {"name": "a"}}],
        "volumeMounts": [{"name": "more", "mountPath": "/srv/a.txt", "subPath": "a.txt", "readOnly": True}],
    },
    "spread": {"topologySpreadConstraints": [{**SPREAD, "matchLabelKeys": ["pod-template-hash"]}]},
    "spread by two keys": {
        "topologySpreadConstraints": [
            {**SPREAD, "nodeAffinityPolicy": "Honor", "nodeTaintsPolicy": "Honor"},
            {
                **SPREAD,
                "topologyKey": "zone",
                "whenUnsatisfiable": "DoNotSchedule",
                "minDomains": 2,
                "labelSelector": {},
            },
        ]
    },
    "a runtime class": {"runtimeClassName": "gvisor"},
    "the node's resolver": {"dnsPolicy": "Default"},
    "a resolver": {
        "dnsPolicy": "None",
        "dnsConfig": {
            "nameservers": ["10.0.0.10"],
            "searches": ["example.org"],
            "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}, {"name": "empty", "value": ""}],
        },
    },
    "an empty resolver": {"dnsConfig": {"searches": []}},
    "host aliases": {"hostAliases": [{"ip": "10.0.0.1", "hostnames": ["a.example", "b.example"]}]},
    "a priority class": {"priorityClassName": "high"},
}


@pytest.mark.parametrize("option", OPTIONS.values(), ids=OPTIONS.keys())
async def test_an_option_rolls_the_pods_once_and_costs_no_further_write(
    user: KubectlUser, option: dict[str, Any]
) -> None:
    async def reconcile(body: dict[str, Any]) -> tuple[int, str | None]:
        """As an operator that has just started: what it wrote before it does not know."""
        sensor = Sensor.from_object(body)
        objects = Objects(user.client, cache=SensorCache(), now=lambda: datetime.now(UTC))
        outcome = await objects.ensure(kinds.DEPLOYMENT, sensor, deployment(sensor, AROUND, issued_at=None))
        assert outcome.object is not None
        return outcome.object["metadata"]["generation"], outcome.change

    assert await reconcile(await user.apply_sensor()) == (1, "Created")
    body = await user.apply_sensor(**option)
    assert await reconcile(body) == (2, "Updated")
    assert await reconcile(body) == (2, None)
    stored = await user.get(kinds.DEPLOYMENT)
    assert difference.is_applied(stored, deployment(Sensor.from_object(body), AROUND, issued_at=None))
    assert await reconcile(await user.apply_sensor()) == (3, "Updated")


async def test_a_budget_is_written_once_and_goes_with_the_option(user: KubectlUser, operator: Operator) -> None:
    await user.apply_sensor(replicas=2, podDisruptionBudget={"maxUnavailable": 1})

    async def budget() -> Any:
        return await user.find(kinds.POD_DISRUPTION_BUDGET)

    stored = await until(budget, what="the budget")
    body = await user.get(kinds.SENSOR, "core.timer")
    desired = companions.disruption_budget(Sensor.from_object(body))
    assert desired is not None
    assert difference.is_applied(stored, desired)
    assert stored["metadata"]["generation"] == 1
    await user.apply_sensor(replicas=2)

    async def gone() -> bool:
        return await user.find(kinds.POD_DISRUPTION_BUDGET) is None

    await until(gone, what="the budget is removed")


async def test_pods_with_all_options_pass_the_restricted_level(user: KubectlUser, operator: Operator) -> None:
    left_out = ("a runtime class", "a priority class", "an empty resolver")  # which need more, or contradict
    spec: dict[str, Any] = {"volumes": [], "volumeMounts": []}
    for number, option in enumerate(option for name, option in OPTIONS.items() if name not in left_out):
        spec |= {field: value for field, value in option.items() if field not in ("volumes", "volumeMounts")}
        spec["volumes"] += [{**each, "name": f"more-{number}"} for each in option.get("volumes", ())]
        spec["volumeMounts"] += [
            {**each, "name": f"more-{number}", "mountPath": f"/opt/more-{number}"}
            for each in option.get("volumeMounts", ())
        ]
    await user.apply_sensor(**spec)
    [pod] = await until(user.pods, what="a pod that the restricted level admits")
    assert pod["metadata"]["annotations"]["sidecar.istio.io/inject"] == "false"
    assert {volume["name"] for volume in spec["volumes"]} <= {volume["name"] for volume in pod["spec"]["volumes"]}


def mount(path: str, **more: str) -> dict[str, Any]:
    return {
        "volumes": [{"name": "more", "emptyDir": {}}],
        "volumeMounts": [{"name": "more", "mountPath": path, **more}],
    }


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "the selector's label": ({"podMetadata": {"labels": {"attune.dev/sensor": "x"}}}, "set by the operator"),
    "a label of a subdomain": ({"podMetadata": {"labels": {"sensors.attune.dev/x": "x"}}}, "set by the operator"),
    "the release's label": (
        {"podMetadata": {"labels": {"app.kubernetes.io/instance": "attune"}}},
        "set by the operator",
    ),
    "the controller's label": ({"podMetadata": {"labels": {"pod-template-hash": "x"}}}, "set by the operator"),
    "a label that is none": ({"podMetadata": {"labels": {"a b": "x"}}}, "a label's key is a name"),
    "a label's value": ({"podMetadata": {"labels": {"a": "x y"}}}, "spec.podMetadata.labels.a"),
    "the operator's digest": ({"podMetadata": {"annotations": {"attune.dev/config-digest": "x"}}}, "not allowed"),
    "a restart": ({"podMetadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "x"}}}, "not allowed"),
    "no AppArmor": (
        {"podMetadata": {"annotations": {"container.apparmor.security.beta.kubernetes.io/sensor": "unconfined"}}},
        "not allowed",
    ),
    "no seccomp": (
        {"podMetadata": {"annotations": {"container.seccomp.security.alpha.kubernetes.io/sensor": "unconfined"}}},
        "not allowed",
    ),
    "the credentials' volume": ({"volumes": [{"name": "credentials", "emptyDir": {}}]}, "are the operator's"),
    "a secret's volume": ({"volumes": [{"name": "secret-0", "emptyDir": {}}]}, "are the operator's"),
    "a folder of the node": (
        {"volumes": [{"name": "node", "hostPath": {"path": "/"}}]},
        "hostPath: field not declared",
    ),
    "a volume of two kinds": (
        {"volumes": [{"name": "x", "emptyDir": {}, "configMap": {"name": "x"}}]},
        "exactly one of configMap",
    ),
    "the credentials under another path": (
        {"volumeMounts": [{"name": "credentials", "mountPath": "/opt/x"}]},
        "not in spec.volumes",
    ),
    "another volume": ({"volumeMounts": [{"name": "x", "mountPath": "/opt/x"}]}, "not in spec.volumes"),
    "over the credentials": (mount("/var/run/attune/credentials"), "nothing can be mounted at or below"),
    "over the credentials by a link": (mount("/run/attune/credentials"), "nothing can be mounted at or below"),
    "over the token": (mount("/var/run/secrets/kubernetes.io/serviceaccount"), "nothing can be mounted at or below"),
    "over the configuration": (mount("/etc/attune"), "nothing can be mounted at or below"),
    "over everything below /var": (mount("/var"), "would hide the operator's files"),
    "over the root": (mount("/"), "spec.volumeMounts[0].mountPath"),
    "back up": (mount("/opt/../etc/attune"), "no parts . and .."),
    "a doubled slash": (mount("//etc/attune"), "spec.volumeMounts[0].mountPath"),
    "a slash at the end": (mount("/etc/attune/"), "spec.volumeMounts[0].mountPath"),
    "out of the volume": (mount("/opt/x", subPath="a/../../b"), "no parts . and .."),
    "no resolver": ({"dnsPolicy": "None"}, "needs nameservers"),
    "the node's network": ({"dnsPolicy": "ClusterFirstWithHostNet"}, "spec.dnsPolicy"),
    "a budget that blocks every node": ({"podDisruptionBudget": {"maxUnavailable": 0}}, "maxUnavailable"),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED.keys())
async def test_what_is_the_operators_is_refused_with_a_sentence(
    user: KubectlUser, case: tuple[dict[str, Any], str]
) -> None:
    spec, words = case
    with pytest.raises(ClusterError) as refused:
        await user.apply_sensor(**spec)
    assert words in str(refused.value)
