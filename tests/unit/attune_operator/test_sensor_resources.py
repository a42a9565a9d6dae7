"""What a Sensor becomes, from values alone; and when an object is what was applied."""

import copy
import re
from datetime import UTC, datetime
from typing import Any

import pytest

from attune_contract import environment, names
from attune_contract.resources import Sensor
from attune_operator.resources import common, companions, difference
from attune_operator.resources.common import Environment
from attune_operator.resources.deployment import deployment, sensor_environment

AROUND = Environment(nats_url="nats://nats:4222", api_url="http://api")
ISSUED = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def sensor(**spec: Any) -> Sensor:
    return Sensor.from_object(
        {
            "apiVersion": "attune.dev/v1alpha1",
            "kind": "Sensor",
            "metadata": {"name": "core.timer", "namespace": "attune-system", "uid": "uid-1"},
            "spec": {"image": "timer:1", "triggerTypes": [{"name": "core.intervaltimer"}], **spec},
        }
    )


def built(*, around: Environment = AROUND, issued_at: datetime | None = ISSUED, **spec: Any) -> dict[str, Any]:
    return deployment(sensor(**spec), around, issued_at=issued_at)


def pod(body: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = body["spec"]["template"]["spec"]
    return spec


def env(body: dict[str, Any]) -> dict[str, str]:
    return {found["name"]: found.get("value", "") for found in pod(body)["containers"][0]["env"]}


def test_the_environment_is_the_contracts() -> None:
    assert env(built()) == {
        "ATTUNE_SENSOR_REF": "attune-system/core.timer",
        "ATTUNE_TRIGGER_TYPES": "core.intervaltimer",
        "ATTUNE_API_URL": "http://api",
        "ATTUNE_API_TOKEN_FILE": "/var/run/attune/credentials/token",
        "ATTUNE_NATS_URL": "nats://nats:4222",
        "ATTUNE_NATS_INBOX_PREFIX": "_INBOX_attune-system_core_timer",
        "ATTUNE_RULES_SUBJECT": "attune.rules.attune-system.core_timer.>",
        "ATTUNE_ACKS_SUBJECT": "attune.acks.attune-system.core_timer",
        "ATTUNE_SPOOL_DIR": "/var/spool/attune",
        "ATTUNE_LOG_LEVEL": "INFO",
        "ATTUNE_METRICS_PORT": "8080",
        "ATTUNE_GRACE_SECONDS": "25",
        "ATTUNE_SENSOR_INSTANCE": "",
    }


def test_files_are_named_only_where_they_are() -> None:
    around = Environment(nats_url="n", api_url="a", nats_credentials=True, ca_certificates="PEM")
    body = built(around=around, config={"a": 1})
    assert (
        env(body).items()
        >= {
            environment.NATS_CREDS_FILE: "/var/run/attune/credentials/nats.creds",
            environment.CONFIG_FILE: "/etc/attune/config.json",
            environment.CA_FILE: "/etc/attune/ca.crt",
        }.items()
    )
    config_map = companions.config_map(sensor(config={"a": 1}), around)
    assert config_map is not None
    assert set(config_map["data"]) == {"config.json", "ca.crt"}
    assert companions.config_map(sensor(), AROUND) is None


def test_authors_variables_come_first_and_cannot_replace_ours() -> None:
    own = [{"name": "QUEUE", "value": "q"}, {"name": "ATTUNE_API_URL", "value": "http://evil"}]
    names = [found["name"] for found in sensor_environment(sensor(env=own), AROUND)]
    assert names[0] == "QUEUE"
    assert names.count("ATTUNE_API_URL") == 1
    assert env(built(env=own))["ATTUNE_API_URL"] == "http://api"


def test_pods_run_under_the_restricted_profile() -> None:
    spec = pod(built())
    [container] = spec["containers"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "privileged": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    kinds = {key for volume in spec["volumes"] for key in volume if key != "name"}
    assert kinds <= {"secret", "configMap", "emptyDir"}
    assert not {"hostNetwork", "hostPID", "hostIPC", "hostUsers"} & spec.keys()


def test_credentials_are_mounted_whole_so_that_they_are_refreshed() -> None:
    [container] = pod(built())["containers"]
    [mount] = [found for found in container["volumeMounts"] if found["name"] == "credentials"]
    assert mount == {"name": "credentials", "mountPath": "/var/run/attune/credentials", "readOnly": True}


def test_paused_means_no_pods() -> None:
    assert built(replicas=3)["spec"]["replicas"] == 3
    assert built(replicas=3, paused=True)["spec"]["replicas"] == 0


def template_changes(before: dict[str, Any], after: dict[str, Any]) -> bool:
    return bool(before["spec"]["template"] != after["spec"]["template"])


def test_scaling_changes_nothing_of_a_pod() -> None:
    around = Environment(nats_url="n", api_url="a", nats_credentials=True)
    templates = [built(around=around, replicas=number)["spec"]["template"] for number in (1, 2, 3, 8, 16)]
    assert all(template == templates[0] for template in templates)
    [names] = [
        e["value"] for e in templates[0]["spec"]["containers"][0]["env"] if e["name"] == "ATTUNE_RULES_CONSUMERS"
    ]
    assert len(names.split(",")) > 16, "a name for each pod, and for those that end"


def test_config_rolls_the_pods_and_renewal_does_so_only_when_asked_to() -> None:
    later = datetime(2026, 11, 24, tzinfo=UTC)
    assert template_changes(built(config={"a": 1}), built(config={"a": 2}))
    assert not template_changes(built(), built(issued_at=later))
    restart = {"onRotate": "Restart"}
    assert template_changes(built(token=restart), built(token=restart, issued_at=later))


def test_the_selector_never_changes() -> None:
    body = built(config={"a": 1}, paused=True, env=[{"name": "A", "value": "b"}])
    assert body["spec"]["selector"] == {"matchLabels": {"attune.dev/sensor": "core.timer"}}
    assert body["spec"]["template"]["metadata"]["labels"].items() >= body["spec"]["selector"]["matchLabels"].items()


def test_what_is_given_is_passed_on_as_it_is() -> None:
    given: dict[str, Any] = {
        "command": ["run"],
        "args": ["--x"],
        "resources": {"limits": {"memory": "1Gi"}},
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"operator": "Exists"}],
        "priorityClassName": "high",
        "imagePullSecrets": [{"name": "pull"}],
        "terminationGracePeriodSeconds": 0,
        "imagePullPolicy": "Never",
        "envFrom": [{"secretRef": {"name": "more"}}],
    }
    spec = pod(built(**given))
    container = spec["containers"][0]
    for key, value in given.items():
        assert (container if key in container else spec)[key] == value, key


def test_the_network_policy_lets_in_scrapes_alone_and_leaves_the_way_out_open() -> None:
    policy = companions.network_policy(sensor(), AROUND)
    assert policy is not None
    assert policy["spec"]["policyTypes"] == ["Ingress"]
    assert policy["spec"]["ingress"] == [{"ports": [{"port": "metrics", "protocol": "TCP"}]}]
    assert companions.network_policy(sensor(), Environment(nats_url="n", api_url="a", network_policies=False)) is None


LISTENING: dict[str, Any] = {
    "ports": [{"name": "http", "port": 8000, "servicePort": 80}, {"name": "grpc-in", "port": 9000}]
}


def test_ports_open_the_pod_and_make_a_service() -> None:
    body = built(**LISTENING)
    assert env(body).items() >= {"ATTUNE_PORT_HTTP": "8000", "ATTUNE_PORT_GRPC_IN": "9000"}.items()
    [container] = pod(body)["containers"]
    assert [(port["name"], port["containerPort"]) for port in container["ports"]] == [
        ("metrics", 8080),
        ("http", 8000),
        ("grpc-in", 9000),
    ]
    policy = companions.network_policy(sensor(**LISTENING), AROUND)
    assert policy is not None
    assert [port["port"] for port in policy["spec"]["ingress"][0]["ports"]] == ["metrics", "http", "grpc-in"]
    service = companions.service(sensor(**LISTENING))
    assert service is not None
    assert service["metadata"]["name"] == "sensor-core-timer", "a Service's name may have no dot"
    assert service["spec"]["selector"] == body["spec"]["selector"]["matchLabels"]
    assert [(port["port"], port["targetPort"]) for port in service["spec"]["ports"]] == [
        (80, "http"),
        (9000, "grpc-in"),
    ]
    assert companions.service(sensor()) is None


def test_names_of_services_are_short_enough_and_differ() -> None:
    long = [names.sensor_service_name(f"{'a' * 62}{last}") for last in "bc"]
    assert len(set(long)) == 2
    assert {len(name) for name in long} == {63}


def test_the_other_names_of_objects_are_names_and_differ() -> None:
    assert names.other_object_name("a-b", "sensor-a-b") == "sensor-a-b-9ae4969a"
    long = f"{'a' * 46}.{'b' * 16}"
    other = {names.other_object_name(long, usual) for usual in (f"sensor-{long}", f"sensor-{long}-scripts")}
    assert len(other) == 2
    for name in other:
        assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", name)
        assert len(name) <= 63


def test_secrets_are_mounted_whole_and_need_not_be_there() -> None:
    body = built(secrets=[{"name": "hooks"}, {"name": "more.hooks"}])
    assert env(body)["ATTUNE_SECRETS_DIR"] == "/var/run/attune/secrets"
    [container] = pod(body)["containers"]
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod(body)["volumes"]}
    for name, secret in (("secret-0", "hooks"), ("secret-1", "more.hooks")):
        assert mounts[name] == {"name": name, "mountPath": f"/var/run/attune/secrets/{secret}", "readOnly": True}
        assert volumes[name]["secret"] == {"secretName": secret, "defaultMode": 0o440, "optional": True}
    assert "ATTUNE_SECRETS_DIR" not in env(built())


def test_an_account_that_the_sensor_names_is_used_with_its_token() -> None:
    spec = pod(built(serviceAccountName="watcher"))
    assert (spec["serviceAccountName"], spec["automountServiceAccountToken"]) == ("watcher", True)
    assert companions.service_account(sensor(serviceAccountName="watcher")) is None
    spec = pod(built())
    assert (spec["serviceAccountName"], spec["automountServiceAccountToken"]) == ("sensor-core.timer", False)
    assert companions.service_account(sensor()) is not None


def test_a_secret_holds_no_digest_of_what_is_in_it() -> None:
    body = companions.secret(sensor(), {"token": "t"}, not_before=None)
    assert "annotations" not in body["metadata"]
    assert companions.secret(sensor(), {}, not_before=7)["metadata"]["annotations"] == {companions.NOT_BEFORE: "7"}


# -- difference --------------------------------------------------------------------------------------------------------


def stored(wanted: dict[str, Any], *entries: dict[str, Any]) -> dict[str, Any]:
    """The object as Kubernetes would hold it: with more in it than was applied."""
    found = copy.deepcopy(wanted)
    found["metadata"] |= {"uid": "u", "resourceVersion": "1", "managedFields": [OURS, *entries]}
    found["spec"]["progressDeadlineSeconds"] = 600
    found["spec"]["template"]["spec"]["containers"][0]["terminationMessagePath"] = "/dev/termination-log"
    return found


OURS = {"manager": "attune-operator", "operation": "Apply", "fieldsV1": {"f:spec": {"f:replicas": {}}}}
STATUS = {"manager": "kube-controller-manager", "subresource": "status", "fieldsV1": {"f:spec": {}, "f:status": {}}}


def manager(name: str, fields: dict[str, Any]) -> dict[str, Any]:
    return {"manager": name, "operation": "Update", "fieldsV1": fields}


RESTARTED: dict[str, Any] = {
    "f:spec": {"f:template": {"f:metadata": {"f:annotations": {"f:kubectl.kubernetes.io/restartedAt": {}}}}}
}


def test_defaults_are_no_difference() -> None:
    assert difference.is_applied(stored(built(), STATUS), built())


@pytest.mark.parametrize(
    "entry",
    [manager("kubectl", RESTARTED), manager("helm", {"f:metadata": {"f:annotations": {"f:note": {}}}})],
    ids=["rollout restart", "an annotation of somebody's"],
)
def test_what_others_may_do_is_no_difference(entry: dict[str, Any]) -> None:
    assert difference.is_applied(stored(built(), entry), built())


@pytest.mark.parametrize(
    "fields",
    [
        {"f:spec": {"f:minReadySeconds": {}}},
        {
            "f:spec": {
                "f:template": {"f:spec": {"f:containers": {'k:{"name":"sensor"}': {"f:env": {"k:{}": {".": {}}}}}}}
            }
        },
        {"f:data": {"f:token": {}}},
        {"f:automountServiceAccountToken": {}},
        {"f:spec": {**RESTARTED["f:spec"], "f:paused": {}}},
    ],
)
def test_fields_of_others_are_a_difference(fields: dict[str, Any]) -> None:
    found = stored(built(), manager("kubectl-edit", fields))
    assert difference.foreign_managers(found) == ("kubectl-edit",)
    assert not difference.is_applied(found, built())


def test_what_is_put_instead_has_nothing_of_strangers() -> None:
    found = stored(built(), STATUS, manager("kubectl-edit", {"f:spec": {"f:minReadySeconds": {}}}))
    found["spec"]["minReadySeconds"] = 5
    found["metadata"]["labels"]["team"] = "a"
    found["status"] = {"replicas": 1}
    put = difference.without_foreign_fields(found, built())
    assert "minReadySeconds" not in put["spec"]
    assert put["metadata"]["managedFields"] == [OURS, STATUS]
    assert put["metadata"]["labels"]["team"] == "a"
    assert put["status"] == {"replicas": 1}
    assert put["metadata"]["resourceVersion"] == "1"


@pytest.mark.parametrize(
    ("found", "wanted", "same"),
    [
        ({"a": 1, "b": 2}, {"a": 1}, True),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ({"a": [1, 2]}, {"a": [1]}, False),
        ({"a": [{"x": 1, "d": 0}]}, {"a": [{"x": 1}]}, True),
        ({}, {"a": {}}, True),
        ({}, {"a": []}, True),
        ({"a": "x"}, {"a": {}}, False),
        ({"cpu": "500m"}, {"cpu": "0.5"}, True),
        ({"cpu": "500m"}, {"cpu": 0.5}, True),
        ({"memory": "1Gi"}, {"memory": "1024Mi"}, True),
        ({"memory": "1G"}, {"memory": "1Gi"}, False),
        ({"n": 1}, {"n": 2}, False),
        ({"b": True}, {"b": 1}, True),
        ({"b": False}, {"b": True}, False),
        ({"s": "v1"}, {"s": "v2"}, False),
    ],
)
def test_covers(found: Any, wanted: Any, same: bool) -> None:
    assert difference.covers(found, wanted) is same


@pytest.mark.parametrize("part", ["labels", "annotations", "ownerReferences"])
def test_lost_metadata_is_a_difference(part: str) -> None:
    found = stored(built())
    found["metadata"][part] = None
    assert not difference.is_applied(found, built())


def test_another_owner_beside_ours_is_none() -> None:
    found = stored(built())
    found["metadata"]["ownerReferences"] = [{"kind": "Team", "uid": "t"}, *found["metadata"]["ownerReferences"]]
    assert difference.is_applied(found, built())


def test_digests_tell_values_apart_and_not_their_order() -> None:
    assert common.digest({"a": 1, "b": [1, 2]}) == common.digest({"b": [1, 2], "a": 1})
    assert common.digest({"a": 1}) != common.digest({"a": 2})


def autoscaled(replicas: int, **spec: Any) -> dict[str, Any]:
    """A Deployment of which an autoscaler has set the number of pods."""
    scale = manager("kube-controller-manager", {"f:spec": {"f:replicas": {}}}) | {"subresource": "scale"}
    found = stored(built(**spec), scale)
    found["spec"]["replicas"] = replicas
    return found


def test_the_number_of_pods_that_an_autoscaler_sets_stays() -> None:
    found = autoscaled(4)
    assert not difference.is_applied(found, built())
    assert difference.is_applied(found, difference.scaled(found, built()))
    other = built(env=[{"name": "A", "value": "1"}])
    assert difference.scaled(found, other)["spec"]["replicas"] == 4, "another change does not scale it down"


@pytest.mark.parametrize(
    ("found", "wanted", "replicas"),
    [
        (autoscaled(4), built(replicas=2), 2),
        (autoscaled(4), built(paused=True), 0),
        (autoscaled(0), built(), 1),
        (autoscaled(4, paused=True), built(), 1),
        (stored(built(replicas=1)) | {"spec": {"replicas": 4}}, built(), 1),
        (None, built(), 1),
    ],
    ids=["the Sensor asks for another", "paused", "none at all", "resumed", "not by scale", "new"],
)
def test_until_the_sensor_says_otherwise(found: Any, wanted: dict[str, Any], replicas: int) -> None:
    assert difference.scaled(found, wanted)["spec"]["replicas"] == replicas


def test_fields_of_others_are_named_by_their_first_two_names() -> None:
    scale = manager("hpa", {"f:spec": {"f:replicas": {}}}) | {"subresource": "scale"}
    template: dict[str, Any] = {"f:spec": {"f:template": {"f:spec": {"f:tolerations": {}}}, "f:minReadySeconds": {}}}
    found = stored(built(), scale, STATUS, manager("kyverno", template), manager("kubectl", RESTARTED))
    assert difference.foreign_fields(found) == ("spec.minReadySeconds", "spec.template")
    assert difference.foreign_fields(stored(built(), manager("x", {"f:data": {"f:token": {}}}))) == ("data.token",)
