"""Why pods are not ready, from what the kubelet and the scheduler report. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from attune_operator.resources.deployment import CONTAINER
from attune_operator.resources.stdio import COPIER
from attune_operator.runtime.client import Body

_MESSAGE: Final = 500
#: Reasons of a waiting container that pass by themselves.
_STARTING: Final = frozenset({"ContainerCreating", "PodInitializing", ""})
_IMAGE: Final = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"}
)


@dataclass(frozen=True, slots=True)
class PodProblem:
    """Why a pod is not ready. ``grave``: it does not pass by itself."""

    reason: str
    message: str
    grave: bool


def _tail(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _MESSAGE else "…" + text[-_MESSAGE:]


def _condition(body: Body, kind: str) -> Mapping[str, Any]:
    conditions = (body.get("status") or {}).get("conditions") or ()
    return next((condition for condition in conditions if condition.get("type") == kind), {})


def is_ready(pod: Body) -> bool:
    """Whether the pod's readiness probe succeeds, and the pod is not being deleted."""
    return not pod["metadata"].get("deletionTimestamp") and _condition(pod, "Ready").get("status") == "True"


def runs(pod: Body) -> bool:
    """Whether the sensor's program runs in the pod, ready or not, and the pod is not being deleted."""
    containers = (pod.get("status") or {}).get("containerStatuses") or ()
    return not pod["metadata"].get("deletionTimestamp") and any(
        found.get("name") == CONTAINER and "running" in (found.get("state") or {}) for found in containers
    )


def _ended(terminated: Mapping[str, Any]) -> str:
    code, reason = terminated.get("exitCode"), terminated.get("reason") or "Error"
    how = "was killed for using more memory than its limit" if reason == "OOMKilled" else f"ended with status {code}"
    output = _tail(str(terminated.get("message") or ""))
    return f"{how}; its last output: {output}" if output else f"{how} without any output"


def problem(pod: Body) -> PodProblem:
    """Why a pod is not ready. Steady facts only: what changes with each restart would flap."""
    name = pod["metadata"]["name"]
    status = pod.get("status") or {}
    for found in status.get("initContainerStatuses") or ():
        done = ((found.get("state") or {}).get("terminated") or {}).get("exitCode") == 0
        if found.get("name") == COPIER and not done:
            return _container_problem(name, found)
        # One that restarts (a sidecar) runs beside the sensor. Others that are not done hold it up.
        if not done and (other := _others_problem(name, found)) is not None:
            return other
    if lost(pod):
        node = (pod.get("spec") or {}).get("nodeName") or "(unknown)"
        return PodProblem("NodeLost", f"The node {node} of pod {name} does not answer: nobody knows how it is.", True)
    for found in status.get("containerStatuses") or ():
        if found.get("name") != CONTAINER and (other := _others_problem(name, found)) is not None:
            return other
    containers = [found for found in status.get("containerStatuses") or () if found.get("name") == CONTAINER]
    if containers:
        return _container_problem(name, containers[0])
    scheduled = _condition(pod, "PodScheduled")
    if scheduled.get("status") == "False":
        return PodProblem(
            "Unschedulable", f"Pod {name} cannot be scheduled: {_tail(scheduled.get('message', ''))}", True
        )
    if status.get("phase") == "Failed":
        return PodProblem("PodFailed", f"Pod {name} failed: {_tail(status.get('message', ''))}", True)
    return PodProblem("Progressing", f"Pod {name} is starting.", False)


def lost(pod: Body) -> bool:
    """Whether the pod's node no longer reports (Kubernetes, node lifecycle controller)."""
    ready = _condition(pod, "Ready")
    taints = _condition(pod, "DisruptionTarget")
    return (pod.get("status") or {}).get("reason") == "NodeLost" or (
        ready.get("status") == "Unknown" or taints.get("reason") == "DeletionByTaintManager"
    )


def _others_problem(name: str, container: Mapping[str, Any]) -> PodProblem | None:
    """What is wrong with a container that somebody added to the pod, such as a mesh's; None if nothing is that we see."""
    own = str(container.get("name"))
    state, last = container.get("state") or {}, container.get("lastState") or {}
    waiting = state.get("waiting") or {}
    ended = state.get("terminated") or last.get("terminated")
    who = f"the container {own} of pod {name}, which is not the sensor's"
    if waiting.get("reason") in _IMAGE:
        said = _tail(waiting.get("message", ""))
        return PodProblem(
            "ImagePullBackOff", f"The image {container.get('image', '')} of {who}, cannot be pulled: {said}", True
        )
    if ended is not None and ended.get("exitCode") != 0:
        return PodProblem("OtherContainerFailed", f"Not ready because of {who}: it {_ended(ended)}.", True)
    if waiting and waiting.get("reason", "") not in _STARTING | {"CrashLoopBackOff"}:
        return PodProblem(
            "OtherContainerFailed", f"Not ready because of {who}: {_tail(waiting.get('message', ''))}", True
        )
    return None


def _container_problem(name: str, container: Mapping[str, Any]) -> PodProblem:
    state, last = container.get("state") or {}, container.get("lastState") or {}
    waiting = state.get("waiting") or {}
    reason = waiting.get("reason") or ""
    ended = state.get("terminated") or last.get("terminated")
    if reason in _IMAGE:
        # ErrImagePull and ImagePullBackOff alternate, and mean the same.
        image = container.get("image", "")
        said = _tail(waiting.get("message", ""))
        return PodProblem("ImagePullBackOff", f"The image {image} cannot be pulled for pod {name}: {said}", True)
    if waiting and reason not in _STARTING and reason != "CrashLoopBackOff":
        return PodProblem(reason, f"Pod {name} cannot start: {_tail(waiting.get('message', ''))}", True)
    if ended is not None:
        return PodProblem("CrashLoopBackOff", f"The sensor in pod {name} {_ended(ended)}.", True)
    if "running" in state:
        what = "its probe /ready fails" if container.get("started") else "its probe /live does not succeed yet"
        return PodProblem("NotReady", f"The sensor in pod {name} runs, but {what}. See `kubectl logs`.", False)
    return PodProblem("Progressing", f"Pod {name} is starting.", False)


def worst(pods: Iterable[Body]) -> PodProblem | None:
    """The gravest problem among pods that are neither ready nor being deleted; None if there is no such pod."""
    living = [pod for pod in pods if not pod["metadata"].get("deletionTimestamp")]
    problems = [problem(pod) for pod in sorted(living, key=_created) if not is_ready(pod)]
    return next((found for found in problems if found.grave), problems[0] if problems else None)


def _created(pod: Body) -> str:
    return str(pod["metadata"].get("creationTimestamp") or "")
