"""Why a Sensor is ready or not, and what is written about it."""

from datetime import UTC, datetime
from typing import Any

import pytest

from attune_contract.resources import Sensor
from attune_operator.runtime.conditions import Verdict
from attune_operator.runtime.views import HealthView, RuleSummary
from attune_operator.sensors import pods, readiness, schemas, status
from attune_operator.sensors.status import TokenInfo

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
LATER = datetime(2026, 11, 23, 13, 0, tzinfo=UTC)


def sensor(**spec: Any) -> Sensor:
    return Sensor.from_object(
        {
            "metadata": {"name": "s", "namespace": "n", "uid": "u"},
            "spec": {"image": "i", "triggerTypes": [{"name": "a.b"}], **spec},
        }
    )


def deployment(*, ready: int = 0, updated: int = 0, total: int = 0, observed: int = 1, **more: Any) -> dict[str, Any]:
    counts = {"readyReplicas": ready, "updatedReplicas": updated, "replicas": total, "observedGeneration": observed}
    return {"metadata": {"generation": 1}, "status": {**counts, **more}}


def pod(name: str = "p", *, ready: bool = False, phase: str = "Pending", created: str = "1", **container: Any) -> Any:
    status_: dict[str, Any] = {"phase": phase, "conditions": [{"type": "Ready", "status": str(ready)}]}
    if container:
        status_["containerStatuses"] = [{"name": "sensor", "image": "i:1", **container}]
    return {"metadata": {"name": name, "creationTimestamp": created}, "status": status_}


def test_it_is_ready_when_all_pods_of_this_spec_answer_and_no_others_are_left() -> None:
    verdict, runtime = readiness.judge(sensor(), deployment(ready=1, updated=1, total=1), [])
    assert (verdict.status, verdict.reason) == ("True", "Available")
    assert (runtime.ready_replicas, runtime.message) == (1, "")


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (None, "Progressing"),
        (deployment(), "Progressing"),
        (deployment(ready=1, updated=1, total=1, observed=0), "Progressing"),
        (deployment(ready=1, updated=1, total=2), "Progressing"),
        (
            deployment(conditions=[{"type": "ReplicaFailure", "status": "True", "message": "exceeded quota"}]),
            "FailedCreate",
        ),
    ],
    ids=["no deployment", "no pod", "not seen yet", "an old pod is left", "no pod can be made"],
)
def test_else_it_is_not(found: Any, reason: str) -> None:
    verdict, _ = readiness.judge(sensor(), found, [])
    assert (verdict.status, verdict.reason) == ("False", reason)


def test_while_a_change_is_rolled_out_the_old_pods_count_for_the_rules() -> None:
    found_problem = pod(state={"waiting": {"reason": "ErrImagePull", "message": "not found"}})
    verdict, runtime = readiness.judge(sensor(), deployment(ready=1, updated=1, total=2), [found_problem])
    assert (verdict.status, verdict.reason) == ("False", "ImagePullBackOff")
    assert "1 pod keeps serving" in verdict.message
    assert runtime.ready_replicas == 1


def test_paused_it_is_what_its_spec_asks_for_and_no_pod_counts() -> None:
    verdict, runtime = readiness.judge(sensor(paused=True), deployment(ready=1, updated=1, total=1), [])
    assert (verdict.status, verdict.reason) == ("True", "Paused")
    assert "spec.paused" in verdict.message
    assert runtime.ready_replicas == 0


ENDED = {"terminated": {"exitCode": 2, "reason": "Error", "message": "a\nlong\nstory"}}


@pytest.mark.parametrize(
    ("found", "reason", "words"),
    [
        (pod(), "Progressing", "is starting"),
        (pod(state={"waiting": {"reason": "ContainerCreating"}}), "Progressing", "is starting"),
        (pod(state={"waiting": {"reason": "ImagePullBackOff", "message": "Back-off"}}), "ImagePullBackOff", "i:1"),
        (pod(state={"waiting": {"reason": "ErrImagePull", "message": "denied"}}), "ImagePullBackOff", "denied"),
        (pod(state={"waiting": {"reason": "CreateContainerConfigError", "message": "runs as root"}}),
         "CreateContainerConfigError", "runs as root"),
        (pod(state={"waiting": {"reason": "CrashLoopBackOff"}}, lastState=ENDED), "CrashLoopBackOff", "a long story"),
        (pod(state=ENDED), "CrashLoopBackOff", "status 2"),
        (pod(state={"running": {}}, lastState=ENDED), "CrashLoopBackOff", "status 2"),
        (pod(state={"running": {}}, started=True), "NotReady", "its probe /ready fails"),
        (pod(state={"running": {}}, started=False), "NotReady", "its probe /live does not succeed"),
        (pod(state={"waiting": {"reason": "CrashLoopBackOff"}},
             lastState={"terminated": {"exitCode": 137, "reason": "OOMKilled"}}), "CrashLoopBackOff", "memory"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_pod(found: Any, reason: str, words: str) -> None:
    found_problem = pods.problem(found)
    assert found_problem.reason == reason
    assert words in found_problem.message


BROKEN: dict[str, Any] = {"name": "istio-proxy", "state": {"terminated": {"exitCode": 7, "reason": "Error"}}}


@pytest.mark.parametrize("where", ["containerStatuses", "initContainerStatuses"])
def test_a_container_that_somebody_added_is_named_when_it_fails(where: str) -> None:
    found = pod(state={"running": {}}, started=True)
    found["status"][where] = [*found["status"].get(where, []), BROKEN]
    said = pods.problem(found)
    assert said.reason == "OtherContainerFailed"
    assert "the container istio-proxy of pod" in said.message
    assert "status 7" in said.message


def test_a_container_that_somebody_added_and_that_runs_is_not_blamed() -> None:
    found = pod(state={"running": {}}, started=True)
    found["status"]["containerStatuses"].append({"name": "istio-proxy", "state": {"running": {}}})
    assert pods.problem(found).reason == "NotReady"


def test_a_pod_whose_node_is_lost_says_so() -> None:
    found = pod(state={"running": {}}, started=True)
    found["spec"] = {"nodeName": "worker-2"}
    found["status"]["conditions"] = [{"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown"}]
    said = pods.problem(found)
    assert said.reason == "NodeLost"
    assert "worker-2" in said.message


def test_old_pods_that_are_still_there_are_said() -> None:
    verdict, _ = readiness.judge(sensor(), deployment(ready=1, updated=1, total=2), [])
    assert verdict.message == "The new pods are ready; 1 old pod is still there."


def test_a_pod_without_a_node_says_what_the_scheduler_says() -> None:
    found = pod()
    found["status"]["conditions"].append({"type": "PodScheduled", "status": "False", "message": "0/3 nodes"})
    assert pods.problem(found).reason == "Unschedulable"
    assert "0/3 nodes" in pods.problem(found).message


def test_a_long_last_word_is_cut_at_its_beginning() -> None:
    text = "x" * 5000 + " the end"
    message = pods.problem(pod(state={"terminated": {"exitCode": 1, "message": text}})).message
    assert len(message) < 700
    assert "the end" in message


def test_of_many_pods_the_gravest_trouble_counts_and_those_that_go_do_not() -> None:
    going = pod("gone", state=ENDED)
    going["metadata"]["deletionTimestamp"] = "now"
    starting, broken = pod("a", created="1"), pod("b", created="2", state=ENDED)
    assert pods.worst([going]) is None
    assert pods.worst([pod(ready=True)]) is None
    worst = pods.worst([going, starting, broken])
    assert worst is not None
    assert worst.reason == "CrashLoopBackOff"


READY = Verdict(status="True", reason="Available", message="1 pod is ready.")
VALID = Verdict(status="True", reason="Valid", message="")
TOKEN = TokenInfo(issued_at=NOW, expires_at=LATER, rotates_at=LATER, key_id="k")


def compose(body: dict[str, Any], *, now: datetime = NOW, ready: Verdict = READY, **summary: Any) -> dict[str, Any]:
    return status.compose(body, ready=ready, credentials=VALID, token=TOKEN, summary=RuleSummary(**summary), now=now)


BODY: dict[str, Any] = {"metadata": {"generation": 3}}


def test_the_status_says_everything_and_the_same_again_is_no_write() -> None:
    first = compose(BODY, bound=3, active=2, rejected=1, synced=True, reason="Synced", message="", last_event_time=NOW)
    assert first["observedGeneration"] == 3
    assert first["rules"] == {"bound": 3, "active": 2, "rejected": 1}
    assert first["token"]["expiresAt"] == "2026-11-23T13:00:00Z"
    assert first["lastEventTime"] == "2026-11-23T12:00:00Z"
    assert {c["type"]: c["status"] for c in first["conditions"]} == {
        "Ready": "True", "CredentialsValid": "True", "RulesSynced": "True", "Healthy": "Unknown"
    }  # fmt: skip
    again = compose(
        {**BODY, "status": first}, now=LATER, bound=3, active=2, rejected=1, synced=True, reason="Synced", message="",
        last_event_time=NOW,
    )  # fmt: skip
    assert status.patch(first, again) == {}


def test_the_status_has_what_scaling_needs() -> None:
    found = status.compose(
        BODY, ready=READY, credentials=VALID, token=TOKEN, summary=RuleSummary(), now=NOW, replicas=2,
        selector={"b": "2", "a": "1"},
    )  # fmt: skip
    assert (found["replicas"], found["selector"]) == (2, "a=1,b=2")


def test_a_conditions_time_changes_with_its_status_alone() -> None:
    first = compose(BODY)
    other = Verdict(status="True", reason="Available", message="2 pods are ready.")
    same = compose({**BODY, "status": first}, now=LATER, ready=other)
    assert same["conditions"][0]["lastTransitionTime"] == "2026-11-23T12:00:00Z"
    assert same["conditions"][0]["message"] == "2 pods are ready."
    down = Verdict(status="False", reason="Progressing", message="")
    flipped = compose({**BODY, "status": first}, now=LATER, ready=down)
    assert flipped["conditions"][0]["lastTransitionTime"] == "2026-11-23T13:00:00Z"


@pytest.mark.parametrize(
    ("reason", "stalled"), [("NameTaken", True), ("InvalidPayloadSchema", True), ("ImagePullBackOff", False)]
)
def test_what_does_not_pass_by_itself_is_stalled_and_only_then(reason: str, stalled: bool) -> None:
    broken = compose(BODY, ready=Verdict(status="False", reason=reason, message="why"))
    assert ("Stalled" in {c["type"] for c in broken["conditions"]}) == stalled
    assert "Stalled" not in {c["type"] for c in compose({**BODY, "status": broken})["conditions"]}


@pytest.mark.parametrize(("synced", "expected"), [(None, "Unknown"), (True, "True"), (False, "False")])
def test_what_is_not_known_yet_is_unknown(synced: bool | None, expected: str) -> None:
    assert compose(BODY, synced=synced)["conditions"][2]["status"] == expected


def test_the_last_event_never_goes_back() -> None:
    old = {**BODY, "status": {"lastEventTime": "2026-11-23T13:00:00Z"}}
    assert compose(old, last_event_time=NOW)["lastEventTime"] == "2026-11-23T13:00:00Z"
    assert compose(old)["lastEventTime"] == "2026-11-23T13:00:00Z"
    assert compose({**BODY, "status": {}}, last_event_time=LATER)["lastEventTime"] == "2026-11-23T13:00:00Z"


def test_a_patch_holds_what_differs_and_removes_what_is_gone() -> None:
    assert status.patch({"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 3}) == {"b": 3, "c": None}
    assert status.patch(None, {"a": 1}) == {"a": 1}


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "integr"}, "integr"),
        ({"properties": 7}, "7"),
        ({"$ref": "https://example.org/schema.json"}, "https://example.org"),
        ({"pattern": "("}, "("),
    ],
)
def test_a_schema_that_cannot_be_used_is_found_and_named(schema: Any, words: str) -> None:
    types = [{"name": "a.good", "parametersSchema": {"type": "object"}}, {"name": "a.bad", "parametersSchema": schema}]
    found = schemas.problem(sensor(triggerTypes=types))
    assert found is not None
    assert found[0] == "InvalidParametersSchema"
    assert found[1].startswith("spec.triggerTypes[1].parametersSchema (of a.bad) cannot be used: ")
    assert words in found[1]


def test_good_schemas_are_no_problem() -> None:
    good = {"type": "object", "properties": {"interval": {"type": "integer", "minimum": 1}}}
    assert schemas.problem(sensor(triggerTypes=[{"name": "a.b", "parametersSchema": good}])) is None
    bad_payload = [{"name": "a.b", "payloadSchema": {"type": 3}}]
    found = schemas.problem(sensor(triggerTypes=bad_payload))
    assert found is not None
    assert found[0] == "InvalidPayloadSchema"


def test_what_is_not_known_of_its_health_stays_as_it_was() -> None:
    known = HealthView(healthy=False, reason="ApiUnavailable", message="pod: cannot reach the API")
    first = compose(BODY, health=known)
    assert [c["reason"] for c in first["conditions"] if c["type"] == "Healthy"] == ["ApiUnavailable"]
    restarted = compose({**BODY, "status": first}, now=LATER)
    assert restarted["conditions"][-1] == first["conditions"][-1]
    better = compose(
        {**BODY, "status": first}, now=LATER, health=HealthView(healthy=True, reason="Healthy", message="well")
    )
    assert (better["conditions"][-1]["status"], better["conditions"][-1]["lastTransitionTime"]) == (
        "True",
        "2026-11-23T13:00:00Z",
    )
