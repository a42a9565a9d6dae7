"""The chart as helm renders it: no more rights than documented, and no pod beyond the restricted Pod Security level."""

import json
import re
import shutil
import subprocess
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.rights import documented

from attune_cluster.settings import Settings
from attune_cluster.tools import tools
from attune_contract import names
from attune_contract.quotas import Quotas
from attune_operator.credentials.keystore import KEYS_SECRET
from attune_operator.credentials.nats_auth import ACTIONS_SECRET, API_SECRET, AUTH_SECRET, CONFIG_SECRET

CHART = Path(__file__).parents[3] / "deploy" / "helm" / "attune"
Manifest = dict[str, Any]

OWN_NATS = ["--set", "nats.enabled=false", "--set", "nats.externalUrl=nats://nats.example:4222"]
CONFIGURATIONS = {
    "defaults": [],
    "postgresql": ["--set", "api.database.existingSecret=database", "--set", "api.replicas=3"],
    "own nats": OWN_NATS,
    "own nats with credentials": [
        *OWN_NATS,
        *("--set", "nats.auth=none", "--set", "nats.credsSecret=nats-user"),
    ],
    "no volumes": ["--set", "nats.persistence.enabled=false", "--set", "api.persistence.enabled=false"],
    "tls": ["--set", "tls.enabled=true", "--set", "tls.existingSecret=certificate"],
    "tls by the operator": ["--set", "tls.enabled=true"],
    "no tls": ["--set", "tls.enabled=false"],
    "tls by cert-manager": [
        *("--set", "tls.enabled=true", "--set", "tls.certManager.enabled=true"),
        *("--set", "tls.certManager.issuerRef.name=authority"),
    ],
    "three nats servers": ["--set", "nats.replicas=3"],
    "three nats servers over tls": ["--set", "nats.replicas=3", "--set", "tls.enabled=true"],
    "sensor tokens": ["--set", "api.sensorTokens.enabled=true"],
    "no network policies": ["--set", "networkPolicies.enabled=false"],
    "two namespaces": ["--set", "watchNamespaces={one,two}"],
    "sensors in one namespace": ["--set", "sensorNamespaces={one}"],
}


@pytest.fixture(scope="module")
def helm() -> Path:
    return tools(Settings.from_environment(), ["helm"])["helm"]


def render(helm: Path, arguments: list[str], *, chart: Path = CHART) -> list[Manifest]:
    text = subprocess.run(
        [helm, "template", "attune", chart, "--namespace", "attune-system", *arguments],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return [manifest for manifest in yaml.safe_load_all(text) if manifest]


Right = tuple[str, str, str, str]


def flat(*rules: dict[str, list[str]]) -> set[Right]:
    """Every (group, resource, verb, name) that the rules grant; a name is empty where it may be any."""
    return {
        right
        for rule in rules
        for right in product(rule["apiGroups"], rule["resources"], rule["verbs"], rule.get("resourceNames", [""]))
    }


def rights(*sections: str) -> set[Right]:
    """What these tables of docs/rbac.md grant together."""
    return flat(*(rule for section in sections for rule in documented(section)))


def role(manifests: list[Manifest], kind: str, name: str, namespace: str | None = None) -> set[Right]:
    [found] = [
        m
        for m in manifests
        if (m["kind"], m["metadata"]["name"], m["metadata"].get("namespace")) == (kind, name, namespace)
    ]
    return flat(*found["rules"])


OPERATOR = "attune-system-attune-operator"


def test_the_operators_rights_are_those_of_the_document(helm: Path) -> None:
    manifests = render(helm, [])
    assert role(manifests, "Role", "attune-operator", "attune-system") == rights("own namespace")
    everywhere = rights("watched namespaces", "sensor namespaces", "all namespaces")
    assert role(manifests, "ClusterRole", OPERATOR) == everywhere


def test_in_its_own_namespace_the_operator_has_rights_to_what_it_makes_there_by_name(helm: Path) -> None:
    made = {KEYS_SECRET, AUTH_SECRET, CONFIG_SECRET, API_SECRET, ACTIONS_SECRET}
    for configuration, more in (
        ("defaults", {"attune-tls", "attune-tls-authority"}),
        ("no tls", set()),
        ("tls", set()),
        ("tls by the operator", {"attune-tls", "attune-tls-authority"}),
    ):
        granted = role(render(helm, CONFIGURATIONS[configuration]), "Role", "attune-operator", "attune-system")
        secrets = {(verb, name) for _, resource, verb, name in granted if resource == "secrets"}
        assert secrets == {("create", ""), *product(("get", "update"), made | more)}


def test_limited_to_namespaces_it_has_rights_in_those_only(helm: Path) -> None:
    manifests = render(helm, CONFIGURATIONS["two namespaces"])
    for namespace in ("one", "two"):
        granted = role(manifests, "Role", OPERATOR, namespace)
        assert granted == rights("watched namespaces", "sensor namespaces")
    assert role(manifests, "ClusterRole", OPERATOR) == {("", "namespaces", "get", name) for name in ("one", "two")}


def test_with_sensors_in_one_namespace_it_reads_no_secret_of_the_others(helm: Path) -> None:
    manifests = render(helm, CONFIGURATIONS["sensors in one namespace"])
    assert role(manifests, "Role", OPERATOR, "one") == rights("sensor namespaces")
    everywhere = role(manifests, "ClusterRole", OPERATOR)
    others = rights("watched namespaces", "other namespaces", "all namespaces")
    assert everywhere == others | {("", "namespaces", "get", "")}
    assert not {"secrets", "deployments", "pods", "serviceaccounts"} & {resource for _, resource, _, _ in everywhere}
    roles = {(m["kind"], m["metadata"].get("namespace")) for m in manifests if m["metadata"]["name"] == OPERATOR}
    assert roles == {
        *(("Role", "one"), ("RoleBinding", "one")),
        *(("ClusterRole", None), ("ClusterRoleBinding", None)),
    }


def test_with_sensors_in_one_of_two_watched_namespaces_the_other_has_no_right_to_secrets(helm: Path) -> None:
    manifests = render(helm, [*CONFIGURATIONS["two namespaces"], "--set", "sensorNamespaces={one}"])
    others = rights("watched namespaces", "other namespaces")
    assert role(manifests, "Role", OPERATOR, "one") == others | rights("sensor namespaces")
    assert role(manifests, "Role", OPERATOR, "two") == others


def test_sensors_in_a_namespace_that_is_not_watched_are_refused(helm: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        render(helm, [*CONFIGURATIONS["two namespaces"], "--set", "sensorNamespaces={three}"])
    assert "sensorNamespaces: three is not in watchNamespaces" in refused.value.stderr


def test_the_api_has_the_private_signing_keys_only_where_somebody_wants_sensor_tokens(helm: Path) -> None:
    def mentions(configuration: str) -> bool:
        manifests = render(helm, CONFIGURATIONS[configuration])
        [api] = [m for m in manifests if (m["kind"], m["metadata"]["name"]) == ("Deployment", "attune-api")]
        return KEYS_SECRET in json.dumps(api)

    given = {configuration for configuration in CONFIGURATIONS if mentions(configuration)}
    assert given == {"sensor tokens"}


def test_the_command_lines_account_may_read_and_make_tokens_and_no_more(helm: Path) -> None:
    name = "attune-system-attune-cli"
    expected = {("attune.dev", kind, verb, "") for kind in ("sensors", "rules") for verb in ("get", "list")}

    def bound(arguments: list[str]) -> set[tuple[str, str | None]]:
        manifests = render(helm, arguments)
        if any(m["metadata"]["name"] == name for m in manifests):
            assert role(manifests, "ClusterRole", name) == {*expected, ("attune.dev", "sensors/token", "create", "")}
        bindings = [m for m in manifests if m["kind"].endswith("RoleBinding") and m["roleRef"]["name"] == name]
        return {(m["kind"], m["metadata"].get("namespace")) for m in bindings}

    assert bound([]) == {("ClusterRoleBinding", None)}
    assert bound(CONFIGURATIONS["two namespaces"]) == {("RoleBinding", "one"), ("RoleBinding", "two")}
    assert bound(["--set", "commandLine.serviceAccount=false"]) == set()


def test_the_runner_of_actions_has_the_rights_of_the_document_and_no_others(helm: Path) -> None:
    manifests = render(helm, [])
    name = "attune-system-attune-actions"
    assert role(manifests, "ClusterRole", name) == rights("actions")
    bound = [m for m in manifests if m["kind"].endswith("RoleBinding") and m["subjects"][0]["name"] == "attune-actions"]
    assert [m["roleRef"]["name"] for m in bound] == [name]
    limited = render(helm, CONFIGURATIONS["two namespaces"])
    bound = [m for m in limited if m["kind"].endswith("RoleBinding") and m["subjects"][0]["name"] == "attune-actions"]
    assert [(m["kind"], m["metadata"]["namespace"]) for m in bound] == [("RoleBinding", "one"), ("RoleBinding", "two")]
    assert not [m for m in render(helm, ["--set", "actions.enabled=false"]) if "actions" in m["metadata"]["name"]]


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_every_pod_is_restricted_and_bounded(helm: Path, configuration: str) -> None:
    pods = [
        m["spec"]["template"]["spec"]
        for m in render(helm, CONFIGURATIONS[configuration])
        if "template" in m.get("spec", {})
    ]
    assert pods
    for pod in pods:
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"] + pod.get("initContainers", []):
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"] is True
            assert security["allowPrivilegeEscalation"] is False
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["limits"]["memory"]
        mounted = {mount["name"] for container in pod["containers"] for mount in container["volumeMounts"]}
        claimed = {volume["name"] for volume in pod["volumes"]}
        assert claimed <= mounted


def test_webhooks_are_reached_from_outside_only_where_somebody_says_so(helm: Path) -> None:
    outside = {"Ingress", "HTTPRoute"}
    assert not outside & {manifest["kind"] for manifest in render(helm, [])}
    options = [
        "webhook.ingress.enabled=true",
        "webhook.ingress.host=hooks.example.org",
        "webhook.ingress.className=nginx",
        "webhook.ingress.tls.secretName=hooks-tls",
        "webhook.httpRoute.enabled=true",
        "webhook.httpRoute.parentRefs[0].name=public",
        "webhook.httpRoute.hostnames={hooks.example.org}",
    ]
    rendered = render(helm, [part for option in options for part in ("--set", option)])
    found = {manifest["kind"]: manifest["spec"] for manifest in rendered if manifest["kind"] in outside}
    service = names.sensor_service_name("core.webhook")
    ingress, route = found["Ingress"], found["HTTPRoute"]
    assert ingress["ingressClassName"] == "nginx"
    assert ingress["tls"] == [{"hosts": ["hooks.example.org"], "secretName": "hooks-tls"}]
    [rule] = ingress["rules"]
    assert rule["host"] == "hooks.example.org"
    [path] = rule["http"]["paths"]
    assert path["backend"]["service"] == {"name": service, "port": {"number": 80}}
    assert route["parentRefs"] == [{"name": "public"}]
    assert route["rules"][0]["backendRefs"] == [{"name": service, "port": 80}]


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_the_monitoring_port_of_nats_is_closed(helm: Path, configuration: str) -> None:
    # It has no password and shows the consumers, inboxes and users of every sensor.
    manifests = [m for m in render(helm, CONFIGURATIONS[configuration]) if m["metadata"]["name"] == "attune-nats"]
    by_kind = {manifest["kind"]: manifest for manifest in manifests}
    if not by_kind:
        return  # a server of one's own
    settings = re.sub(r"^\s*#.*", "", by_kind["ConfigMap"]["data"]["nats.conf"], flags=re.MULTILINE)
    assert not re.search(r"\b(https?(_port)?|monitor_port|prof_port)\b", settings)
    assert [port["name"] for port in by_kind["Service"]["spec"]["ports"]] == ["nats"]
    [container] = by_kind["StatefulSet"]["spec"]["template"]["spec"]["containers"]
    # Clients; and servers of the cluster, which need a password.
    assert [port["containerPort"] for port in container["ports"]] in ([4222], [4222, 6222])
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["tcpSocket"] == {"port": "nats"}


@pytest.mark.parametrize(
    ("version", "label"),
    [("0.1.0+95f1806eb07f", "attune-0.1.0_95f1806eb07f"), ("0.1.0+" + "a" * 80, "attune-0.1.0_" + "a" * 50)],
)
def test_versions_with_a_digest_or_a_patch_are_labels_and_tags(
    helm: Path, tmp_path: Path, version: str, label: str
) -> None:
    chart = tmp_path / "attune"
    shutil.copytree(CHART, chart)
    text = re.sub(r"(?m)^version:.*", f"version: {version}", (chart / "Chart.yaml").read_text())
    text = re.sub(r"(?m)^appVersion:.*", 'appVersion: "0.1.0+security-01"', text)
    (chart / "Chart.yaml").write_text(text)
    rendered = render(helm, [], chart=chart)
    labels = [manifest["metadata"].get("labels", {}) for manifest in rendered]
    assert {each["helm.sh/chart"] for each in labels if "helm.sh/chart" in each} == {label}
    value = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
    assert all(value.fullmatch(each) and len(each) <= 63 for found in labels for each in found.values())
    pods = [m["spec"]["template"]["spec"] for m in rendered if "template" in m.get("spec", {})]
    assert {c["image"].rpartition(":")[2] for pod in pods for c in pod["containers"]} == {"0.1.0_security-01"}


def test_nothing_random_is_rendered(helm: Path) -> None:
    # GitOps tools render again and again, and must see no difference.
    assert json.dumps(render(helm, [])) == json.dumps(render(helm, []))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "api.replicas=2"], "needs PostgreSQL"),
        (["--set", "nats.enabled=false"], "externalUrl"),
        (["--set", "api.logLevel=loud"], "/api/logLevel"),
        (["--set", "api.replica=2"], "replica"),
        (["--set", "tls.enabled=sometimes"], "/tls/enabled"),
        (["--set", "api.service.port=443"], "api.service.tlsPort"),
        (["--set", "tls.enabled=true", "--set", "tls.certManager.enabled=true"], "issuerRef"),
        (["--set", "nats.replicas=3", "--set", "nats.auth=none"], "managed"),
        (["--set", "nats.replicas=2"], "/nats/replicas"),
        (["--set", "operator.tokenMinTTL=soon"], "/operator/tokenMinTTL"),
        (["--set", "api.retention.days=-1"], "/api/retention/days"),
        (["--set", "api.podDisruptionBudget.maxUnavailable=0"], "maxUnavailable"),
        (["--set", "api.topologySpread.whenUnsatisfiable=Never"], "whenUnsatisfiable"),
        (["--set", "webhook.ingress.enabled=true"], "/webhook/ingress/host"),
        (["--set", "webhook.httpRoute.enabled=true"], "/webhook/httpRoute/parentRefs"),
    ],
)
def test_values_that_cannot_work_are_refused_with_a_reason(helm: Path, arguments: list[str], words: str) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        render(helm, arguments)
    assert words in refused.value.stderr


def _api(manifests: list[Manifest]) -> Manifest:
    [found] = [m for m in manifests if (m["kind"], m["metadata"]["name"]) == ("Deployment", "attune-api")]
    return found


def test_sqlite_is_one_replica_on_a_volume_and_postgresql_as_many_as_wanted(helm: Path) -> None:
    alone = render(helm, [])
    spec = _api(alone)["spec"]
    assert (spec["replicas"], spec["strategy"]["type"]) == (1, "Recreate")
    assert {"name": "data", "persistentVolumeClaim": {"claimName": "attune-api-data"}} in spec["template"]["spec"][
        "volumes"
    ]
    assert "topologySpreadConstraints" not in spec["template"]["spec"]
    assert [m for m in alone if m["kind"] == "PodDisruptionBudget"] == []

    several = render(
        helm,
        [
            *("--set", "api.database.existingSecret=db", "--set", "api.database.key=uri", "--set", "api.replicas=3"),
            *("--set", "api.topologySpread.whenUnsatisfiable=DoNotSchedule"),
        ],
    )
    deployment = _api(several)
    spec, pod = deployment["spec"], deployment["spec"]["template"]["spec"]
    assert (spec["replicas"], spec["strategy"]["type"]) == (3, "RollingUpdate")
    for container in (*pod["initContainers"], *pod["containers"]):
        [url] = [entry for entry in container["env"] if entry["name"] == "ATTUNE_API_DATABASE_URL"]
        assert url["valueFrom"] == {"secretKeyRef": {"name": "db", "key": "uri"}}
    labels = spec["selector"]["matchLabels"]
    assert [(c["topologyKey"], c["whenUnsatisfiable"]) for c in pod["topologySpreadConstraints"]] == [
        ("kubernetes.io/hostname", "DoNotSchedule"),
        ("topology.kubernetes.io/zone", "ScheduleAnyway"),
    ]
    assert all(c["labelSelector"]["matchLabels"] == labels for c in pod["topologySpreadConstraints"])
    [budget] = [m for m in several if m["kind"] == "PodDisruptionBudget"]
    assert budget["spec"] == {"maxUnavailable": 1, "selector": {"matchLabels": labels}}


@pytest.mark.parametrize(
    ("arguments", "age", "count"),
    [
        ([], "7776000", "0"),
        (["--set", "api.retention.days=0"], "0", "0"),
        (["--set", "api.retention.days=30", "--set", "api.retention.eventsPerRule=100000000"], "2592000", "100000000"),
    ],
)
def test_how_long_events_are_kept(helm: Path, arguments: list[str], age: str, count: str) -> None:
    [container] = _api(render(helm, arguments))["spec"]["template"]["spec"]["containers"]
    environment = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert environment["ATTUNE_API_EVENTS_MAX_AGE"] == age
    assert environment["ATTUNE_API_EVENTS_PER_RULE"] == count


def test_quotas_reach_the_api_as_they_are_written(helm: Path) -> None:
    arguments = ["--set", "quotas.eventsPerSecond=1000000", "--set", "quotas.namespaces.shop.eventsPerSecond=7"]
    [container] = _api(render(helm, arguments))["spec"]["template"]["spec"]["containers"]
    environment = {entry["name"]: entry.get("value") for entry in container["env"]}
    quotas = Quotas.model_validate_json(environment["ATTUNE_API_QUOTAS"])
    assert (quotas.events_per_second_of("any"), quotas.events_per_second_of("shop")) == (1_000_000, 7)


def test_quotas_reach_the_operator_and_limit_no_rules_by_default(helm: Path) -> None:
    for arguments, limited in ([], False), (["--set", "quotas.namespaces.shop.rulesPerSensor=5"], True):
        manifests = render(helm, arguments)
        assert Quotas.model_validate_json(_operator_env(manifests)["ATTUNE_OPERATOR_QUOTAS"]).limits_rules is limited


def policies(manifests: list[Manifest]) -> dict[str, Manifest]:
    return {m["metadata"]["name"]: m["spec"] for m in manifests if m["kind"] == "NetworkPolicy"}


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_every_pod_is_behind_a_network_policy_that_opens_its_own_ports_only(helm: Path, configuration: str) -> None:
    manifests = render(helm, CONFIGURATIONS[configuration])
    found = policies(manifests)
    if configuration == "no network policies":
        assert found == {}
        return
    templates = [m["spec"]["template"] for m in manifests if "template" in m.get("spec", {})]
    assert templates
    for template in templates:
        labels = template["metadata"]["labels"].items()
        [policy] = [each for each in found.values() if each["podSelector"]["matchLabels"].items() <= labels]
        declared = {port["name"] for each in template["spec"]["containers"] for port in each["ports"]}
        opened = [port["port"] for each in policy["ingress"] for port in each["ports"]]
        assert set(opened) <= declared
        assert policy["policyTypes"] == ["Ingress"]


def test_nats_takes_sensors_the_release_and_who_else_is_named(helm: Path) -> None:
    sensors = {
        "namespaceSelector": {},
        "podSelector": {"matchExpressions": [{"key": names.SENSOR_LABEL, "operator": "Exists"}]},
    }
    release = {"podSelector": {"matchLabels": {"app.kubernetes.io/instance": "attune"}}}
    [rule] = policies(render(helm, []))["attune-nats"]["ingress"]
    assert rule["from"] == [sensors, release]
    named = ["--set", "networkPolicies.natsFrom[0].podSelector.matchLabels.app=reader"]
    [rule] = policies(render(helm, named))["attune-nats"]["ingress"]
    assert rule["from"] == [sensors, release, {"podSelector": {"matchLabels": {"app": "reader"}}}]


def test_the_api_takes_everybody_unless_peers_are_named(helm: Path) -> None:
    [rule] = policies(render(helm, []))["attune-api"]["ingress"]
    assert "from" not in rule
    named = ["--set", "networkPolicies.apiFrom[0].podSelector.matchLabels.app=prometheus"]
    [rule] = policies(render(helm, named))["attune-api"]["ingress"]
    assert {"podSelector": {"matchLabels": {"app": "prometheus"}}} in rule["from"]
    assert len(rule["from"]) == 3


def test_private_keys_are_mounted_only_where_they_are_needed(helm: Path) -> None:
    def mounted(arguments: list[str]) -> set[str]:
        secrets = "attune-signing-keys"
        return {
            m["metadata"]["name"]
            for m in render(helm, arguments)
            if "template" in m.get("spec", {}) and secrets in json.dumps(m["spec"]["template"])
        }

    assert mounted([]) == set()
    assert mounted(CONFIGURATIONS["sensor tokens"]) == {"attune-api"}


def test_how_long_runs_are_kept(helm: Path) -> None:
    arguments = ["--set", "api.retention.runDays=7", "--set", "api.retention.runsPerRule=100000000"]
    [container] = _api(render(helm, arguments))["spec"]["template"]["spec"]["containers"]
    environment = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert environment["ATTUNE_API_RUNS_MAX_AGE"] == "604800"
    assert environment["ATTUNE_API_RUNS_PER_RULE"] == "100000000"


def _operator_env(manifests: list[Manifest]) -> dict[str, str]:
    return _env(manifests, "attune-operator")


def _env(manifests: list[Manifest], name: str) -> dict[str, str]:
    [found] = [m for m in manifests if (m["kind"], m["metadata"]["name"]) == ("Deployment", name)]
    [container] = found["spec"]["template"]["spec"]["containers"]
    return {each["name"]: each.get("value", "") for each in container["env"]}


def test_a_certificate_that_the_operator_makes_has_the_names_that_clients_use(helm: Path) -> None:
    manifests = render(helm, CONFIGURATIONS["tls by the operator"])
    env = _operator_env(manifests)
    assert env["ATTUNE_OPERATOR_TLS_SECRET"] == "attune-tls"
    hosts = env["ATTUNE_OPERATOR_TLS_HOSTS"].split(",")
    for url in ("ATTUNE_OPERATOR_NATS_URL", "ATTUNE_OPERATOR_SENSOR_NATS_URL", "ATTUNE_OPERATOR_SENSOR_API_URL"):
        assert env[url].partition("://")[2].partition(":")[0] in hosts
    mounted = {
        volume["secret"]["secretName"]
        for manifest in manifests
        if manifest["kind"] in {"Deployment", "StatefulSet"} and manifest["metadata"]["name"] != "attune-operator"
        for volume in manifest["spec"]["template"]["spec"]["volumes"]
        if volume["name"] == "tls"
    }
    assert mounted == {"attune-tls"}


def test_the_operator_watches_the_certificate_of_the_charts_nats_only(helm: Path) -> None:
    assert "ATTUNE_OPERATOR_NATS_CERTIFICATE_FILE" in _operator_env(render(helm, CONFIGURATIONS["tls"]))
    other = render(helm, [*CONFIGURATIONS["tls"], *OWN_NATS])
    assert "ATTUNE_OPERATOR_NATS_CERTIFICATE_FILE" not in _operator_env(other)


def test_one_value_says_how_many_servers_store_each_stream(helm: Path) -> None:
    manifests = render(helm, [*OWN_NATS, "--set", "nats.streamReplicas=3"])
    for part in ("operator", "api", "actions"):
        assert _env(manifests, f"attune-{part}")[f"ATTUNE_{part.upper()}_NATS_REPLICAS"] == "3"
