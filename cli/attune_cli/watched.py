"""Whether the asked installation looks after the namespaces that have Sensors and Rules. Pure, for ``attune status``."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from attune_cli.checks import Check
from attune_contract.names import INSTALLATION_KEY, INSTALLATION_MARK
from attune_contract.telling import Object

#: The operator's setting, as the chart puts it into the pod.
_SETTING: Final = "ATTUNE_OPERATOR_WATCH_NAMESPACES"
_OPERATOR: Final = "attune-operator"
#: So many namespaces are named.
_NAMED: Final = 5


def watch_namespaces(pods: Iterable[Object]) -> tuple[str, ...] | None:
    """Return the namespaces that the operator watches, from its pod; empty for all, None where that cannot be seen."""
    for pod in pods:
        if (pod["metadata"].get("labels") or {}).get("app.kubernetes.io/name") != _OPERATOR:
            continue
        for container in (pod.get("spec") or {}).get("containers") or ():
            for variable in container.get("env") or ():
                if variable.get("name") == _SETTING and "valueFrom" not in variable:
                    return tuple(name.strip() for name in str(variable.get("value") or "").split(",") if name.strip())
    return None


def holders(marks: Iterable[Object]) -> dict[str, str]:
    """Return the installation that each namespace's mark names."""
    return {
        str(body["metadata"].get("namespace", "")): str(found)
        for body in marks
        if body["metadata"].get("name") == INSTALLATION_MARK
        and (found := (body.get("data") or {}).get(INSTALLATION_KEY))
    }


def namespaces(
    used: Mapping[str, int], *, home: str, watched: tuple[str, ...] | None, marked: Mapping[str, str] | None, own: str
) -> Iterator[Check]:
    """Check the namespaces that have Sensors or Rules.

    Args:
        used: how many Sensors and Rules each namespace has.
        home: the namespace of the installation that is asked.
        watched: what its operator watches; None: not known.
        marked: the installation that each namespace's mark names; None: the marks cannot be read.
        own: the caller's namespace, of which is said what is not known.
    """
    wrong: list[Check] = []
    for namespace in sorted(used, key=lambda name: (name != own, name)):
        name, many = f"Namespace {namespace}", _things(used[namespace])
        if watched and namespace not in watched:
            message = f"the operator in {home} does not watch it, so nothing happens for {many}; it watches {', '.join(watched)}"
            advice = "add the namespace to the chart value watchNamespaces"
            wrong.append(Check(name=name, state="problem", message=message, advice=advice))
        elif marked is not None and (holder := marked.get(namespace, home)) != home:
            message = f"the installation in namespace {holder} looks after it, and the one in {home} keeps off"
            advice = f"attune --system-namespace {holder} status; to hand it over see docs/tenancy.md"
            wrong.append(Check(name=name, state="problem", message=message, advice=advice))
        elif watched is None and namespace == own:
            if marked is None:
                message = (
                    "whether the operator watches it is not known: you may read neither its pod nor ConfigMaps here"
                )
                wrong.append(Check(name=name, state="unknown", message=message))
            elif namespace not in marked:
                message = (
                    f"no operator has taken {many} yet: none runs, or none watches the namespace (which ones are "
                    "watched is not known: you may not read the operator's pod)"
                )
                wrong.append(Check(name=name, state="unknown", message=message))
    yield from wrong[:_NAMED]
    if len(wrong) > _NAMED:
        yield Check(
            name="Namespaces", state="problem", message=f"{len(wrong) - _NAMED} more that it does not look after"
        )


def _things(number: int) -> str:
    return f"its {number} Sensors and Rules" if number != 1 else "its Sensor or Rule"


def used_by(bodies: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Count objects by namespace."""
    counts: dict[str, int] = {}
    for body in bodies:
        namespace = str(body["metadata"].get("namespace", ""))
        counts[namespace] = counts.get(namespace, 0) + 1
    return counts
