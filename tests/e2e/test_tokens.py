"""The token in a sensor's pod opens exactly its own trigger types, and nothing else opens anything."""

import base64
import json
import uuid
from datetime import UTC, datetime
from typing import Any

import httpx
import jwt
import pytest
from support.eventually import eventually
from support.system import SYSTEM, System


@pytest.fixture
def token(system: System) -> str:
    """The token that the pod of core.timer has, read in the pod itself; kubelet brings it there some time after its issue."""
    program = "print(open('/var/run/attune/credentials/token').read(), end='')"

    def taken() -> str | None:
        pod = system.wait_ready_pod("core.timer", SYSTEM)
        found = system.kube("exec", "-n", SYSTEM, pod["metadata"]["name"], "--", "python", "-c", program)
        return found if system.api.request("GET", "/auth/whoami", token=found).status_code == 200 else None

    token = eventually(taken, within=120, what="the API takes the token in the pod")
    assert token is not None
    return token


def report(system: System, trigger_type: str = "core.intervaltimer") -> dict[str, Any]:
    rule = system.rule("posted-for", parameters={"interval": 1, "unit": "hours"})
    rule.wait_condition("Active", "True")
    now = datetime.now(UTC).isoformat()
    return {
        "id": str(uuid.uuid4()),
        "trigger_type": trigger_type,
        "rule_uid": rule.uid,
        "rule_namespace": rule.namespace,
        "rule_name": rule.name,
        "occurred_at": now,
        # As the trigger type's payload schema wants it.
        "payload": {"scheduled_at": now, "fired_at": now, "k": 1, "rule": f"{rule.namespace}/{rule.name}"},
    }


def assert_problem(answer: httpx.Response, status: int) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith("application/problem+json")
    assert answer.json()["status"] == status


def test_it_posts_its_own_trigger_type_once(system: System, token: str) -> None:
    body = report(system)
    # 200 when the tunnel stalled and the request was sent again.
    assert system.api.request("POST", "/api/v1/events", token=token, json=body).status_code in (200, 201)
    again = system.api.request("POST", "/api/v1/events", token=token, json=body)
    assert again.status_code == 200
    assert again.json()["data"]["status"] == "duplicate"
    assert [event.id for event in system.api.events(body["rule_uid"])] == [body["id"]]


def test_it_cannot_post_a_payload_that_its_trigger_type_does_not_have(system: System, token: str) -> None:
    body = {**report(system), "payload": {"posted": "by hand"}}
    answer = system.api.request("POST", "/api/v1/events", token=token, json=body)
    assert_problem(answer, 422)
    assert "scheduled_at" in answer.json()["detail"]


def test_it_cannot_post_another_trigger_type(system: System, token: str) -> None:
    answer = system.api.request("POST", "/api/v1/events", token=token, json=report(system, "core.webhook"))
    assert_problem(answer, 403)
    assert "core.webhook" in answer.json()["detail"]


@pytest.mark.both
@pytest.mark.parametrize("bad", ["", "garbled", "a.b.c"])
def test_no_token_or_a_garbled_one_is_refused(system: System, bad: str) -> None:
    answer = system.api.request("POST", "/api/v1/events", token=bad, json=report(system))
    assert_problem(answer, 401)
    assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.both
def test_an_expired_token_is_refused(system: System) -> None:
    system.sensor("brief", token={"ttl": "10s"})
    body = report(system)

    def taken() -> str | None:
        secret = system.kube.get("secret", "sensor-brief", system.namespace)
        token = base64.b64decode(secret["data"]["token"]).decode()
        status = system.api.request("POST", "/api/v1/events", token=token, json=body).status_code
        return token if status in (200, 201) else None

    # One that was read early may have expired by the time that it is used.
    brief = eventually(taken, within=30, what="a token is taken while it is good")
    assert brief is not None
    expires_at = jwt.decode(brief, options={"verify_signature": False})["exp"]
    # Clocks may differ by a few seconds, which the API allows for.
    eventually(
        lambda: system.api.request("POST", "/api/v1/events", token=brief, json=body).status_code == 401,
        within=60,
        every=1,
        what="the expired token is refused",
    )
    assert datetime.now(UTC).timestamp() >= expires_at


def test_reading_events_needs_a_right_too(system: System, token: str) -> None:
    assert_problem(system.api.request("GET", "/api/v1/events", token=""), 401)
    name = "nobody"
    system.kube("create", "serviceaccount", name, "-n", system.namespace)
    stranger = system.kube("create", "token", name, "-n", system.namespace).strip()
    assert_problem(system.api.request("GET", "/api/v1/events", token=stranger), 403)


def test_the_pods_own_kubernetes_token_is_not_mounted(system: System) -> None:
    pod = system.wait_ready_pod("core.timer", SYSTEM)
    assert pod["spec"]["automountServiceAccountToken"] is False
    mounts = json.dumps(pod["spec"]["containers"][0]["volumeMounts"])
    assert "serviceaccount" not in mounts
