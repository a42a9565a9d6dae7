"""Tells people what is the matter with a Sensor or a Rule, once each time it changes, and where it is written."""

from collections.abc import Callable
from typing import Any, Final

from attune_local.admission import Checked
from attune_operator.public.backend import WatchEventType
from attune_operator.public.objects import RULE, SENSOR, Kind, Object

#: Reasons of a Sensor's Ready that pass by themselves, or are meant.
_QUIET: Final = frozenset({"Available", "Progressing", "NotReady", "Paused"})
_RULE_PROBLEMS: Final = frozenset({"Rejected", "Failing"})
#: Where in the manifest the cause of a reason is likely to be.
_FIELDS: Final[dict[str, tuple[str, ...]]] = {
    "ImagePullBackOff": ("spec", "image"),
    "CrashLoopBackOff": ("spec", "command"),
    "CreateContainerError": ("spec", "command"),
    "InvalidParametersSchema": ("spec", "triggerTypes"),
    "InvalidPayloadSchema": ("spec", "triggerTypes"),
    "UnknownTriggerType": ("spec", "trigger", "type"),
    "InvalidParameters": ("spec", "trigger", "parameters"),
    "Rejected": ("spec", "trigger", "parameters"),
}


def _condition(body: Object, kind: str) -> dict[str, Any]:
    metadata, status = body["metadata"], body.get("status") or {}
    for found in status.get("conditions") or ():
        if found.get("type") == kind and found.get("observedGeneration") == metadata.get("generation"):
            return dict(found)
    return {}


def problem_of(kind: Kind, body: Object) -> tuple[str, str] | None:
    """Reason and sentence of what somebody has to look after; None when there is nothing, or nothing is known yet."""
    if kind == SENSOR:
        ready = _condition(body, "Ready")
        if ready.get("status") == "False" and ready.get("reason") not in _QUIET:
            return ready["reason"], ready["message"]
        return None
    accepted, active = _condition(body, "Accepted"), _condition(body, "Active")
    if accepted.get("status") == "False":
        return accepted["reason"], accepted["message"]
    if active.get("status") == "False" and active.get("reason") in _RULE_PROBLEMS:
        return active["reason"], active["message"]
    return None


class Notices:
    """Follows statuses. ``find`` gives where an object is written."""

    def __init__(self, *, find: Callable[[str, str, str], Checked | None], say: Callable[[str], None]) -> None:
        self._find = find
        self._say = say
        self._reported: dict[str, str] = {}

    def on_change(self, kind: Kind, event: WatchEventType, body: Object) -> None:
        """An object has changed."""
        if kind not in (SENSOR, RULE):
            return
        metadata = body["metadata"]
        uid = metadata["uid"]
        if event == "DELETED":
            self._reported.pop(uid, None)
            return
        found = problem_of(kind, body)
        if found is None:
            ready = kind == SENSOR and _condition(body, "Ready").get("status") == "True"
            active = kind == RULE and _condition(body, "Active").get("status") == "True"
            if (ready or active) and self._reported.pop(uid, None) is not None:
                word = "ready" if ready else "active"
                self._say(f"{kind.kind} {metadata['namespace']}/{metadata['name']} is {word} now.")
            return
        reason, message = found
        if self._reported.get(uid) == reason:
            return  # the same problem_of, though its words (a pod's name, say) may have changed
        self._reported[uid] = reason
        written = self._find(kind.kind, metadata["namespace"], metadata["name"])
        where = f"{written.source}:{written.line_of(_FIELDS.get(reason, ()))}: " if written is not None else ""
        self._say(f"{where}{kind.kind} {metadata['namespace']}/{metadata['name']}: {message}")
