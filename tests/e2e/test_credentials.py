"""Credentials are renewed under a running sensor, refused the moment they should be, and shown to nobody."""

import base64
import json
import re
import socket
import uuid
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from support.eventually import eventually
from support.kubectl import CommandFailedError, Manifest
from support.system import SYSTEM, System


def token_of(system: System, sensor: str) -> str:
    secret = system.kube.get("secret", f"sensor-{sensor}", system.namespace)
    return base64.b64decode(secret["data"]["token"]).decode()


def issued_at(system: System, sensor: str) -> str:
    value: str = system.kube.get("sensor", sensor, system.namespace)["status"]["token"]["issuedAt"]
    return value


def whoami(system: System, token: str) -> int:
    return system.api.request("GET", "/auth/whoami", token=token).status_code


def published(system: System) -> set[str]:
    """The names of the public keys that the API has."""
    return {key["kid"] for key in system.api.request("GET", "/.well-known/jwks.json").json()["keys"]}


def wait_taken(system: System, sensor: str) -> None:
    """Until the API takes the token in the Sensor's Secret: each is written on its own, and the keys reach the API by a third."""
    eventually(lambda: whoami(system, token_of(system, sensor)) == 200, within=60, what=f"{sensor}'s token is taken")


def pod_identity(pod: Manifest) -> tuple[str, int]:
    [container] = pod["status"]["containerStatuses"]
    return pod["metadata"]["uid"], container["restartCount"]


@pytest.mark.both
def test_tokens_are_renewed_under_a_running_sensor_without_a_gap(system: System) -> None:
    system.sensor("own", token={"ttl": "30s"})
    rule = system.rule("steady", parameters={"interval": 1})
    rule.wait_events(lambda events: len(events) >= 1, within=15)
    pod = pod_identity(system.wait_ready_pod("own", system.namespace))

    seen = {issued_at(system, "own")}

    def renewed_three_times() -> bool:
        seen.add(issued_at(system, "own"))
        return len(seen) >= 4

    eventually(renewed_three_times, within=120, every=1, what="three renewals")
    # A rule that comes now shows that the NATS credentials were renewed as well.
    late = system.rule("late", parameters={"interval": 1})
    late.wait_events(lambda events: len(events) >= 2, within=10)
    renewed_at = datetime.now(UTC)
    rule.wait_unbroken(timedelta(seconds=1), enough=lambda events: events[-1].occurred_at > renewed_at)
    assert pod_identity(system.wait_ready_pod("own", system.namespace)) == pod


@pytest.mark.parametrize("away", ["deployment/attune-api", "statefulset/attune-nats"])
def test_what_is_away_across_a_renewal_catches_up_when_it_is_back(system: System, away: str) -> None:
    system.sensor("own", token={"ttl": "30s"})
    rule = system.rule("steady", parameters={"interval": 1})
    rule.wait_events(lambda events: len(events) >= 1, within=15)
    pod = pod_identity(system.wait_ready_pod("own", system.namespace))

    kube = system.kube
    kube("scale", away, "-n", SYSTEM, "--replicas=0")
    kube(
        "wait",
        "--for=delete",
        "pod",
        "-n",
        SYSTEM,
        "-l",
        f"app.kubernetes.io/name={away.split('/')[1]}",
        "--timeout=180s",
    )
    before = issued_at(system, "own")
    eventually(lambda: issued_at(system, "own") != before, within=45, every=1, what="a renewal meanwhile")
    kube("scale", away, "-n", SYSTEM, "--replicas=1")
    kube("rollout", "status", away, "-n", SYSTEM, "--timeout=180s")
    back_at = datetime.now(UTC)

    rule.wait_unbroken(
        timedelta(seconds=1), enough=lambda events: events[-1].occurred_at > back_at + timedelta(seconds=2)
    )
    rule.patch({"enabled": False})
    rule.wait_condition("Active", "False", reason="Disabled", within=30)
    assert pod_identity(system.wait_ready_pod("own", system.namespace)) == pod


@pytest.mark.both
def test_a_renewal_can_be_asked_for(system: System) -> None:
    system.sensor("own")
    before = issued_at(system, "own")
    # Times of tokens are whole seconds: one that was issued in this very second counts as renewed already.
    eventually(lambda: datetime.now(UTC) >= datetime.fromisoformat(before) + timedelta(seconds=1), within=5)
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    system.kube.patch("sensor", "own", system.namespace, {"metadata": {"annotations": {"attune.dev/rotate-at": now}}})
    eventually(lambda: issued_at(system, "own") != before, within=10, what="a renewed token")


@pytest.mark.both
def test_revoked_tokens_are_refused_within_two_seconds_and_the_sensor_goes_on(system: System) -> None:
    system.sensor("own")
    rule = system.rule("steady", parameters={"interval": 1})
    rule.wait_events(lambda events: len(events) >= 1, within=15)
    wait_taken(system, "own")
    stolen = token_of(system, "own")

    eventually(
        lambda: datetime.now(UTC) >= datetime.fromisoformat(issued_at(system, "own")) + timedelta(seconds=1), within=5
    )
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    system.kube.patch(
        "sensor", "own", system.namespace, {"metadata": {"annotations": {"attune.dev/revoke-before": now}}}
    )
    eventually(lambda: whoami(system, stolen) == 401, within=3, what="the revoked token is refused")
    wait_taken(system, "own")

    seen = len(rule.events())
    rule.wait_unbroken(timedelta(seconds=1), enough=lambda events: len(events) >= seen + 3)


@pytest.mark.both
def test_a_deleted_sensors_token_is_refused_within_two_seconds(system: System) -> None:
    system.sensor("own")
    wait_taken(system, "own")
    token = token_of(system, "own")
    system.kube.delete("sensor", "own", system.namespace, "--wait=false")
    eventually(lambda: whoami(system, token) == 401, within=3, what="the deleted Sensor's token is refused")
    # Neither does it come back to life with a Sensor of the same name.
    system.sensor("own")
    wait_taken(system, "own")
    assert whoami(system, token) == 401


@pytest.mark.both
def test_a_trigger_type_that_was_taken_away_is_refused_within_two_seconds(system: System) -> None:
    types = system.pack_sensor()["spec"]["triggerTypes"]
    system.sensor("own", triggerTypes=[*types, {"name": "extra.kind"}])
    rule = system.rule("extra", trigger="extra.kind", parameters={})
    rule.wait_condition("Accepted", "True")

    def post(token: str) -> int:
        body = {
            "id": str(uuid.uuid4()),
            "trigger_type": "extra.kind",
            "rule_uid": rule.uid,
            "rule_namespace": rule.namespace,
            "rule_name": rule.name,
            "occurred_at": datetime.now(UTC).isoformat(),
            "payload": {},
        }
        return system.api.request("POST", "/api/v1/events", token=token, json=body).status_code

    def taken() -> str | None:
        token = token_of(system, "own")
        return token if post(token) == 201 else None

    token = eventually(taken, within=30, what="the type is taken")
    assert token is not None
    system.kube.patch("sensor", "own", system.namespace, {"spec": {"triggerTypes": types}})
    eventually(lambda: post(token) in (401, 403), within=3, what="the type that was taken away is refused")


@pytest.mark.both
def test_lost_signing_keys_are_made_anew_and_no_hand_is_needed(system: System) -> None:
    rule = system.rule("steady", parameters={"interval": 1})
    rule.wait_events(lambda events: len(events) >= 1, within=15)
    before = system.kube.get("secret", "attune-signing-keys", SYSTEM)["metadata"]["uid"]
    known = published(system)
    system.kube.delete("secret", "attune-signing-keys", SYSTEM)

    def replaced() -> bool:
        found = system.kube.find("secret", "attune-signing-keys", SYSTEM)
        return found is not None and found["metadata"]["uid"] != before

    eventually(replaced, within=15, what="new signing keys")
    seen = len(rule.events())
    rule.wait_unbroken(timedelta(seconds=1), enough=lambda events: len(events) >= seen + 5)
    # kubelet brings the API the public half of the new key when it comes to it. Later tests find it there.
    eventually(lambda: published(system) - known, within=300, what="the API has the new public key")


def test_nats_refuses_strangers(system: System) -> None:
    def answers() -> tuple[bool, bytes, bytes]:
        with (
            system.kube.port_forward("service/attune-nats", 4222, SYSTEM) as port,
            socket.create_connection(("127.0.0.1", port), timeout=30) as stranger,
            stranger.makefile("rwb") as stream,
        ):
            required = json.loads(stream.readline().removeprefix(b"INFO "))["auth_required"]
            stream.write(b'CONNECT {"verbose": true}\r\nSUB attune.> 1\r\n')
            stream.flush()
            return required, stream.readline(), stream.readline()

    def refused() -> bool:
        found = answers()
        # Who takes more than two seconds to say who they are is refused for that.
        assert b"Authentication Timeout" not in found[1]
        assert found[1], "the tunnel ended before the answer came"
        return found == (True, b"-ERR 'Authorization Violation'\r\n", b"")

    eventually(refused, within=60, what="the server refuses a stranger and hangs up")


def test_a_sensor_outside_the_cluster_gets_a_token_by_its_owners_rights(system: System) -> None:
    kube, namespace = system.kube, system.namespace
    body = {"sensor_ref": f"{namespace}/outside", "trigger_types": ["acme.door"], "ttl_seconds": 3600}

    def ask(token: str, **change: object) -> tuple[int, Manifest]:
        answer = system.api.request("POST", "/auth/sensor-token", token=token, json={**body, **change})
        return answer.status_code, answer.json()

    assert ask("")[0] == 401
    for name in ("owner", "reader"):
        kube("create", "serviceaccount", name, "-n", namespace)
    kube("create", "role", "mint", "--verb=create", "--resource=sensors.attune.dev/token", "-n", namespace)
    kube("create", "rolebinding", "mint", "--role=mint", f"--serviceaccount={namespace}:owner", "-n", namespace)
    kube("create", "rolebinding", "view", "--clusterrole=view", f"--serviceaccount={namespace}:reader", "-n", namespace)
    owner, reader = (kube("create", "token", name, "-n", namespace).strip() for name in ("owner", "reader"))

    assert ask(reader)[0] == 403

    def given() -> Manifest:
        status, answer = ask(owner)
        assert status in (200, 201), answer
        found: Manifest = answer["data"]
        return found

    # The API server learns of a RoleBinding after it has taken it.
    data = eventually(given, within=30, what="the owner is given a token")
    assert data["sensor_ref"] == body["sensor_ref"]
    assert data["trigger_types"] == ["acme.door"]
    eventually(lambda: whoami(system, data["token"]) == 200, within=30, what="the token is taken")
    again = ask(owner)[1]["data"]
    assert again["identity_id"] == data["identity_id"]
    assert ask(owner, ttl_seconds=72 * 3600 + 1)[0] in (400, 422)


def secrets_of(system: System) -> set[str]:
    """Every secret text of the system: tokens, seeds, private keys."""
    found: set[str] = set()
    for namespace in (SYSTEM, system.namespace):
        for secret in system.kube.list("secrets", namespace):
            if not secret["metadata"]["name"].startswith(("attune-", "sensor-")):
                continue
            for content in (secret.get("data") or {}).values():
                text = base64.b64decode(content).decode(errors="replace")
                found |= set(re.findall(r"eyJ[\w-]+\.[\w-]+\.[\w-]+", text))  # tokens
                found |= set(re.findall(r"\bS[OAU][A-Z2-7]{56}\b", text))  # NATS seeds
                found |= set(re.findall(r'"d"\s*:\s*"([\w-]{40,})"', text))  # private keys
    return found


def running(system: System, namespace: str) -> set[str]:
    """The pods whose containers have started, and that are not ending."""
    return {
        pod["metadata"]["name"]
        for pod in system.kube.list("pods", namespace)
        if pod["status"]["phase"] == "Running" and "deletionTimestamp" not in pod["metadata"]
    }


def test_no_secret_is_told(system: System) -> None:
    system.sensor("own")
    system.rule("shown").wait_condition("Active", "True")
    # A token that is refused must not be repeated in an answer either.
    token = token_of(system, "own")
    refused = system.api.request("POST", "/api/v1/events", token=f"{token}x", json={})
    secrets = secrets_of(system)
    assert len(secrets) >= 6

    told: dict[str, str] = {"a refusal": refused.text}
    for namespace in (SYSTEM, system.namespace):
        for kind in ("events", "sensors", "rules", "pods", "deployments", "configmaps"):
            told[f"{kind} in {namespace}"] = json.dumps(system.kube.list(kind, namespace))
        for pod in system.kube.list("pods", namespace):
            name = pod["metadata"]["name"]
            try:
                told[f"the log of {name}"] = system.kube("logs", name, "-n", namespace, "--tail=-1")
            except CommandFailedError:
                # Pods that a test before this one replaced may be going, and new ones have said nothing yet.
                assert name not in running(system, namespace)
    told["the API's metrics"] = system.api.request("GET", "/metrics").text
    told["the public keys"] = system.api.request("GET", "/.well-known/jwks.json").text
    with system.kube.port_forward("deployment/attune-operator", 9090, SYSTEM) as port:
        told["the operator's metrics"] = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=30).text
    for where, text in told.items():
        for secret in secrets:
            assert secret not in text, f"a secret stands in {where}"
