"""A Sensor's options for its pods, and the installation's defaults: what they become, and what they never replace."""

from typing import Any

import pytest

from attune_contract.resources import Sensor
from attune_operator.resources import common, companions, pods
from attune_operator.resources.common import Environment
from attune_operator.resources.deployment import deployment

AROUND = Environment(nats_url="nats://attune-nats.attune-system.svc:4222", api_url="http://events.example:80")


def sensor(**spec: Any) -> Sensor:
    body = {"image": "attune/sensor-timer:0.1.0", "triggerTypes": [{"name": "core.intervaltimer"}], **spec}
    metadata = {"name": "core.timer", "namespace": "team", "uid": "u"}
    return Sensor.from_object({"metadata": metadata, "spec": body})


def template(around: Environment = AROUND, **spec: Any) -> dict[str, Any]:
    found: dict[str, Any] = deployment(sensor(**spec), around, issued_at=None)["spec"]["template"]
    return found


def variables(around: Environment, **spec: Any) -> dict[str, str]:
    [container] = template(around, **spec)["spec"]["containers"]
    return {entry["name"]: entry.get("value", "") for entry in container["env"]}


def test_labels_are_added_and_the_operators_stay() -> None:
    # Admission refuses these names; a definition that is older than the operator would not.
    wanted = {"team": "a", "attune.dev/sensor": "other", "app.kubernetes.io/instance": "other"}
    found = template(podMetadata={"labels": wanted})["metadata"]["labels"]
    assert found == {"team": "a", **common.labels(sensor())}


def test_annotations_replace_those_for_prometheus_only() -> None:
    wanted = {"prometheus.io/scrape": "false", "note": "x", common.CONFIG_DIGEST: "forged"}
    found = template(podMetadata={"annotations": wanted}, config={"a": 1})["metadata"]["annotations"]
    assert (found["prometheus.io/scrape"], found["prometheus.io/port"], found["note"]) == ("false", "8080", "x")
    assert found[common.CONFIG_DIGEST] != "forged"


def test_volumes_come_after_the_operators_which_stay_as_they_are() -> None:
    plain = template()["spec"]
    found = template(
        volumes=[{"name": "ca", "configMap": {"name": "authorities"}}],
        volumeMounts=[{"name": "ca", "mountPath": "/usr/share/ca", "readOnly": True}],
    )["spec"]
    assert found["volumes"] == [*plain["volumes"], {"name": "ca", "configMap": {"name": "authorities"}}]
    mounts = found["containers"][0]["volumeMounts"]
    own = plain["containers"][0]["volumeMounts"]
    assert mounts == [*own, {"name": "ca", "mountPath": "/usr/share/ca", "readOnly": True}]
    assert found["securityContext"] == plain["securityContext"]
    assert found["containers"][0]["securityContext"] == plain["containers"][0]["securityContext"]


def test_a_spread_without_selector_counts_the_sensors_own_pods() -> None:
    spread = {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway"}
    theirs = {"labelSelector": {"matchLabels": {"app": "all-sensors"}}}
    found = template(topologySpreadConstraints=[spread, {**spread, "topologyKey": "zone", **theirs}])["spec"]
    first, second = found["topologySpreadConstraints"]
    assert first == {**spread, "labelSelector": {"matchLabels": common.selector(sensor())}}
    assert second == {**spread, "topologyKey": "zone", **theirs}


def test_a_budget_lets_every_node_be_drained() -> None:
    assert companions.disruption_budget(sensor()) is None
    budget = companions.disruption_budget(sensor(podDisruptionBudget={}))
    assert budget is not None
    assert budget["spec"] == {
        "maxUnavailable": 1,
        "selector": {"matchLabels": common.selector(sensor())},
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
    }


@pytest.mark.parametrize(
    ("image", "registry", "other", "pulled"),
    [
        ("attune/sensor-timer:0.1.0", "", "", "attune/sensor-timer:0.1.0"),
        ("attune/sensor-timer:0.1.0", "r.example/m", "", "r.example/m/attune/sensor-timer:0.1.0"),
        ("attune/sensor-timer:0.1.0", "", "d.example", "attune/sensor-timer:0.1.0"),
        ("acme/door@sha256:0", "r.example", "", "acme/door@sha256:0"),
        ("acme/door:1", "r.example", "d.example/x", "d.example/x/acme/door:1"),
        ("door", "r.example", "d.example", "d.example/door"),
        ("ghcr.io/attune/sensor-timer:1", "r.example", "d.example", "ghcr.io/attune/sensor-timer:1"),
        ("localhost/door:1", "r.example", "d.example", "localhost/door:1"),
        ("registry:5000/door:1", "r.example", "d.example", "registry:5000/door:1"),
    ],
)
def test_images_without_a_registry_come_from_the_installations(
    image: str, registry: str, other: str, pulled: str
) -> None:
    around = Environment(nats_url="n", api_url="a", image_registry=registry, default_registry=other)
    assert pods.image(sensor(image=image), around) == pulled


def test_pull_secrets_of_the_installation_follow_those_of_the_sensor() -> None:
    around = Environment(nats_url="n", api_url="a", pull_secrets=("mirror", "team"))
    found = template(around, imagePullSecrets=[{"name": "team"}])["spec"]["imagePullSecrets"]
    assert found == [{"name": "team"}, {"name": "mirror"}]
    assert "imagePullSecrets" not in template()["spec"]


def test_proxies_are_for_the_outside_only() -> None:
    around = Environment(
        nats_url=AROUND.nats_url, api_url=AROUND.api_url, https_proxy="http://proxy:3128", no_proxy=(".corp.example",)
    )
    found = variables(around)
    assert found["HTTPS_PROXY"] == found["https_proxy"] == "http://proxy:3128"
    assert found["NO_PROXY"] == found["no_proxy"]
    direct = found["NO_PROXY"].split(",")
    assert {".svc", "$(KUBERNETES_SERVICE_HOST)", "events.example", ".corp.example"} <= set(direct)
    assert "HTTP_PROXY" not in found
    assert not {name for name in variables(AROUND) if "proxy" in name.lower()}


def test_a_proxy_that_the_sensor_sets_itself_stays() -> None:
    around = Environment(nats_url="n", api_url="a", http_proxy="http://proxy:1", https_proxy="http://proxy:1")
    found = variables(around, env=[{"name": "http_proxy", "value": "http://mine:2"}])
    assert (found["http_proxy"], "HTTP_PROXY" in found) == ("http://mine:2", False)
    assert found["HTTPS_PROXY"] == "http://proxy:1"
