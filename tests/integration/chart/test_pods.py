"""What the chart's values add to its pods: labels, variables, volumes, accounts, images. And what they may not replace."""

import pytest
from support.helm_chart import CHART, Manifest, helm, pods, refusal, template

COMPONENTS = ("operator", "api", "actions", "nats")
DIGEST = "sha256:" + "0123456789abcdef" * 4


def labels(manifest: Manifest) -> dict[str, str]:
    found: dict[str, str] = manifest["metadata"]["labels"]
    return found


def test_common_labels_are_on_every_object_and_pod_and_in_no_selector() -> None:
    several = ["commonLabels.team=data", "api.database.existingSecret=db", "api.replicas=2", "actions.replicas=2"]
    manifests = template(*several)
    assert all(labels(manifest)["team"] == "data" for manifest in manifests)
    assert all(labels(pod)["team"] == "data" for pod in pods(manifests).values())
    for manifest in manifests:
        spec = manifest.get("spec", {})
        found = [spec.get("podSelector"), spec.get("selector")]
        assert "team" not in str(found), manifest["metadata"]["name"]


def test_the_databases_ca_reaches_the_container_that_migrates_too() -> None:
    manifests = template(
        "api.database.existingSecret=db",
        "api.extraEnv[0].name=PGSSLROOTCERT",
        "api.extraEnv[0].value=/etc/more/ca.crt",
        "api.extraVolumes[0].name=more",
        "api.extraVolumes[0].secret.secretName=ca",
        "api.extraVolumeMounts[0].name=more",
        "api.extraVolumeMounts[0].mountPath=/etc/more",
    )
    spec = pods(manifests)["api"]["spec"]
    for container in (*spec["initContainers"], *spec["containers"]):
        assert {"name": "PGSSLROOTCERT", "value": "/etc/more/ca.crt"} in container["env"]
        assert {"name": "more", "mountPath": "/etc/more"} in container["volumeMounts"]


@pytest.mark.parametrize("component", COMPONENTS)
def test_each_components_pods_take_additions(component: str) -> None:
    manifests = template(
        "priorityClassName=usual",
        "hostAliases[0].ip=10.0.0.1",
        "hostAliases[0].hostnames={db.example}",
        f"{component}.priorityClassName=high",
        f"{component}.hostAliases[0].ip=10.0.0.2",
        f"{component}.hostAliases[0].hostnames={{proxy.example}}",
        f"{component}.podLabels.team=a",
        f"{component}.podAnnotations.note=b",
        f"{component}.extraEnv[0].name=TZ",
        f"{component}.extraEnv[0].value=UTC",
        f"{component}.extraVolumes[0].name=more",
        f"{component}.extraVolumes[0].configMap.name=settings",
        f"{component}.extraVolumeMounts[0].name=more",
        f"{component}.extraVolumeMounts[0].mountPath=/etc/more",
    )
    found = pods(manifests)
    plain = pods(template())
    for name, pod in found.items():
        spec = pod["spec"]
        if name != component:
            assert (spec["priorityClassName"], len(spec["hostAliases"])) == ("usual", 1)
            assert pod["metadata"] == plain[name]["metadata"]
            assert spec["containers"] == plain[name]["spec"]["containers"]
            continue
        assert spec["priorityClassName"] == "high"
        assert [alias["ip"] for alias in spec["hostAliases"]] == ["10.0.0.1", "10.0.0.2"]
        assert pod["metadata"]["labels"] == {**plain[name]["metadata"]["labels"], "team": "a"}
        assert pod["metadata"]["annotations"] == {**plain[name]["metadata"]["annotations"], "note": "b"}
        [container] = spec["containers"]
        assert {"name": "TZ", "value": "UTC"} in container["env"]
        assert {"name": "more", "mountPath": "/etc/more"} in container["volumeMounts"]
        assert {"name": "more", "configMap": {"name": "settings"}} in spec["volumes"]


def test_annotations_for_prometheus_can_be_replaced() -> None:
    quoted = ["--set-string", r"api.podAnnotations.prometheus\.io/scrape=false"]
    text = helm("template", "attune", str(CHART), *quoted, "--show-only", "templates/api.yaml").stdout
    assert text.count('prometheus.io/scrape: "false"') == 1
    assert 'prometheus.io/scrape: "true"' not in text


@pytest.mark.parametrize("component", ["operator", "api", "actions"])
def test_an_existing_account_gets_the_rights_and_none_is_made(component: str) -> None:
    ours, theirs = f"attune-{component}", "platform-account"
    manifests = template(f"{component}.serviceAccount.create=false", f"{component}.serviceAccount.name={theirs}")
    assert pods(manifests)[component]["spec"]["serviceAccountName"] == theirs
    accounts = {m["metadata"]["name"] for m in manifests if m["kind"] == "ServiceAccount"}
    assert not {ours, theirs} & accounts
    subjects = {s["name"] for m in manifests if m["kind"].endswith("RoleBinding") for s in m["subjects"]}
    assert theirs in subjects
    assert ours not in subjects


def test_an_account_of_the_chart_can_have_another_name_and_annotations() -> None:
    key = r"api.serviceAccount.annotations.eks\.amazonaws\.com/role-arn"
    manifests = template("api.serviceAccount.name=events", f"{key}=arn:aws:iam::1:role/events")
    [account] = [m for m in manifests if m["kind"] == "ServiceAccount" and m["metadata"]["name"] == "events"]
    assert account["metadata"]["annotations"] == {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/events"}
    assert account["automountServiceAccountToken"] is False
    assert pods(manifests)["api"]["spec"]["serviceAccountName"] == "events"


def test_a_digest_pins_an_image_in_a_registry_of_ones_own() -> None:
    digests = [f"{component}.image.digest={DIGEST}" for component in COMPONENTS]
    found = pods(template("imageRegistry=registry.example/mirror", "nats.image.tag=v9", *digests))
    images = {name: pod["spec"]["containers"][0]["image"] for name, pod in found.items()}
    assert images == {
        **{name: f"registry.example/mirror/attune/{name}:0.1.0@{DIGEST}" for name in ("operator", "api", "actions")},
        "nats": f"registry.example/mirror/attune/nats:v9@{DIGEST}",
    }


@pytest.mark.parametrize("component", ["api", "actions"])
def test_several_replicas_are_spread_and_have_a_budget(component: str) -> None:
    manifests = template("api.database.existingSecret=db", f"{component}.replicas=3")
    [budget] = [m for m in manifests if m["kind"] == "PodDisruptionBudget"]
    assert budget["metadata"]["name"] == f"attune-{component}"
    pod = pods(manifests)[component]
    selector = budget["spec"]["selector"]["matchLabels"]
    assert selector.items() <= pod["metadata"]["labels"].items()
    spread = pod["spec"]["topologySpreadConstraints"]
    assert [each["labelSelector"]["matchLabels"] for each in spread] == [selector, selector]
    assert all("topologySpreadConstraints" not in p["spec"] for name, p in pods(manifests).items() if name != component)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([r"commonLabels.app\.kubernetes\.io/name=x"], ["commonLabels: app.kubernetes.io/name is the chart's own"]),
        (
            [r"operator.podLabels.app\.kubernetes\.io/instance=x"],
            ["operator.podLabels: app.kubernetes.io/instance is the chart's own"],
        ),
        (
            [r"nats.podAnnotations.attune\.dev/configuration=x"],
            ["nats.podAnnotations: attune.dev/configuration is the chart's own"],
        ),
        (["commonLabels.team=a b"], ["/commonLabels/team", "does not match pattern"]),
        (["commonLabels.version=1"], ["/commonLabels/version", "want string"]),
        (["api.image.digest=0123"], ["/api/image/digest", "does not match pattern"]),
        (["api.serviceAccount.create=false"], ["/api/serviceAccount/name", "minLength"]),
        (["api.extraEnv[0].nam=x"], ["/api/extraEnv/0"]),
        (["api.extraEnv[0].name=ATTUNE_API_PORT"], ["api.extraEnv: the variable ATTUNE_API_PORT is there already"]),
        (["nats.extraVolumes[0].name=config"], ["nats.extraVolumes: the volume config is there already"]),
        (
            ["actions.extraVolumeMounts[0].name=tmp", "actions.extraVolumeMounts[0].mountPath=/tmp"],
            ["actions.extraVolumeMounts: the path /tmp is there already"],
        ),
    ],
)
def test_what_the_chart_needs_itself_cannot_be_replaced(values: list[str], words: list[str]) -> None:
    said = refusal(*values)
    assert all(word in said for word in words), said
