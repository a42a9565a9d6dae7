"""Which pods a Deployment makes and which it lets go now. Pure: the rolling update of Kubernetes with one pod to spare.

A pod of the new template is up before one of the old goes (``maxSurge: 1, maxUnavailable: 0``, as the builder writes it); pods
that listen on a port of the machine go first, since all pods share its ports.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from attune_local.node.container import listening_ports
from attune_operator.public.objects import Object

#: On pods, as on those of a ReplicaSet: which template they are of.
TEMPLATE_HASH: Final = "pod-template-hash"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """What is to be done now."""

    create: int
    delete: tuple[str, ...]


def template_hash(deployment: Object) -> str:
    """Tells one template from another."""
    text = json.dumps(deployment["spec"]["template"], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def is_ready(pod: Object) -> bool:
    """Whether the pod says so in its conditions, and is not on its way out."""
    conditions = (pod.get("status") or {}).get("conditions") or ()
    ready = any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)
    return ready and "deletionTimestamp" not in pod["metadata"]


def _living(pods: Iterable[Object]) -> list[Object]:
    return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]


def _listens(deployment: Object) -> bool:
    containers = deployment["spec"]["template"]["spec"].get("containers") or ()
    return any(listening_ports(found) for found in containers)


def plan(deployment: Object, pods: Iterable[Object]) -> Rollout:
    """What brings the pods nearer to what the Deployment wants."""
    wanted = int(deployment["spec"].get("replicas", 1))
    current_hash = template_hash(deployment)
    living = sorted(_living(pods), key=lambda pod: (pod["metadata"]["creationTimestamp"], pod["metadata"]["name"]))
    current = [pod for pod in living if pod["metadata"]["labels"].get(TEMPLATE_HASH) == current_hash]
    old = [pod for pod in living if pod not in current]
    surplus = current[wanted:]
    # Old pods that do not serve are deleted at once; serving ones as new pods replace them.
    idle = [pod for pod in old if not is_ready(pod)]
    serving = [pod for pod in old if is_ready(pod)]
    # A pod that listens on a port of this machine cannot do so while the one before it still does.
    spares = 0 if _listens(deployment) else 1
    create = min(wanted - len(current), wanted + spares - len(current) - len(serving))
    spare = sum(map(is_ready, current[:wanted])) + len(serving) - wanted
    if not spares and len(current) < wanted:
        spare = len(serving)
    going = [*surplus, *idle, *serving[: max(0, spare)]]
    return Rollout(create=max(0, create), delete=tuple(pod["metadata"]["name"] for pod in going))


def status(deployment: Object, pods: Iterable[Object]) -> dict[str, Any]:
    """The Deployment's status."""
    living = _living(pods)
    current_hash = template_hash(deployment)
    updated = [pod for pod in living if pod["metadata"]["labels"].get(TEMPLATE_HASH) == current_hash]
    ready = sum(map(is_ready, living))
    return {
        "observedGeneration": deployment["metadata"]["generation"],
        "replicas": len(living),
        "updatedReplicas": len(updated),
        "readyReplicas": ready,
        "availableReplicas": ready,
    }
