"""Asks a system for what ``attune status`` and ``attune doctor`` check."""

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, Final

from attune_cli import checks, watched
from attune_cli.checks import Check
from attune_cli.errors import CliError, RefusedError, UnreachableError
from attune_cli.session import Session
from attune_cli.views import age, ref
from attune_contract.names import INSTALLATION_KEY, MARK_LABEL, PART_OF_ATTUNE, RULES, SENSORS

#: So many Sensors of other namespaces that serve one's Rules are looked at.
_SERVING: Final = 10
#: So long it counts that the caller may not list all namespaces.
_REFUSED_SECONDS: Final = 30.0


def look(session: Session, namespace: str | None, everywhere: bool) -> Iterator[Check]:
    """Check what runs there.

    Args:
        session: the system.
        namespace: whose Sensors and Rules; None for all that the caller may list.
        everywhere: insist on all.
    """
    target = session.target
    try:
        version = session.kube.request("GET", "/version") if target.kind == "cluster" else {}
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
            pods.extend(session.kube.core("pods", home, labelSelector=PART_OF_ATTUNE).get("items", ()))
            yield from checks.pods(pods, home)

        yield from guarded("Pods", look_at_pods)
    own = session.scope(namespace)
    lister = Lister(session, namespace, everywhere)
    used: list[dict[str, Any]] = []

    def listed(plural: str) -> list[dict[str, Any]]:
        found = lister.list(plural)
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
    yield from guarded("API", lambda: _api(session, namespace, everywhere))


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


class Lister:
    """Lists Sensors and Rules of all namespaces; of one, if it was named or the caller may not list the others.

    That the caller may not is remembered for a while: who looks every few seconds does not ask for it each time.

    Args:
        session: the system.
        namespace: the one that was named; None for all that the caller may list.
        everywhere: insist on all.
        clock: seconds of a clock that never goes back.
    """

    def __init__(
        self, session: Session, namespace: str | None, everywhere: bool, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._session = session
        self._namespace = namespace
        self._everywhere = everywhere
        self._clock = clock
        self._refused_until: dict[str, float] = {}

    def list(self, plural: str) -> list[dict[str, Any]]:
        """All of a kind.

        Raises:
            CliError: they cannot be listed.
        """
        kube = self._session.kube
        if self._namespace is not None or self._everywhere:
            return kube.list(plural, self._session.scope(self._namespace, everywhere=self._everywhere))
        if self._clock() >= self._refused_until.get(plural, float("-inf")):
            try:
                return kube.list(plural, None)
            except RefusedError:
                self._refused_until[plural] = self._clock() + _REFUSED_SECONDS
        return kube.list(plural, self._session.scope(None))


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
