"""Whether a Sensor is ready, from its Deployment and its pods, and why not. Pure."""

from collections.abc import Iterable

from attune_contract.resources import Sensor
from attune_operator.runtime.client import Body
from attune_operator.runtime.conditions import Verdict
from attune_operator.runtime.views import SensorRuntime
from attune_operator.sensors import pods as pods_


def _failure(deployment: Body) -> str:
    """Why pods cannot be created (a quota, Pod Security); empty if they can."""
    for condition in (deployment.get("status") or {}).get("conditions") or ():
        if condition.get("type") == "ReplicaFailure" and condition.get("status") == "True":
            return str(condition.get("message") or condition.get("reason"))
    return ""


def judge(sensor: Sensor, deployment: Body | None, pods: Iterable[Body]) -> tuple[Verdict, SensorRuntime]:
    """Return the condition Ready, and the state of the pods for the Rule side.

    Ready is True if the pods of the *current* spec run and are ready. While a change is rolled out it is False (kstatus: in
    progress), although the pods of the previous version continue to serve; those count in the runtime.
    """
    status = (deployment or {}).get("status") or {}
    ready = int(status.get("readyReplicas") or 0)
    if sensor.spec.paused:
        # As its spec asks: a paused Sensor in git must not hold up what waits for Ready (docs/gitops.md).
        message = "The Sensor is paused. Set spec.paused to false to resume it."
        left = int(status.get("replicas") or 0)
        still = f" {left} of its pods are still stopping." if left else ""
        return Verdict(status="True", reason="Paused", message=message + still), SensorRuntime(
            ready_replicas=0, message=message, instances=frozenset()
        )
    found = list(pods)
    verdict = _running(sensor, deployment, found, ready)
    return verdict, SensorRuntime(
        ready_replicas=ready,
        message="" if ready else verdict.message,
        instances=frozenset(pod["metadata"]["name"] for pod in found if pods_.runs(pod)),
    )


def _running(sensor: Sensor, deployment: Body | None, pods: list[Body], ready: int) -> Verdict:
    if deployment is None:
        return Verdict(status="False", reason="Progressing", message="The Deployment is being created.")
    status = deployment.get("status") or {}
    scaled = (deployment.get("spec") or {}).get("replicas")  # by an autoscaler
    desired = int(scaled or sensor.spec.replicas)
    current = int(status.get("observedGeneration") or 0) >= int(deployment["metadata"].get("generation") or 0)
    updated, total = int(status.get("updatedReplicas") or 0), int(status.get("replicas") or 0)
    if current and updated >= desired and ready >= desired and total <= updated:
        many = "1 pod is ready" if desired == 1 else f"{desired} pods are ready"
        return Verdict(status="True", reason="Available", message=f"{many}.")
    if current and (failure := _failure(deployment)):
        return Verdict(status="False", reason="FailedCreate", message=f"No pod can be created: {failure}", warn=True)
    problem = pods_.worst(pods) if current else None
    serving = f" {ready} {'pod keeps' if ready == 1 else 'pods keep'} serving." if ready else ""
    if problem is not None and problem.reason != "Progressing":
        return Verdict(status="False", reason=problem.reason, message=problem.message + serving, warn=problem.grave)
    if current and updated >= desired and ready >= desired and (old := total - updated) > 0:
        many = "1 old pod is" if old == 1 else f"{old} old pods are"
        message = f"The new pods are ready; {many} still there."
        return Verdict(status="False", reason="Progressing", message=message)
    message = f"{min(updated, ready, desired)} of {desired} pods are ready.{serving}"
    return Verdict(status="False", reason="Progressing", message=message)
