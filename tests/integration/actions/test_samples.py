"""The samples in examples/actions: each is applied to a real kube-apiserver, and the real runner does what it says.

Tekton and Argo Workflows are not installed. Their kinds are defined here with a schema that takes everything, as the kinds of
their own releases do.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
import yaml
from support.actions_cluster import Cluster
from support.actions_stage import NAMESPACE, Stage, Target
from support.eventually import until

from attune_cluster.apiserver import ApiServer
from attune_contract import names
from attune_contract.actions import Run, RunReason, RunState
from attune_contract.events import Event, event_id
from attune_operator.rules.actions import message_of
from attune_operator.rules.records import parse_rule

pytestmark = [pytest.mark.apiserver, pytest.mark.nats]

SAMPLES: Final = Path(__file__).parents[3] / "examples" / "actions"
OCCURRED_AT: Final = "2026-11-23T12:00:00.000000Z"
RULES: Final = f"/apis/{names.API_VERSION}/namespaces/{NAMESPACE}/rules"
JOBS: Final = f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs"
PIPELINE_RUNS: Final = f"/apis/tekton.dev/v1/namespaces/{NAMESPACE}/pipelineruns"
WORKFLOWS: Final = f"/apis/argoproj.io/v1alpha1/namespaces/{NAMESPACE}/workflows"
DEPLOYMENTS: Final = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments"
_RBAC: Final = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{NAMESPACE}"
PATHS: Final = {
    "ServiceAccount": f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts",
    "Role": f"{_RBAC}/roles",
    "RoleBinding": f"{_RBAC}/rolebindings",
    "Rule": RULES,
}


def _anything(group: str, version: str, kind: str, plural: str) -> dict[str, Any]:
    """The definition of a kind whose objects may hold everything."""
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "names": {"kind": kind, "plural": plural, "singular": kind.lower(), "listKind": f"{kind}List"},
            "scope": "Namespaced",
            "versions": [{"name": version, "served": True, "storage": True, "schema": schema}],
        },
    }


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with ApiServer(tmp_path_factory.mktemp("kubernetes")) as server:
        found = Cluster(server)
        for namespace in ("attune-system", NAMESPACE):
            found.make("/api/v1/namespaces", {"metadata": {"name": namespace}})
        found.account("attune-system", "attune-actions")
        found.rules_served()
        for definition in (
            _anything("tekton.dev", "v1", "PipelineRun", "pipelineruns"),
            _anything("argoproj.io", "v1alpha1", "Workflow", "workflows"),
        ):
            found.make("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition)
        for path in (PIPELINE_RUNS, WORKFLOWS):
            found.served(path)
        yield found


class Play:
    """One sample that was applied, and a runner that knows its Rules."""

    def __init__(self, stage: Stage, cluster: Cluster) -> None:
        self.stage = stage
        self.cluster = cluster
        self._uids: dict[str, str] = {}
        self._events = 0

    async def apply(self, sample: str, *, host: str = "") -> None:
        """Create the objects of a sample, with ``host`` in place of the chat and the brokers it names."""
        text = (SAMPLES / f"{sample}.yaml").read_text()
        for example in ("https://chat.example.org", "http://broker-ingress.knative-eventing.svc.cluster.local"):
            text = text.replace(example, host)
        text = text.replace("http://shop-eventsource-svc.argo-events.svc.cluster.local:12000", host)
        for document in yaml.safe_load_all(text):
            made = self.cluster.make(PATHS[document["kind"]], document)
            if document["kind"] == "Rule":
                message = message_of(parse_rule(made).rule)
                self._uids[message.name] = message.uid
                await self.stage.tell(message)

    async def happen(self, rule: str, *, payload: dict[str, Any] | None = None) -> str:
        """Store an event of a Rule with the payload of the sample; return its id."""
        body = json.loads((SAMPLES / "payloads" / f"{rule}.json").read_text()) if payload is None else payload
        self._events += 1
        event = Event(
            id=event_id(self._uids[rule], str(self._events)),
            trigger_type="core.test",
            rule_uid=self._uids[rule],
            rule_namespace=NAMESPACE,
            rule_name=rule,
            occurred_at=OCCURRED_AT,
            received_at=OCCURRED_AT,
            payload=msgspec.Raw(msgspec.json.encode(body)),
            seq=self._events,
            sensor_ref="attune-system/core.test",
        )
        await self.stage.store(event)
        return str(event.id)

    async def reached(self, event: str, action: str, *states: RunState) -> Run:
        """The run of an action for an event, when it is in one of these states."""

        def found() -> Run | None:
            runs = self.stage.runs.values()
            return next(
                (r for r in runs if str(r.event_id) == event and r.action == action and r.state in states), None
            )

        return await until(found, within=60, what=f"{action} is {' or '.join(states)}")

    async def awaited(self, event: str, action: str) -> Run:
        """The run of an action for an event, when it has made its object and waits for it."""

        async def found() -> Run | None:
            run = await self.reached(event, action, RunState.RUNNING)
            return run if run.result is not None else None

        return await until(found, within=60, what=f"{action} has made its object")

    async def outcome(self, rule: str, action: str, *, payload: dict[str, Any] | None = None) -> Run:
        """What becomes of one event of a Rule."""
        final = [state for state in RunState if state.final]
        return await self.reached(await self.happen(rule, payload=payload), action, *final)

    def made(self, base: str, run: Run) -> dict[str, Any]:
        """The object that a run has made."""
        assert run.result is not None, run
        found: dict[str, Any] = self.cluster.get(f"{base}/{run.result['name']}")
        return found


@pytest.fixture
def play(stage: Stage, cluster: Cluster, tmp_path: Path) -> Play:
    stage.environment["KUBECONFIG"] = str(cluster.runners_kubeconfig(tmp_path))
    stage.settings["kubernetes"] = "auto"
    stage.start()
    return Play(stage, cluster)


def payload_of(rule: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((SAMPLES / "payloads" / f"{rule}.json").read_text())
    return found


async def test_a_failed_job_is_started_again(play: Play) -> None:
    await play.apply("retry-failed-job")
    run = await play.outcome("retry-failed-job", "again")
    assert run.state is RunState.SUCCEEDED, run
    job = play.made(JOBS, run)
    container = job["spec"]["template"]["spec"]["containers"][0]
    assert (container["name"], container["image"], container["command"]) == (
        "import",
        "busybox:1.37",
        ["sh", "-c", "exit 1"],
    )
    assert job["metadata"]["annotations"]["demo/retry-of"] == "import-29384"
    assert "retry" not in job["metadata"]["labels"], "or its failure would start one more"


async def test_a_nightly_job_is_awaited_and_not_joined_by_a_second_one(play: Play) -> None:
    await play.apply("nightly-job")
    event = await play.happen("nightly-report")
    running = await play.awaited(event, "report")
    job = play.made(JOBS, running)
    assert job["spec"]["template"]["spec"]["containers"][0]["env"] == [
        {"name": "UNTIL", "value": "2026-11-23T01:30:00Z"}
    ]
    second = await play.outcome("nightly-report", "report")
    assert (second.state, second.reason) == (RunState.SKIPPED, RunReason.CONCURRENCY_FORBIDDEN)
    job["status"] = {
        "startTime": "2026-11-23T01:30:00Z",
        "completionTime": "2026-11-23T01:31:00Z",
        "succeeded": 1,
        "conditions": [
            {"type": kind, "status": "True", "lastTransitionTime": "2026-11-23T01:31:00Z"}
            for kind in ("SuccessCriteriaMet", "Complete")
        ],
    }
    play.cluster.api.request("PUT", f"{JOBS}/{job['metadata']['name']}/status", job)
    assert (await play.reached(event, "report", RunState.SUCCEEDED)).attempts_made == 1


async def test_a_push_starts_a_pipeline_run(play: Play) -> None:
    await play.apply("tekton-pipelinerun")
    run = await play.outcome("build-on-push", "build")
    assert run.state is RunState.SUCCEEDED, run
    assert play.made(PIPELINE_RUNS, run)["spec"]["params"] == [
        {"name": "repository", "value": "https://github.com/octo/shop.git"},
        {"name": "revision", "value": payload_of("build-on-push")["body"]["after"]},
    ]
    other = payload_of("build-on-push")
    other["body"]["ref"] = "refs/heads/feature"
    skipped = await play.outcome("build-on-push", "build", payload=other)
    assert (skipped.state, skipped.reason) == (RunState.SKIPPED, RunReason.CONDITION_FALSE)


async def test_a_merge_starts_a_workflow_and_waits_for_it(play: Play) -> None:
    await play.apply("argo-workflow")
    event = await play.happen("deploy-on-merge")
    workflow = play.made(WORKFLOWS, await play.awaited(event, "deploy"))
    assert workflow["spec"]["arguments"]["parameters"][0] == {"name": "project", "value": "shop/front"}
    workflow["status"] = {"phase": "Succeeded"}
    play.cluster.api.request("PUT", f"{WORKFLOWS}/{workflow['metadata']['name']}", workflow)
    await play.reached(event, "deploy", RunState.SUCCEEDED)


async def test_an_alert_scales_a_deployment(play: Play) -> None:
    await play.apply("alertmanager-scale")
    pod = {"metadata": {"labels": {"app": "shop"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    spec = {"replicas": 1, "selector": {"matchLabels": {"app": "shop"}}, "template": pod}
    play.cluster.make(DEPLOYMENTS, {"metadata": {"name": "shop"}, "spec": spec})
    firing = await play.outcome("scale-on-alert", "scale")
    assert firing.state is RunState.SUCCEEDED, firing
    assert play.cluster.get(f"{DEPLOYMENTS}/shop")["spec"]["replicas"] == 6
    resolved = payload_of("scale-on-alert")
    resolved["body"]["status"] = "resolved"
    assert (await play.outcome("scale-on-alert", "scale", payload=resolved)).state is RunState.SUCCEEDED
    assert play.cluster.get(f"{DEPLOYMENTS}/shop")["spec"]["replicas"] == 2


async def test_events_go_on_as_cloud_events(play: Play, target: Target) -> None:
    await play.apply("cloudevents", host=f"http://127.0.0.1:{target.port}")
    event = await play.happen("to-the-broker")
    for action in ("binary", "structured"):
        await play.reached(event, action, RunState.SUCCEEDED)
    sent = {request.path: (request.headers, json.loads(body)) for request, body in target.requests}
    headers, data = sent["/demo/default"]
    assert headers["ce-specversion"] == "1.0"
    assert headers["ce-id"]
    assert data == payload_of("to-the-broker")
    headers, envelope = sent["/events"]
    assert headers["Content-Type"].startswith("application/cloudevents+json")
    assert (envelope["specversion"], envelope["data"]) == ("1.0", data)


async def test_a_report_moves_the_alarm_and_the_alarm_tells_the_chat(play: Play, target: Target) -> None:
    await play.apply("dead-mans-switch", host=f"http://127.0.0.1:{target.port}")
    moved = await play.outcome("backup-reported", "move-the-alarm")
    assert moved.state is RunState.SUCCEEDED, moved
    at = play.cluster.get(f"{RULES}/backup-is-late")["spec"]["trigger"]["parameters"]["at"]
    assert at == "2026-11-24T14:00:00Z", "26 hours after the report"
    assert (await play.outcome("backup-is-late", "tell")).state is RunState.SUCCEEDED
    ((_, body),) = target.requests
    assert json.loads(body) == {"text": "No backup has reported since 2026-11-23T12:00:00Z."}


async def test_a_rule_switches_another_one_off_and_on(play: Play) -> None:
    await play.apply("switch-off")
    scaling = {"trigger": {"type": "core.webhook", "parameters": {}}}
    if not any(each["metadata"]["name"] == "scale-on-alert" for each in play.cluster.get(RULES)["items"]):
        body = {
            "apiVersion": names.API_VERSION,
            "kind": "Rule",
            "metadata": {"name": "scale-on-alert"},
            "spec": scaling,
        }
        play.cluster.make(RULES, body)
    assert (await play.outcome("release-begins", "switch-off")).state is RunState.SUCCEEDED
    assert play.cluster.get(f"{RULES}/scale-on-alert")["spec"]["enabled"] is False
    ends = payload_of("release-begins")
    ends["body"]["phase"] = "ends"
    assert (await play.outcome("release-begins", "switch-on", payload=ends)).state is RunState.SUCCEEDED
    assert play.cluster.get(f"{RULES}/scale-on-alert")["spec"]["enabled"] is True


def test_each_sample_is_tried_here() -> None:
    tried = Path(__file__).read_text()
    missing = [sample.stem for sample in SAMPLES.glob("*.yaml") if f'apply("{sample.stem}"' not in tried]
    assert missing == []
