"""The webhook sensor and the Kubernetes sensor as pods, as their manifests have them."""

import hashlib
import hmac
import json
import uuid
from collections.abc import Iterator

import httpx
import pytest
from support.eventually import eventually
from support.killer import kill_container
from support.kubectl import Kubectl
from support.system import REPOSITORY, SYSTEM, System, Tunnel

SECRET = "a-secret-of-this-test"


@pytest.fixture(scope="module")
def webhooks(pack: None, kube: Kubectl) -> Iterator[Tunnel]:
    """The pack's webhook sensor with a secret, reached through its Service."""
    kube.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "attune-webhooks", "namespace": SYSTEM},
            "stringData": {"github": SECRET},
        }
    )
    kube("wait", "--for=condition=Ready", "sensor/core.webhook", "-n", SYSTEM, "--timeout=180s")
    tunnel = Tunnel(kube, "sensor-core-webhook")
    yield tunnel
    tunnel.close()


@pytest.fixture(scope="module")
def watching(chart: None, kube: Kubectl) -> None:
    """The Kubernetes sensor with its rights."""
    kube("apply", "-f", str(REPOSITORY / "packs" / "kubernetes"))
    kube("wait", "--for=condition=Ready", "sensor/core.kubernetes", "-n", SYSTEM, "--timeout=180s")


def signed(body: bytes, delivery: str) -> dict[str, str]:
    digest = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    return {
        "X-Hub-Signature-256": f"sha256={digest}",
        "X-GitHub-Delivery": delivery,
        "Content-Type": "application/json",
    }


def test_signed_request_becomes_an_event(system: System, webhooks: Tunnel) -> None:
    path = f"/{system.namespace}/push"
    auth = {"type": "github", "secrets": ["attune-webhooks/github"]}
    rule = system.rule("push", trigger="core.webhook", parameters={"path": path, "auth": auth})
    rule.wait_condition("Active", "True", within=180)  # kubelet brings a Secret that was made later
    body = json.dumps({"ref": "main"}).encode()

    def post(content: bytes, headers: dict[str, str] | None = None) -> httpx.Response:
        return webhooks.send("POST", path, content=content, headers=headers)

    answers = [post(body, signed(body, "d-1")) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert post(b"{}", signed(body, "d-2")).status_code == 401
    [event] = rule.wait_events(lambda found: len(found) >= 1, within=20)
    assert {answer.json()["id"] for answer in answers} == {event.id}
    assert event.payload["body"] == {"ref": "main"}
    rule.patch({"enabled": False})
    rule.wait_condition("Active", "False", reason="Disabled")

    def status() -> str:
        return str(post(body, signed(body, "d-3")).json().get("status"))

    eventually(lambda: status() == "disabled", within=10, what="requests are accepted and forgotten")
    assert post(b"{}").status_code == 401


def test_webhooks_pod_has_no_rights_and_its_secret_as_files(system: System, webhooks: Tunnel) -> None:
    pod = system.wait_ready_pod("core.webhook", SYSTEM)
    assert pod["spec"]["automountServiceAccountToken"] is False
    listed = system.kube(
        "exec", pod["metadata"]["name"], "-n", SYSTEM, "--", "ls", "/var/run/attune/secrets/attune-webhooks"
    )
    assert "github" in listed


def test_last_state_of_each_is_reported_though_the_pod_is_killed(system: System, watching: None) -> None:
    rule = system.rule(
        "maps",
        trigger="core.kubernetes",
        parameters={"apiVersion": "v1", "kind": "ConfigMap", "labelSelector": "storm=yes", "payload": "metadata"},
    )
    rule.wait_condition("Active", "True", within=60)

    def change(label: str) -> None:
        items = [
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": f"storm-{n}", "namespace": system.namespace, "labels": {"storm": "yes"}},
                "data": {"value": label},
            }
            for n in range(50)
        ]
        system.kube(
            "apply", "--server-side", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
        )

    change("made")
    for kill in range(3):
        pod = system.wait_ready_pod("core.kubernetes", SYSTEM, within=120)
        if kill < 2:
            kill_container(system.kube, pod)
        else:
            system.kube.delete("pod", pod["metadata"]["name"], SYSTEM, "--wait=false")
        change(f"change {kill}")
    system.wait_ready_pod("core.kubernetes", SYSTEM, within=120)
    change(f"last {uuid.uuid4().hex}")
    maps = system.kube.list("configmaps", system.namespace, "storm=yes")
    last = {(each["metadata"]["name"], each["metadata"]["resourceVersion"]) for each in maps}
    assert len(last) == 50
    events = rule.wait_events(
        lambda found: last <= {(e.payload["name"], e.payload["resourceVersion"]) for e in found}, within=120
    )
    seen = [(event.payload["name"], event.payload["resourceVersion"]) for event in events]
    assert len(seen) == len(set(seen)), "a state was reported twice"


def test_what_the_account_may_not_see_is_said_in_the_rule(system: System, watching: None) -> None:
    rule = system.rule("secrets", trigger="core.kubernetes", parameters={"apiVersion": "v1", "kind": "Secret"})
    found = rule.wait_condition("Active", "False", reason="Failing", within=60)
    assert "403" in found["message"]
