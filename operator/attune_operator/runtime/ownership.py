"""Which installation looks after a namespace: one ConfigMap in it says so, and all others keep off (docs/decisions/0086).

The first installation that meets a Sensor or a Rule in a namespace writes the mark. It never expires: an installation that is
merely down must not lose its namespaces to another one. Who may write ConfigMaps there hands the namespace over by writing
another name into the mark.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Final

import structlog

from attune_contract import names
from attune_operator.resources.kinds import CONFIG_MAP, Object
from attune_operator.runtime import metrics
from attune_operator.runtime.client import Body, Client, ClusterError, WatchEventType
from attune_operator.runtime.events import EventSink, ObjectEvent, ObjectReference
from attune_operator.runtime.queue import RETRY

_log = structlog.stdlib.get_logger(__name__)

_SELECTOR: Final = f"{names.MARK_LABEL}={names.INSTALLATION_KEY}"
#: More unknown namespaces than these are looked up by one list instead of one by one.
_LIST_FROM: Final = 8
#: So many marks are read or written at once.
_AT_ONCE: Final = 16
_FORBIDDEN: Final = 403
_CONFLICT: Final = 409
#: The mark cannot be written: the namespace is being deleted or is gone, a quota is used up.
_REFUSED: Final = frozenset({403, 404, 422})


def mark(namespace: str, installation: str) -> Object:
    """Build the mark of ``namespace``."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": names.INSTALLATION_MARK,
            "namespace": namespace,
            "labels": {
                names.MANAGED_BY_LABEL: names.MANAGED_BY,
                names.MARK_LABEL: names.INSTALLATION_KEY,
                "app.kubernetes.io/part-of": "attune",
            },
        },
        "data": {names.INSTALLATION_KEY: installation},
    }


def holder(found: Mapping[str, Any]) -> str:
    """Return the installation that a mark names; empty if it names none, which is as if there were no mark."""
    return str((found.get("data") or {}).get(names.INSTALLATION_KEY) or "").strip()


def kept_off(namespace: str, *, other: str, own: str) -> str:
    """Return the sentence that says why nothing is done in a namespace, and how to change that."""
    return (
        f"The installation in namespace {other} looks after the namespace {namespace}, so the one in namespace {own} keeps "
        f"off. To hand it over: kubectl -n {namespace} patch configmap {names.INSTALLATION_MARK} --type merge -p "
        f'\'{{"data":{{"{names.INSTALLATION_KEY}":"{own}"}}}}\''
    )


class Ownership:
    """Knows for each namespace whose it is, and takes those that are nobody's.

    Args:
        client: reads and writes the marks.
        installation: our name: the namespace of the operator, where its keys are.
        events: takes the Event that says that we keep off.
        namespaces: those that are watched; empty means all.
    """

    def __init__(self, client: Client, *, installation: str, events: EventSink, namespaces: Sequence[str] = ()) -> None:
        self._client = client
        self._own = installation
        self._events = events
        self._watched = tuple(namespaces)
        self._holders: dict[str, str] = {}
        #: Ours, as far as we know, but the mark could not be written: looked at again with each list.
        self._provisional: set[str] = set()
        #: Of others, whose mark is gone: nobody's with the next list, so that a living owner is the first to take it again.
        self._freed: set[str] = set()
        self._asked: set[str] = set()
        self._wake = asyncio.Event()
        self._settling = asyncio.Lock()
        #: Asked for, and not shown to the rest of the operator yet.
        self._closed: set[str] = set()
        self.admit: Sequence[Callable[[str], Awaitable[None]]] = ()
        """Awaited in turn with a namespace that is ours, and of which something may have been passed over: what shows Sensors,
        and then what shows Rules, so that no Rule is seen before the Sensor that serves it. May raise ClusterError.
        """
        self.on_lost: Callable[[str], None] = lambda namespace: None
        """Called with a namespace that was ours and is another's now."""

    def ours(self, namespace: str) -> bool:
        """Whether we look after the namespace. If that is not known yet, it is found out, and ``admit`` called."""
        if namespace in self._closed or namespace not in self._holders:
            self._ask(namespace)
            return False
        return self._holders[namespace] == self._own

    def knows(self, namespace: str) -> bool:
        """Whether it is known whose the namespace is."""
        return namespace in self._holders

    def known_ours(self, namespace: str) -> bool:
        """Whether the namespace is known to be ours."""
        return self._holders.get(namespace) == self._own

    def _ask(self, namespace: str) -> None:
        self._closed.add(namespace)
        self._asked.add(namespace)
        self._wake.set()

    @property
    def foreign(self) -> dict[str, str]:
        """The namespaces that we keep off, and whose they are."""
        return {namespace: found for namespace, found in self._holders.items() if found != self._own}

    def observe(self, kind: WatchEventType, body: Body) -> None:
        """A mark was seen, changed or deleted."""
        namespace = str(body["metadata"].get("namespace", ""))
        if kind == "DELETED" or not (found := holder(body)):
            self._unmarked(namespace)
        else:
            self._hold(namespace, found, body)

    async def run(self) -> None:
        """Find out whose namespaces are that were asked for, until cancelled."""
        retries = RETRY.start()
        while True:
            await self._wake.wait()
            self._wake.clear()
            asked, self._asked = self._asked, set()
            try:
                await self.settle(asked)
                for namespace in sorted(asked):
                    await self._admit(namespace)
            except ClusterError as error:
                self._asked |= asked
                delay = retries.next_delay()
                _log.warning("installation_mark_not_read", error=str(error), retry_in=round(delay, 2))
                await asyncio.sleep(delay)
                self._wake.set()
                continue
            retries.reset()

    async def _admit(self, namespace: str) -> None:
        """Show what is in the namespace, if it is ours. What is seen meanwhile is passed over, and asks again."""
        for show in self.admit if self.known_ours(namespace) else ():
            await show(namespace)
            self._closed.discard(namespace)
        self._closed.discard(namespace)

    async def refresh(self) -> None:
        """List the marks: what no watch event said is made good.

        Raises:
            ClusterError: they could not be listed; what is known stays as it was.
        """
        async with self._settling:
            began = dict(self._holders)
            marked = await self._list()
            for namespace in self._freed - marked:
                self._holders.pop(namespace, None)  # for everybody to take
            self._freed.clear()
            for namespace in began.keys() - marked - self._provisional:
                self._unmarked(namespace)
            self._count()

    async def settle(self, namespaces: Collection[str]) -> None:
        """Find out whose these namespaces are, and take those that are nobody's.

        Raises:
            ClusterError: a mark could not be read or written; try again.
        """
        async with self._settling:
            unknown = self._unknown(namespaces)
            if len(unknown) >= _LIST_FROM:
                await self._list()
                unknown = self._unknown(namespaces)
            limit = asyncio.Semaphore(_AT_ONCE)

            async def one(namespace: str) -> None:
                async with limit:
                    await self._settle(namespace)

            results = await asyncio.gather(*map(one, unknown), return_exceptions=True)
            for result in results:
                if isinstance(result, BaseException):
                    raise result

    def _unknown(self, namespaces: Iterable[str]) -> list[str]:
        return [name for name in namespaces if name not in self._holders or name in self._provisional]

    async def _list(self) -> set[str]:
        marked = set()
        for watched in self._watched or (None,):
            try:
                bodies = await self._client.list_objects(
                    CONFIG_MAP, watched, labels=_SELECTOR, name=names.INSTALLATION_MARK
                )
            except ClusterError as error:
                if watched is None or error.status != _FORBIDDEN:
                    raise
                marked.add(watched)  # it may not exist (KubeCluster says so); what is known of it stays
                continue
            for body in bodies:
                if body["metadata"]["name"] == names.INSTALLATION_MARK and (found := holder(body)):
                    marked.add(str(body["metadata"]["namespace"]))
                    self._hold(body["metadata"]["namespace"], found, body)
        return marked

    async def _settle(self, namespace: str) -> None:
        """Read the mark, or write it."""
        try:
            body = await self._client.get(CONFIG_MAP, namespace, names.INSTALLATION_MARK)
            if body is None or not holder(body):
                body = await self._take(namespace, body)
        except ClusterError as error:
            if error.status not in _REFUSED:
                raise
            # It is not another's, as far as anybody can say. It stays ours until something else can be said.
            if namespace not in self._provisional and "terminat" not in str(error):
                _log.warning("installation_mark_not_written", namespace=namespace, error=str(error))
            self._provisional.add(namespace)
            self._holders.setdefault(namespace, self._own)
            return
        self._hold(namespace, holder(body), body)

    async def _take(self, namespace: str, found: Body | None) -> Object:
        body = mark(namespace, self._own)
        if found is not None:  # it names nobody
            version = found["metadata"]["resourceVersion"]
            body["metadata"]["resourceVersion"] = version
            return await self._client.replace(CONFIG_MAP, body)
        try:
            return await self._client.create(CONFIG_MAP, body)
        except ClusterError as error:
            if error.status != _CONFLICT:
                raise
        other = await self._client.get(CONFIG_MAP, namespace, names.INSTALLATION_MARK)
        if other is None:
            raise ClusterError(f"the mark of the namespace {namespace} came and went", status=_CONFLICT)
        return other

    def _hold(self, namespace: str, found: str, body: Body) -> None:
        """A mark says whose the namespace is."""
        before = self._holders.get(namespace)
        self._holders[namespace] = found
        self._provisional.discard(namespace)
        self._freed.discard(namespace)
        if found == before:
            return
        self._count()
        if found == self._own:
            if before is not None:
                _log.info("namespace_handed_over", namespace=namespace, before=before)
                self._ask(namespace)
            return
        message = kept_off(namespace, other=found, own=self._own)
        _log.warning("namespace_kept_off", namespace=namespace, installation=found, message=message)
        self._events.record(
            ObjectEvent(
                regarding=ObjectReference(
                    kind="ConfigMap",
                    namespace=namespace,
                    name=names.INSTALLATION_MARK,
                    uid=str(body["metadata"].get("uid", "")),
                    api_version="v1",
                ),
                reason="OtherInstallation",
                message=message,
                type="Warning",
                action="KeepOff",
            )
        )
        if before == self._own:
            self.on_lost(namespace)

    def _unmarked(self, namespace: str) -> None:
        """There is no mark, or it names nobody."""
        before = self._holders.get(namespace)
        if before is None or namespace in self._provisional:
            return
        if before == self._own:
            # Taken again at once, and ours until then.
            self._provisional.add(namespace)
            self._asked.add(namespace)
            self._wake.set()
        else:
            self._freed.add(namespace)

    def _count(self) -> None:
        metrics.FOREIGN_NAMESPACES.set(len(self.foreign))
