"""What a Sensor's page reads with the visitor's token, and what it shows."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from attune_api.console.answers import environment
from attune_api.console.cluster import ConsoleCluster, connect, path_of
from attune_api.console.pages.sensor import read_pods
from attune_api.console.views.sensor import pod_rows, type_rows
from attune_api.console.views.way import told_conditions
from attune_kit.kubernetes.client import KubernetesError

NOW = "2026-11-28T03:00:00Z"


def test_a_pod_says_how_it_is_and_why() -> None:
    def pod(name: str, *, metadata: dict[str, Any] | None = None, **status: Any) -> dict[str, Any]:
        created = f"2026-11-28T0{len(name)}:00:00Z"
        return {"metadata": {"name": name, "creationTimestamp": created, **(metadata or {})}, "status": status}

    ready = [{"type": "Ready", "status": "True"}]
    crash = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}
    pods = [
        pod("abcdef", conditions=[{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "m"}]),
        pod("a", conditions=ready, containerStatuses=[{"state": {"running": {}}, "restartCount": 2}]),
        pod("ab", metadata={"deletionTimestamp": "2026-11-28T03:00:00Z"}, conditions=ready),
        pod("abc", containerStatuses=[{"name": "sensor", "state": crash, "lastState": {"terminated": {"exitCode": 3}}}]),
        pod("abcd", containerStatuses=[{"state": {"waiting": {"reason": "ErrImagePull", "message": "no such image"}}}]),
        pod("abcde", containerStatuses=[{"state": {"running": {}}}]),
        pod("abcdefg"),
    ]  # fmt: skip
    rows = pod_rows(pods)
    assert [(row.name, row.tone, row.word, row.says) for row in rows] == [
        ("a", "good", "Ready", ""),
        ("ab", "off", "Stopping", ""),
        ("abc", "bad", "CrashLoopBackOff", "sensor ended with status 3."),
        ("abcd", "bad", "ErrImagePull", "no such image"),
        ("abcde", "wait", "Not ready", "It runs, and does not say yet that it is ready."),
        ("abcdef", "bad", "Unschedulable", "m"),
        ("abcdefg", "wait", "Starting", ""),
    ]
    assert rows[0].restarts == 2


class Refusing:
    """Answers each request with a status, as a Kubernetes API does, and keeps what it was asked."""

    def __init__(self) -> None:
        self.status = 403
        self.body: dict[str, Any] = {"kind": "Status", "message": "no"}
        self.asked: list[tuple[str, str, dict[str, str], str]] = []

    async def answer(self, request: web.Request) -> web.Response:
        asked = request.method, request.path, dict(request.query), request.headers.get("Authorization", "")
        self.asked.append(asked)
        return web.json_response(self.body, status=self.status)


@pytest.fixture
def refusing() -> Refusing:
    return Refusing()


@pytest.fixture
async def cluster(refusing: Refusing) -> AsyncIterator[ConsoleCluster]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", refusing.answer)
    async with TestServer(app) as server:
        connected = connect(url=str(server.make_url("")), ca_file=Path("/none"), admin_token_file=None)
        yield connected
        await connected.close()


async def test_pods_are_read_with_the_visitor_s_token(refusing: Refusing, cluster: ConsoleCluster) -> None:
    refusing.status, refusing.body = 200, {"items": [{"metadata": {"name": "s-1"}}]}
    rows, why = await read_pods(cluster, "ann", "team-a", "s")
    assert ([row.name for row in rows], why) == (["s-1"], "")
    query = {"labelSelector": "attune.dev/sensor=s", "limit": "50"}
    assert refusing.asked == [("GET", "/api/v1/namespaces/team-a/pods", query, "Bearer ann")]


async def test_who_may_not_read_pods_is_told_which_right_that_needs(
    refusing: Refusing, cluster: ConsoleCluster
) -> None:
    rows, why = await read_pods(cluster, "ann", "team-a", "s")
    assert (rows, why) == ([], "You may not see them: that needs the right to list pods in namespace team-a.")
    refusing.status = 500
    assert (await read_pods(cluster, "ann", "team-a", "s"))[1].startswith("The Kubernetes API does not say")


async def test_a_rule_is_created_with_the_visitor_s_token_alone(refusing: Refusing, cluster: ConsoleCluster) -> None:
    refusing.status = 409
    with pytest.raises(KubernetesError) as raised:
        await cluster.create("ann", path_of("rules", "team-a"), {"kind": "Rule"})
    assert raised.value.status == 409
    query = {"fieldManager": "attune-console", "fieldValidation": "Strict"}
    assert refusing.asked == [("POST", "/apis/attune.dev/v1alpha1/namespaces/team-a/rules", query, "Bearer ann")]


HOSTILE = "\"'><script>alert(1)</script>`x` {{ 7*7 }}"


def test_what_strangers_wrote_is_text_on_the_page() -> None:
    class Caller:
        login = HOSTILE

    class Visitor:
        caller = Caller
        csrf = "s"

    schema = {"description": HOSTILE, "properties": {HOSTILE: {"description": HOSTILE, "default": HOSTILE}}}
    sensor: dict[str, Any] = {
        "spec": {"triggerTypes": [{"name": HOSTILE, "aliases": [HOSTILE], "parametersSchema": schema}]},
        "status": {
            "conditions": [
                {"type": "Ready", "status": "True", "reason": HOSTILE, "message": HOSTILE, "lastTransitionTime": NOW}
            ]
        },
    }
    pods = pod_rows([{"metadata": {"name": HOSTILE, "creationTimestamp": NOW}, "status": {
        "containerStatuses": [{"state": {"waiting": {"reason": HOSTILE, "message": HOSTILE}}}],
    }}])  # fmt: skip
    values = {
        "base": "/console", "place": "/console/x", "visitor": Visitor, "now": datetime(2026, 11, 28, 3, tzinfo=UTC),
        "namespace": HOSTILE, "name": HOSTILE, "tone": "bad", "word": HOSTILE, "sentence": HOSTILE, "advice": HOSTILE,
        "conditions": told_conditions(sensor), "image": HOSTILE, "counts": {"bound": 3, "active": 1, "rejected": 2},
        "last_event": "", "pods": pods, "no_pods": "", "ttl": HOSTILE, "types": type_rows(sensor),
        "token": {"issuedAt": NOW, "expiresAt": NOW, "rotatesAt": NOW}, "rules": "/?sensor=a",
        "rejected": "/?sensor=a&state=bad", "again": "/x",
    }  # fmt: skip
    page = environment().get_template("sensor.html").render(**values)
    assert page.count("<script") == 2  # those of the layout
    assert page.count("alert(1)") > 8
    assert "7*7" in page
    assert " style=" not in page
    assert "2 refused by the sensor" in page
