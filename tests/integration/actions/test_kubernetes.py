"""What actions do in Kubernetes, and what they may not: a real kube-apiserver, and a runner with no right but those granted."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.actions_cluster import Cluster
from support.actions_stage import NAMESPACE, Stage, Target, event, http, rule_actions
from support.eventually import until

from attune_cluster.apiserver import ApiServer
from attune_contract import names
from attune_contract.actions import Run, RunReason, RunState

pytestmark = [pytest.mark.apiserver, pytest.mark.nats]

RIGHTS: list[tuple[str, str, list[str]]] = [
    ("", "secrets", ["get"]),
    ("", "configmaps", ["get", "list", "create", "patch", "delete"]),
    ("batch", "jobs", ["get", "list", "create", "delete"]),
    ("apps", "deployments", ["get", "patch"]),
    ("attune.dev", "rules", ["patch"]),
]
JOB = {
    "spec": {
        "template": {
            "spec": {
                "restartPolicy": "Never",
                "containers": [{"name": "c", "image": "i", "args": ["${event.payload.k}x"]}],
            }
        }
    }
}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with ApiServer(tmp_path_factory.mktemp("kubernetes")) as server:
        found = Cluster(server)
        for namespace in ("attune-system", NAMESPACE, "other"):
            found.make("/api/v1/namespaces", {"metadata": {"name": namespace}})
        found.account("attune-system", "attune-actions")
        for account in ("importer", "weak", "ungranted"):
            found.account(NAMESPACE, account)
        rules = [{"apiGroups": [group], "resources": [plural], "verbs": verbs} for group, plural, verbs in RIGHTS]
        found.role("importer", rules, (NAMESPACE, "importer"))
        found.grant("importer", "weak")
        found.make(
            f"/api/v1/namespaces/{NAMESPACE}/secrets",
            {"metadata": {"name": "chat"}, "stringData": {"token": "Bearer s3cr3t-t0ken"}},
        )
        found.make(
            "/api/v1/namespaces/other/secrets", {"metadata": {"name": "theirs"}, "stringData": {"token": "th3irs"}}
        )
        found.rules_served()
        yield found


@pytest.fixture
def acting(stage: Stage, cluster: Cluster, tmp_path: Path) -> Stage:
    """A runner in the cluster."""
    stage.environment["KUBECONFIG"] = str(cluster.runners_kubeconfig(tmp_path))
    stage.settings["kubernetes"] = "auto"
    stage.start()
    return stage


async def outcome(stage: Stage, rule: str, k: int, *actions: dict[str, Any], **more: Any) -> Run:
    """What becomes of an event of a rule with one action."""
    more.setdefault("service_account_name", "importer")
    await stage.tell(rule_actions(rule, *actions, **more))
    await stage.store(
        event(k, rule=rule, payload={"k": k, "ns": "other", "evil": "x\nkind: Secret", "name": f"made-{k}"})
    )
    uid = f"uid-{rule}"

    def over() -> Run | None:
        return next(
            (run for run in stage.runs.values() if run.rule_uid == uid and run.event_seq == k + 1 and run.state.final),
            None,
        )

    return await until(over, within=60)


def job(**more: Any) -> dict[str, Any]:
    return {"name": "again", "job": {"template": JOB}, **more}


def an_object(operation: str, **more: Any) -> dict[str, Any]:
    of_action: dict[str, Any] = {key: more.pop(key) for key in ("await", "retry") if key in more}
    return {"name": "thing", "object": {"operation": operation, **more}, **of_action}


def a_map(**data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "${event.payload.name}"}, "data": data}


async def test_a_job_is_made_once_and_in_its_turn(acting: Stage, cluster: Cluster) -> None:
    run = await outcome(acting, "jobs", 1, job(concurrency="Forbid"))
    assert (run.state, run.message) == (RunState.SUCCEEDED, "")
    assert run.result is not None
    made = cluster.get(f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs/{run.result['name']}")
    assert made["metadata"]["labels"]["attune.dev/run"] == str(run.id)
    assert made["spec"]["template"]["spec"]["containers"][0]["args"] == ["1x"]
    second = await outcome(acting, "jobs", 2, job(concurrency="Forbid"))
    assert (second.state, second.reason) == (RunState.SKIPPED, RunReason.CONCURRENCY_FORBIDDEN)
    third = await outcome(acting, "jobs", 3, job(concurrency="Replace"))
    assert third.state is RunState.SUCCEEDED
    selector = "attune.dev/rule-uid=uid-jobs"
    left = cluster.get(f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs?labelSelector={selector}")["items"]
    alive = [each["metadata"]["name"] for each in left if not each["metadata"].get("deletionTimestamp")]
    assert third.result is not None
    assert alive == [third.result["name"]]


async def test_objects_are_made_changed_awaited_and_deleted(acting: Stage, cluster: Cluster) -> None:
    path = f"/api/v1/namespaces/{NAMESPACE}/configmaps"
    run = await outcome(acting, "create", 1, an_object("Create", manifest=a_map(evil="${event.payload.evil}")))
    assert run.state is RunState.SUCCEEDED, run
    assert cluster.get(f"{path}/made-1")["data"] == {"evil": "x\nkind: Secret"}
    taken = await outcome(acting, "second", 1, an_object("Create", manifest=a_map()))
    assert (taken.state, taken.reason) == (RunState.FAILED, RunReason.OBJECT_FAILED)
    run = await outcome(
        acting,
        "patch",
        1,
        an_object("Patch", apiVersion="v1", kind="ConfigMap", name="made-1", patch={"data": {"k": "v"}}),
    )
    assert run.state is RunState.SUCCEEDED, run
    run = await outcome(acting, "apply", 5, an_object("Apply", manifest=a_map(a="b")))
    assert run.state is RunState.SUCCEEDED, run
    assert cluster.get(f"{path}/made-5")["data"] == {"a": "b"}
    run = await outcome(
        acting, "delete", 5, an_object("Delete", apiVersion="v1", kind="ConfigMap", name="${event.payload.name}")
    )
    assert run.state is RunState.SUCCEEDED, run
    again = await outcome(acting, "delete", 6, an_object("Delete", apiVersion="v1", kind="ConfigMap", name="made-5"))
    assert (again.state, again.message) == (RunState.SUCCEEDED, "it was gone already")


async def test_an_object_is_awaited(acting: Stage, cluster: Cluster) -> None:
    await acting.tell(
        rule_actions(
            "wait",
            an_object("Create", manifest=a_map(), **{"await": "object.data.done == 'yes'"}),
            service_account_name="importer",
        )
    )
    await acting.store(event(7, rule="wait", payload={"name": "awaited"}))
    await until(lambda: [run.state for run in acting.runs.values()] == [RunState.RUNNING], within=60)
    path = f"/api/v1/namespaces/{NAMESPACE}/configmaps/awaited"
    cluster.api.request("PUT", path, {**cluster.get(path), "data": {"done": "yes"}})
    (run,) = await acting.ended(1)
    assert run.state is RunState.SUCCEEDED


async def test_a_rule_is_switched_off(acting: Stage, cluster: Cluster) -> None:
    base = f"/apis/{names.API_VERSION}/namespaces/{NAMESPACE}/rules"
    body = {
        "apiVersion": names.API_VERSION,
        "kind": "Rule",
        "metadata": {"name": "nightly"},
        "spec": {"trigger": {"type": "core.timer"}},
    }
    cluster.make(base, body)
    run = await outcome(acting, "switch", 1, {"name": "off", "rule": {"name": "nightly", "enabled": False}})
    assert run.state is RunState.SUCCEEDED, run
    assert cluster.get(f"{base}/nightly")["spec"]["enabled"] is False


async def test_a_secret_goes_to_the_target_and_nowhere_else(acting: Stage, target: Target) -> None:
    from aiohttp import web

    target.answer = lambda key, times: web.Response(status=400, text="not you, Bearer s3cr3t-t0ken! s3cr3t-t0ken")
    secret = {"name": "Authorization", "valueFrom": {"secretKeyRef": {"name": "chat", "key": "token"}}}
    run = await outcome(acting, "secret", 1, http(target.url, headers=[secret]))
    assert run.state is RunState.FAILED
    ((request, _),) = target.requests
    assert request.headers["Authorization"] == "Bearer s3cr3t-t0ken"
    assert "not you, ***" in run.attempts[0].answer
    assert "s3cr3t" not in str(run)
    assert "s3cr3t" not in acting.log()


def with_metadata(**metadata: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x", **metadata}}


def from_secret(name: str) -> dict[str, Any]:
    return {"name": "X", "valueFrom": {"secretKeyRef": {"name": name, "key": "token"}}}


REFUSED: list[tuple[str, dict[str, Any], dict[str, Any], RunReason, str]] = [
    ("no-account", job(), {"service_account_name": None}, RunReason.FORBIDDEN, "no serviceAccountName"),
    ("ungranted", job(), {"service_account_name": "ungranted"}, RunReason.FORBIDDEN, "does not let attune-actions act"),
    ("no-such", job(), {"service_account_name": "missing"}, RunReason.FORBIDDEN, "does not let attune-actions act"),
    ("weak", job(), {"service_account_name": "weak"}, RunReason.FORBIDDEN, "cannot create resource"),
    (
        "namespace",
        an_object("Create", manifest=with_metadata(namespace="${event.payload.ns}")),
        {},
        RunReason.FORBIDDEN,
        "the Rule's namespace only",
    ),
    (
        "cluster-wide",
        an_object("Create", manifest={"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "x"}}),
        {},
        RunReason.FORBIDDEN,
        "of the whole cluster",
    ),
    (
        "path",
        an_object("Delete", apiVersion="v1", kind="ConfigMap", name="../../other/configmaps/x"),
        {},
        RunReason.INVALID_EXPRESSION,
        "no name of an object",
    ),
    (
        "owner",
        an_object("Create", manifest=with_metadata(ownerReferences=[{}])),
        {},
        RunReason.FORBIDDEN,
        "ownerReferences",
    ),
    (
        "their-secret",
        http("http://127.0.0.1:9/", headers=[from_secret("theirs")], retry={"attempts": 1}),
        {},
        RunReason.NO_SUCH_SECRET,
        "no Secret theirs",
    ),
    (
        "weak-secret",
        http("http://127.0.0.1:9/", headers=[from_secret("chat")]),
        {"service_account_name": "weak"},
        RunReason.FORBIDDEN,
        "may not get the Secret",
    ),
]  # fmt: skip


async def test_what_nobody_may_do_through_a_rule(acting: Stage) -> None:
    for name, action, more, reason, text in REFUSED:
        run = await outcome(acting, name, 1, action, **more)
        assert (name, run.state, run.reason) == (name, RunState.FAILED, reason), run
        assert text in run.message, run
