"""What a Sensor's page shows: its pods, its token's life, and its trigger types. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from attune_api.console.rows import Tone
from attune_api.console.views.schema_fields import Fields, fields_of
from attune_contract.telling import Object

#: Parameters of one trigger type that are listed.
_MOST_LISTED: Final = 100
#: Reasons for which a container waits that pass by themselves.
_STARTING: Final = ("ContainerCreating", "PodInitializing")
_LONGEST: Final = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class PodRow:
    """A pod: its name, how it is, the same in a word, why, how often its containers began again, and since when it exists."""

    name: str
    tone: Tone
    word: str
    says: str
    restarts: int
    since: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeRow:
    """A trigger type that the Sensor offers."""

    name: str
    aliases: Sequence[str]
    parameters: Fields


def pod_rows(pods: Sequence[Object]) -> list[PodRow]:
    """The pods, the newest last."""
    return [_pod_row(pod) for pod in sorted(pods, key=lambda pod: str(pod["metadata"].get("creationTimestamp") or ""))]


def _pod_row(pod: Object) -> PodRow:
    metadata, status = pod["metadata"], pod.get("status") or {}
    containers = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    tone, word, says = _pod_state(metadata, status, containers)
    return PodRow(
        name=str(metadata["name"]),
        tone=tone,
        word=word,
        says=says[:_LONGEST],
        restarts=sum(int(each.get("restartCount") or 0) for each in containers),
        since=str(metadata.get("creationTimestamp") or ""),
    )


def _pod_state(metadata: Object, status: Object, containers: Sequence[Object]) -> tuple[Tone, str, str]:
    if metadata.get("deletionTimestamp"):
        return "off", "Stopping", ""
    conditions = {str(each.get("type")): each for each in status.get("conditions") or ()}
    if (conditions.get("Ready") or {}).get("status") == "True":
        return "good", "Ready", ""
    for container in containers:
        state, last = container.get("state") or {}, container.get("lastState") or {}
        waiting = state.get("waiting") or {}
        ended = state.get("terminated") or (last.get("terminated") if waiting else None) or {}
        reason = str(waiting.get("reason") or "")
        if ended.get("exitCode"):
            return "bad", reason or "Ended", f"{container.get('name')} ended with status {ended['exitCode']}."
        if reason and reason not in _STARTING:
            return "bad", reason, str(waiting.get("message") or "")
    scheduled = conditions.get("PodScheduled") or {}
    if scheduled.get("status") == "False":
        return "bad", str(scheduled.get("reason") or "Not scheduled"), str(scheduled.get("message") or "")
    if status.get("phase") == "Failed":
        return "bad", str(status.get("reason") or "Failed"), str(status.get("message") or "")
    if any("running" in (each.get("state") or {}) for each in containers):
        return "wait", "Not ready", "It runs, and does not say yet that it is ready."
    return "wait", "Starting", ""


def type_rows(sensor: Object) -> list[TypeRow]:
    """The trigger types that a Sensor offers."""
    return [
        TypeRow(
            name=str(each.get("name") or ""),
            aliases=[str(alias) for alias in each.get("aliases") or ()],
            parameters=fields_of(each.get("parametersSchema"), most=_MOST_LISTED),
        )
        for each in sensor["spec"].get("triggerTypes") or ()
    ]


def type_named(sensor: Object, name: str) -> Mapping[str, Any] | None:
    """The trigger type of that name or alias; None if the Sensor has none."""
    for each in sensor["spec"].get("triggerTypes") or ():
        if name == each.get("name") or name in (each.get("aliases") or ()):
            return dict(each)
    return None


def usual_namespace(sensor: Object, chosen: str) -> str:
    """Where a new Rule is likely to be: where the Sensor admits only its own namespace, there.

    Args:
        sensor: the Sensor.
        chosen: the namespace that the visitor looks at; empty for all.
    """
    admitted = ((sensor["spec"].get("rules") or {}).get("namespaces") or {}).get("from", "Same")
    return str(sensor["metadata"]["namespace"]) if admitted == "Same" else chosen or "default"
