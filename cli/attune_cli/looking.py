"""Asks a system for what ``attune status`` and ``attune doctor`` check."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, Final

from attune_cli import checks, watched
from attune_cli.checks import Check
from attune_cli.errors import CliError, RefusedError, UnreachableError
from attune_cli.looked import Looked
from attune_cli.session import Session
from attune_contract.names import INSTALLATION_KEY, MARK_LABEL, RULES, SENSORS
from attune_contract.telling import age, ref

#: So many Sensors of other namespaces that serve one's Rules are looked at.
_SERVING: Final = 10


def look(looked: Looked) -> Iterator[Check]:
    """Check what runs there.

    Args:
        looked: the system; it has what was read of it, afterwards.
    """
    session = looked.session
    target = session.target
    try:
        version = looked.version()[0] if target.kind == "cluster" else {}
    except UnreachableError as error:
        yield Check(
            name="Cluster",
            state="problem",
            message=str(error),
            advice="check that the cluster runs and that this is the right context",
        )
        return
    if target.kind == "cluster":
        yield Check(
            name="Cluster", state="ok", message=f"Kubernetes {version.get('gitVersion', '(unknown version)')} answers"
        )
        home = session.options.system_namespace
        pods: list[dict[str, Any]] = []

        def look_at_pods() -> Iterator[Check]:
            pods.extend(looked.pods())
            yield from checks.pods(pods, home)

        yield from guarded("Pods", look_at_pods)
    own = session.scope(looked.namespace)
    used: list[dict[str, Any]] = []

    def listed(plural: str) -> list[dict[str, Any]]:
        found = looked.objects(plural)
        used.extend(found)
        return found

    yield from guarded("Sensors", lambda: checks.sensors(listed(SENSORS), own=own))
    listed_sensors = {ref(body) for body in used}
    yield from guarded("Rules", lambda: checks.rules(listed(RULES), own=own))
    servers = {str(server) for body in used if (server := (body.get("status") or {}).get("sensor"))}
    yield from checks.serving(_elsewhere(session, sorted(servers - listed_sensors)[:_SERVING]))
    if target.kind == "cluster" and used:
        yield from watched.namespaces(
            watched.used_by(used),
            home=home,
            watched=watched.watch_namespaces(pods),
            marked=_marks(session, own),
            own=own or "",
        )
    yield from guarded("API", lambda: _api(session, looked.namespace, looked.everywhere))


def _elsewhere(session: Session, servers: list[str]) -> Iterator[dict[str, Any]]:
    """Sensors of other namespaces, as far as they may be read."""
    for server in servers:
        namespace, _, name = server.partition("/")
        with contextlib.suppress(CliError):
            yield session.kube.get(SENSORS, namespace, name)


def _marks(session: Session, own: str | None) -> dict[str, str] | None:
    """Which installation looks after each namespace, or at least after one's own; None where that may not be read."""
    query = {"labelSelector": f"{MARK_LABEL}={INSTALLATION_KEY}"}
    for path in ("/api/v1/configmaps", *([f"/api/v1/namespaces/{own}/configmaps"] if own else [])):
        try:
            return watched.holders(session.kube.request("GET", path, params=query).get("items", ()))
        except CliError:
            continue
    return None


def _api(session: Session, namespace: str | None, everywhere: bool) -> Iterator[Check]:
    yield checks.health(session.api.ready())
    who = session.api.request("GET", "/auth/whoami")["data"]
    yield Check(name="You", state="ok", message=f"the API knows you as {who['login']}")
    query = {"limit": "1"}
    scope = session.scope(namespace, everywhere=everywhere) if namespace is not None else None
    try:
        newest = session.api.request(
            "GET", "/api/v1/events", params={**query, **({"rule_namespace": scope} if scope else {})}
        )
    except RefusedError:
        scope = session.scope(None)
        newest = session.api.request("GET", "/api/v1/events", params={**query, "rule_namespace": scope})
    where = f" of namespace {scope}" if scope else ""
    if not newest["data"]:
        yield Check(name="Events", state="ok", message=f"no events{where} yet")
        return
    [event] = newest["data"]
    rule = f"{event['rule_namespace']}/{event['rule_name']}"
    when = age(event["received_at"], datetime.now(UTC))
    yield Check(name="Events", state="ok", message=f"the newest{where} arrived {when} ago, for {rule}")


def guarded(name: str, look: Callable[[], Iterable[Check]]) -> Iterator[Check]:
    """Run checks. A check that the caller may not make is unknown; a check that fails is a problem. The others still run."""
    try:
        yield from look()
    except RefusedError as error:
        yield Check(name=name, state="unknown", message=f"you have no access: {error}")
    except CliError as error:
        yield Check(name=name, state="problem", message=str(error))
