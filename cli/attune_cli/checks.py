"""What ``attune status`` checks, as values: each check says whether it is ok, and if not, what to do."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from attune_contract.messages import PARTLY_REFUSED
from attune_contract.telling import (
    Object,
    condition,
    ref,
    rule_note,
    rule_problem,
    sensor_note,
    sensor_problem,
    trouble_since,
)

#: A note is no problem: a Rule that does not fire, as it was asked to, or a remark of its sensor.
State = Literal["ok", "note", "problem", "unknown"]
_Sentence = Callable[[Object], str | None]
#: So many problems are named; of one's own namespace more.
_NAMED: Final = 5
_MOST: Final = 50
#: So many notes are shown, of one's own namespace alone.
_NOTES: Final = 10
#: The chart's parts, by their label app.kubernetes.io/name.
_PARTS: Final = {"attune-operator": "operator", "attune-api": "API", "attune-nats": "NATS"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """The result of one check."""

    name: str
    state: State
    message: str
    advice: str = ""

    def plain(self) -> dict[str, str]:
        """For JSON and YAML."""
        return asdict(self)


def pods(found: Iterable[Object], namespace: str) -> Iterator[Check]:
    """The chart's own pods."""
    by_part: dict[str, list[Object]] = {label: [] for label in _PARTS}
    for pod in found:
        label = (pod["metadata"].get("labels") or {}).get("app.kubernetes.io/name", "")
        if label in by_part:
            by_part[label].append(pod)
    for label, name in _PARTS.items():
        mine = by_part[label]
        ready = [pod for pod in mine if condition(pod, "Ready").get("status") == "True"]
        if ready:
            yield Check(name=name, state="ok", message=f"{len(ready)} of {len(mine)} pods are ready")
        elif mine:
            pod = mine[0]
            yield Check(
                name=name,
                state="problem",
                message=f"no pod is ready: {pod['metadata']['name']} {pod_problem(pod)}",
                advice=f"kubectl -n {namespace} describe pod {pod['metadata']['name']}; kubectl -n {namespace} logs "
                f"{pod['metadata']['name']}",
            )
        elif name == "NATS":
            yield Check(name=name, state="unknown", message="no pod; the chart may use another server")
        else:
            yield Check(
                name=name,
                state="problem",
                message=f"no pod in namespace {namespace}",
                advice="install the chart, or name its namespace with --system-namespace",
            )


def pod_problem(pod: Object) -> str:
    """Why a pod is not ready, in a few words."""
    status = pod.get("status") or {}
    for container in status.get("containerStatuses") or ():
        waiting = (container.get("state") or {}).get("waiting")
        if waiting:
            return " ".join(
                filter(None, ["is waiting:", str(waiting.get("reason", "")), str(waiting.get("message", ""))[:200]])
            )
    scheduled = condition(pod, "PodScheduled")
    if scheduled.get("status") == "False":
        return f"cannot be scheduled: {scheduled.get('message', '')}"
    return f"is {status.get('phase', 'Unknown')}"


def sensors(found: Sequence[Object], *, own: str | None = None) -> Iterator[Check]:
    """The Sensors: one check for all that are ok, one for each that is not; all of the namespace ``own``."""
    yield from _objects(found, "Sensors", sensor_problem, sensor_note, "attune sensors show {}", own=own)


def serving(found: Iterable[Object]) -> Iterator[Check]:
    """Sensors of other namespaces that serve the Rules: what is wrong with them, and nothing about those that are ok."""
    for body in found:
        if (problem := sensor_problem(body)) is not None:
            yield Check(
                name=f"Sensor {ref(body)}",
                state="problem",
                message=f"it serves your Rules. {problem}",
                advice=f"attune sensors show {ref(body)}",
            )


def rules(found: Sequence[Object], *, own: str | None = None) -> Iterator[Check]:
    """The Rules: one check for all that are ok, one for each that is not; all of the namespace ``own``."""
    yield from _objects(found, "Rules", rule_problem, rule_note, "attune rules show {}", own=own)


def _objects(
    found: Sequence[Object], kind: str, problem_of: _Sentence, note_of: _Sentence, advice: str, *, own: str | None
) -> Iterator[Check]:
    wrong = [(body, problem) for body in found if (problem := problem_of(body)) is not None]
    # What does not work at all goes before what works in part, and then the newest first: that is what somebody just did.
    wrong.sort(key=lambda each: trouble_since(each[0]), reverse=True)
    wrong.sort(key=lambda each: PARTLY_REFUSED in each[1])
    mine = [each for each in wrong if each[0]["metadata"].get("namespace") == own]
    shown = (mine[:_MOST] + [each for each in wrong if each not in mine])[: max(_NAMED, len(mine[:_MOST]))]
    good = len(found) - len(wrong)
    if not found:
        yield Check(name=kind, state="ok", message="none yet")
    elif good:
        yield Check(name=kind, state="ok", message=f"{good} of {len(found)} are ok (or disabled)")
    yield from _notes(found, kind, problem_of, note_of, own=own)
    for body, problem in shown:
        name = f"{kind[:-1]} {ref(body)}"
        yield Check(name=name, state="problem", message=problem, advice=advice.format(ref(body)))
    if len(wrong) > len(shown):
        listed = f"attune {kind.lower()} list -A" + (" --problems" if kind == "Rules" else "")
        message = f"{len(wrong) - len(shown)} more have a problem"
        yield Check(name=kind, state="problem", message=message, advice=listed)


def _notes(
    found: Sequence[Object], kind: str, problem_of: _Sentence, note_of: _Sentence, *, own: str | None
) -> Iterator[Check]:
    mine = [body for body in found if body["metadata"].get("namespace") == own and problem_of(body) is None]
    notes = [(body, note) for body in mine if (note := note_of(body)) is not None]
    notes.sort(key=lambda each: trouble_since(each[0]), reverse=True)
    for body, note in notes[:_NOTES]:
        yield Check(name=f"{kind[:-1]} {ref(body)}", state="note", message=note)
    if len(notes) > _NOTES:
        yield Check(name=kind, state="note", message=f"{len(notes) - _NOTES} more: attune {kind.lower()} list -n {own}")


def health(answer: Mapping[str, Any]) -> Check:
    """What the API reports about itself (``/ready``)."""
    problems = answer.get("problems") or {}
    if not problems:
        return Check(name="API answers", state="ok", message="it can store events")
    text = "; ".join(f"{part}: {problem}" for part, problem in problems.items())
    return Check(name="API answers", state="problem", message=text, advice="see the API's log")
