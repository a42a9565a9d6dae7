"""10,000 events with actions on a cluster: the runner's pod is killed 20 times, NATS's and the API's too, and the target fails.

Jobs are made for some of the events: each exists once.
"""

import json
import os
import time
import uuid
from base64 import b64decode
from collections import Counter
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import pytest
from support.eventually import eventually
from support.pods import pod
from support.system import SYSTEM, AppliedRule, System

EVENTS = int(os.environ.get("EVENTS", "10000"))
KILLS = int(os.environ.get("KILLS", "20"))
JOBS = int(os.environ.get("JOBS", "100"))
_BATCH = 500

#: Answers 500 to a third of the first four attempts of a run, nothing to one in twenty-five, and 404 to some runs always.
TARGET = """
import asyncio, collections, hashlib
from aiohttp import web

times, good = collections.Counter(), collections.Counter()

async def hook(request):
    key = request.headers["Idempotency-Key"]
    times[key] += 1
    draw = hashlib.sha256(f"{key}/{times[key]}".encode()).digest()[0]
    if hashlib.sha256(key.encode()).digest()[1] < 8:
        return web.Response(status=404)
    if times[key] <= 4 and draw < 85:
        return web.Response(status=500)
    if times[key] <= 4 and draw < 95:
        await asyncio.sleep(30)
    good[key] += 1
    return web.Response(status=200)

async def counts(request):
    return web.json_response({"times": times, "good": good})

app = web.Application()
app.router.add_post("/hook", hook)
app.router.add_get("/counts", counts)
web.run_app(app, port=8000, access_log=None)
"""


def must_fail(key: str) -> bool:
    return sha256(key.encode()).digest()[1] < 8


@pytest.fixture
def target(system: System) -> str:
    """The target's address: a pod's, since actions reach no Services."""
    made = pod(system.pack_sensor()["spec"]["image"], "target", ["python", "-c", TARGET])
    made["metadata"]["namespace"] = system.namespace
    system.kube.apply(made)
    system.kube("wait", "--for=condition=Ready", "pod/target", "-n", system.namespace, "--timeout=120s")
    address: str = system.kube.get("pod", "target", system.namespace)["status"]["podIP"]
    return f"http://{address}:8000/hook"


@pytest.fixture
def account(system: System) -> str:
    """A ServiceAccount that may make Jobs, as which the runner may act."""
    name, namespace, rbac = "worker", system.namespace, "rbac.authorization.k8s.io"
    runner = {"kind": "ServiceAccount", "name": "attune-actions", "namespace": SYSTEM}
    system.kube.apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace}}
    )
    for role, rules, subject in (
        (
            name,
            [{"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["get", "list", "create", "delete"]}],
            {"kind": "ServiceAccount", "name": name, "namespace": namespace},
        ),
        (
            f"attune-actions-{name}",
            [{"apiGroups": [""], "resources": ["serviceaccounts/token"], "resourceNames": [name], "verbs": ["create"]}],
            runner,
        ),
    ):
        metadata = {"name": role, "namespace": namespace}
        system.kube.apply({"apiVersion": f"{rbac}/v1", "kind": "Role", "metadata": metadata, "rules": rules})
        reference = {"apiGroup": rbac, "kind": "Role", "name": role}
        binding = {"metadata": metadata, "roleRef": reference, "subjects": [subject]}
        system.kube.apply({"apiVersion": f"{rbac}/v1", "kind": "RoleBinding", **binding})
    return name


def rule(system: System, name: str, **spec: Any) -> AppliedRule:
    """A Rule that does not fire by itself: what it is for comes from :func:`store`."""
    trigger = {"type": "core.intervaltimer", "parameters": {"interval": 1000, "unit": "days"}}
    manifest = {
        "apiVersion": "attune.dev/v1alpha1",
        "kind": "Rule",
        "metadata": {"name": name, "namespace": system.namespace},
        "spec": {"trigger": trigger, **spec},
    }
    system.kube.apply(manifest)
    applied = AppliedRule(name, system.namespace, system.kube, system.api)
    applied.wait_condition("Active", "True", within=60)
    applied.wait_condition("ActionsHealthy", "True", within=60)
    return applied


def store(system: System, applied: AppliedRule, ids: list[str]) -> None:
    """Store events of a Rule as its sensor does."""
    secret = system.kube.get("secret", "sensor-core.timer", SYSTEM)
    token = b64decode(secret["data"]["token"]).decode()
    now, uid = datetime.now(UTC).isoformat(), applied.uid
    for start in range(0, len(ids), _BATCH):
        events = [
            {
                "id": each,
                "rule_uid": uid,
                "rule_namespace": applied.namespace,
                "rule_name": applied.name,
                "trigger_type": "core.intervaltimer",
                "occurred_at": now,
                "payload": {"scheduled_at": now, "fired_at": now, "k": 1, "rule": applied.name},
            }
            for each in ids[start : start + _BATCH]
        ]
        answer = system.api.request("POST", "/api/v1/events/batch", token=token, json={"events": events})
        assert answer.status_code in (200, 201), answer.text
        refused = [result for result in answer.json()["data"] if result["status"] == "refused"]
        assert not refused, refused[0]


def counted(system: System, address: str) -> dict[str, dict[str, int]]:
    """What came to the target, by idempotency key."""
    program = f"import urllib.request; print(urllib.request.urlopen('{address}').read().decode())"
    text = system.kube("exec", "target", "-n", system.namespace, "--", "python", "-c", program)
    found: dict[str, dict[str, int]] = json.loads(text)
    return found


def states(system: System, uid: str) -> Counter[str]:
    """How many runs of a Rule are in each state."""
    answer = system.api.request("GET", "/api/v1/runs/counts", params={"rule_uid": uid})
    assert answer.status_code == 200, answer.text
    found: Counter[str] = Counter()
    for row in answer.json()["data"]:
        found[row["state"]] += row["count"]
    return found


def kill(system: System, selector: str) -> None:
    """End a part's pod at once; its controller makes another."""
    system.kube(
        "delete", "pod", "-n", SYSTEM, "-l", f"app.kubernetes.io/name={selector}", "--grace-period=0", "--force"
    )


def test_every_run_ends_as_it_must_and_each_job_exists_once(system: System, target: str, account: str) -> None:
    counts = target.replace("/hook", "/counts").replace(target.split("/")[2].split(":")[0], "127.0.0.1")
    retry = {"attempts": 12, "backoff": "50ms", "maxBackoff": "500ms", "timeout": "2s"}
    image = system.pack_sensor()["spec"]["image"]
    template = pod(image, "job", ["python", "-c", "pass"])["spec"] | {"restartPolicy": "Never"}
    posts = rule(system, "posts", actions=[{"name": "post", "retry": retry, "http": {"url": target, "body": {"n": 1}}}])
    job = {"template": {"spec": {"backoffLimit": 0, "template": {"spec": template}}}}
    jobs = rule(system, "jobs", serviceAccountName=account, actions=[{"name": "job", "job": job}])
    posts_uid, jobs_uid = posts.uid, jobs.uid
    ids = [str(uuid.uuid4()) for _ in range(EVENTS)]
    began = time.monotonic()
    store(system, jobs, ids[:JOBS])
    store(system, posts, ids)
    kills = 0
    while kills < KILLS:
        share = (kills + 1) * EVENTS // (KILLS + 1)

        def reached(share: int = share) -> bool:
            return len(counted(system, counts)["times"]) >= share

        eventually(reached, within=600, every=0.5, what=f"{share} of {EVENTS} events were tried")
        kill(system, "attune-actions")
        kills += 1
        if kills in (5, 15):
            kill(system, "attune-nats")
        if kills in (8, 12):
            kill(system, "attune-api")

    def ended() -> bool:
        return sum(states(system, posts_uid)[state] for state in ("Succeeded", "Failed")) >= EVENTS

    eventually(ended, within=1200, every=2, what="all runs have ended")
    eventually(lambda: states(system, jobs_uid)["Succeeded"] >= JOBS, within=600, every=2, what="all Jobs were made")
    found, seen = states(system, posts_uid), counted(system, counts)
    made = system.kube.list("jobs", system.namespace)
    shown = {
        "runs": dict(found),
        "requests": sum(seen["times"].values()),
        "after a 200": sum(times - 1 for times in seen["good"].values()),
        "kills of the runner": kills,
        "Jobs": len(made),
        "seconds": round(time.monotonic() - began),
    }
    print(json.dumps(shown, indent=1))
    expected_failures = sum(must_fail(key) for key in seen["times"])
    assert len(seen["times"]) == EVENTS
    assert found == Counter({"Succeeded": EVENTS - expected_failures, "Failed": expected_failures})
    assert len(seen["good"]) == EVENTS - expected_failures
    assert len(made) == JOBS
    assert states(system, jobs_uid) == Counter({"Succeeded": JOBS})
