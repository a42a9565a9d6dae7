"""Whether a Sensor is ready, from its Deployment and its pods, and why not. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from attune_contract.resources import Sensor
from attune_operator.runtime.client import Body
from attune_operator.runtime.views import SensorRuntime
from attune_operator.sensors import pods as pods_


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A condition's content. ``warn``: somebody should look, it does not pass by itself."""

    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str
    warn: bool = False


def _failure(deployment: Body) -> str:
    """Why pods cannot even be made (a quota, Pod Security); empty when they can."""
    for condition in (deployment.get("status") or {}).get("conditions") or ():
        if condition.get("type") == "ReplicaFailure" and condition.get("status") == "True":
            return str(condition.get("message") or condition.get("reason"))
    return ""


def judge(sensor: Sensor, deployment: Body | None, pods: Iterable[Body]) -> tuple[Verdict, SensorRuntime]:
    """The content of the condition Ready, and what the Rule side is told.

    Ready is True when the pods of the *current* spec run and answer. While a change is rolled out it is False (kstatus: in
    progress), though the pods of the version before go on serving; those count in the runtime.
    """
    status = (deployment or {}).get("status") or {}
    ready = int(status.get("readyReplicas") or 0)
    if sensor.spec.paused:
        message = "The Sensor is paused; set spec.paused to false to go on."
        left = int(status.get("replicas") or 0)
        still = f" {left} of its pods are still stopping." if left else ""
        return Verdict(status="False", reason="Paused", message=message + still), SensorRuntime(
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
        return Verdict(status="False", reason="Progressing", message="The Deployment is being made.")
    status = deployment.get("status") or {}
    wanted = sensor.spec.replicas
    current = int(status.get("observedGeneration") or 0) >= int(deployment["metadata"].get("generation") or 0)
    updated, total = int(status.get("updatedReplicas") or 0), int(status.get("replicas") or 0)
    if current and updated >= wanted and ready >= wanted and total <= updated:
        many = "1 pod runs and answers" if wanted == 1 else f"{wanted} pods run and answer"
        return Verdict(status="True", reason="Available", message=f"{many}.")
    if current and (failure := _failure(deployment)):
        return Verdict(status="False", reason="FailedCreate", message=f"No pod can be made: {failure}", warn=True)
    trouble = pods_.worst(pods) if current else None
    serving = f" {ready} of its pods go on serving." if ready else ""
    if trouble is not None and trouble.reason != "Progressing":
        return Verdict(status="False", reason=trouble.reason, message=trouble.message + serving, warn=trouble.grave)
    message = f"{min(updated, ready)} of {wanted} pods are ready.{serving}"
    return Verdict(status="False", reason="Progressing", message=message)
