"""How the operator uses kopf: only to watch (docs/decisions/0009), and not Rules. Settings, login, start and stop."""

import asyncio
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import kopf
import structlog

from attune_contract import names
from attune_kit.backoff import Backoff
from attune_kit.kubernetes.access import Access
from attune_operator.handlers import registry
from attune_operator.observers import Observers
from attune_operator.resources.kinds import CONFIG_MAP, WATCHED, Kind
from attune_operator.runtime.rule_watch import RuleWatch
from attune_operator.runtime.watch_session import open_session

_log = structlog.stdlib.get_logger(__name__)

_PATIENCE: Final = 10.0
_TLS_CLOSE: Final = 0.25
#: Between attempts of a request that fails. There is no last one: rights may be gone for hours, to one namespace or to all, and
#: who ends for that helps nobody. After a failure for good, kopf's tasks do not all end, either.
_BACKOFF: Final = Backoff(initial=0.5, maximum=30)


class Endless:
    """Waits without an end. kopf starts again for each request (``kopf._cogs.clients.api.request``)."""

    def __init__(self, backoff: Backoff) -> None:
        self._backoff = backoff

    def __iter__(self) -> Iterator[float]:
        """Yield seconds, for ever."""
        retries = self._backoff.start()
        while True:
            yield retries.next_delay()


class NoDifferences(kopf.DiffBaseStorage):
    """Stores nothing of an object: no handler asks what has changed, and copying each object for that would cost time."""

    def build(self, *, body: kopf.Body, extra_fields: Iterable[Any] | None = None) -> kopf.BodyEssence:
        """Return what is compared: nothing."""
        return kopf.BodyEssence()

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:
        """Return what was stored: nothing."""
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        """Never called: only handlers of changes store something."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What is watched in some namespaces; in all if there are none."""

    namespaces: tuple[str, ...]
    ours: bool  #: Sensors; and namespaces, if all are watched
    children: tuple[Kind, ...]
    only_marks: bool = False  #: of ConfigMaps only the marks of installations: a right to their name is enough


def scopes(namespaces: Sequence[str], sensor_namespaces: Sequence[str]) -> tuple[Scope, ...]:
    """Return what is watched where: everything in the watched namespaces, unless Sensors run in some of them only."""
    watched = tuple(namespaces)
    if not sensor_namespaces:
        return (Scope(namespaces=watched, ours=True, children=WATCHED),)
    return (
        Scope(namespaces=watched, ours=True, children=(CONFIG_MAP,), only_marks=True),
        Scope(namespaces=tuple(sensor_namespaces), ours=False, children=WATCHED),
    )


def settings(scope: Scope) -> kopf.OperatorSettings:
    """Return kopf's settings for a scope. Nothing that is refused in one namespace ends the watches of the others."""
    chosen = kopf.OperatorSettings()
    chosen.peering.standalone = True
    # The resources are known, and the operator waits for their definitions itself, so it needs no right to watch those.
    chosen.scanning.disabled = True
    chosen.posting.enabled = False  # the operator writes its Events itself
    # Unused at present. If kopf ever wrote to objects, it would be under our own name.
    chosen.persistence.finalizer = f"{names.GROUP}/operator"
    chosen.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=f"operator.{names.GROUP}")
    chosen.persistence.diffbase_storage = NoDifferences()
    chosen.networking.error_backoffs = Endless(_BACKOFF)
    chosen.networking.request_timeout = 60
    chosen.networking.connect_timeout = 10
    chosen.watching.connect_timeout = 10
    chosen.watching.server_timeout = 300
    chosen.watching.inactivity_timeout = 90
    chosen.watching.chunk_size = 500
    chosen.queueing.worker_limit = None
    chosen.queueing.idle_timeout = 1
    chosen.process.ultimate_exiting_timeout = None  # the supervisor and the kubelet do that
    for kind in WATCHED:
        chosen.watching.label_selectors[kind.group, kind.version, kind.plural] = (
            f"{names.MANAGED_BY_LABEL}={names.MANAGED_BY}"
        )
    if scope.only_marks:
        kind = CONFIG_MAP
        chosen.watching.field_selectors[kind.group, kind.version, kind.plural] = (
            f"metadata.name={names.INSTALLATION_MARK}"
        )
    return chosen


class Login:
    """How kopf reaches the API server: as our own client does. Asked again when a token is no longer accepted.

    kopf takes each session for new credentials, so the same token is not tried again at once, but after a pause.

    Args:
        access: how the API server is reached.
        backoff: how long to wait before the same token is tried again.
    """

    def __init__(self, access: Access, *, backoff: Backoff = _BACKOFF) -> None:
        self._access = access
        self._retries = backoff.start()
        self._refused: str | None = None
        self._asked = False

    async def __call__(self) -> kopf.AiohttpSession:
        """A session with the token of now."""
        token = await self._token()
        if self._asked and token == self._refused:
            await asyncio.sleep(self._retries.next_delay())
            token = await self._token()
        if token != self._refused:
            self._retries.reset()
        self._asked, self._refused = True, token
        return kopf.AiohttpSession(server=self._access.server, aiohttp_session=open_session(self._access, bearer=token))

    async def _token(self) -> str | None:
        return await asyncio.to_thread(self._access.bearer) if self._access.slow else self._access.bearer()


class Watches:
    """The watch streams. :meth:`run` ends after :meth:`stop`, and raises if a stream fails for good."""

    def __init__(
        self,
        observers: Observers,
        *,
        access: Access,
        namespaces: Sequence[str],
        sensor_namespaces: Sequence[str] = (),
    ) -> None:
        self._observers = observers
        self._access = access
        self._scopes = scopes(namespaces, sensor_namespaces)
        self._namespaces = namespaces
        self._stop = asyncio.Event()

    def stop(self) -> None:
        """Let the streams end."""
        self._stop.set()

    async def run(self, *, on_started: Callable[[], None] = lambda: None) -> None:
        """Watch. ``on_started`` is called when kopf has set everything up, including signal handlers."""
        tasks: list[asyncio.Task[Any]] = []
        try:
            for scope in self._scopes:
                # Each in a task of its own, since kopf keeps credentials and settings in context variables.
                tasks += await asyncio.create_task(self._spawn(scope))
            rules = RuleWatch(
                access=self._access,
                namespaces=self._namespaces,
                on_change=self._observers.observe_rule,
                on_begun=self._observers.list_rules,
            )
            tasks.append(asyncio.create_task(rules.run(), name="rule watch"))
            on_started()
            # Not kopf.run_tasks(): it treats every later task of the loop as its own, and cancels it.
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await self._end(tasks)
        for task in done:
            task.result()

    async def _spawn(self, scope: Scope) -> Collection["asyncio.Task[Any]"]:
        return await kopf.spawn_tasks(
            registry=registry(
                self._observers,
                login=Login(self._access),
                ours=scope.ours,
                namespaces=scope.ours and not scope.namespaces,
                children=scope.children,
            ),
            settings=settings(scope),
            standalone=True,
            clusterwide=not scope.namespaces,
            namespaces=list(scope.namespaces),
            stop_flag=self._stop,
        )

    async def _end(self, tasks: Collection["asyncio.Task[Any]"]) -> None:
        self._stop.set()
        if not tasks:
            return
        for task in tasks:
            task.cancel()
        _, pending = await asyncio.wait(tasks, timeout=_PATIENCE)
        for task in pending:
            _log.error("watch_did_not_stop", task=task.get_name())
        # Encrypted connections take a moment to close (aiohttp's documentation, "Graceful Shutdown").
        await asyncio.sleep(_TLS_CLOSE)
