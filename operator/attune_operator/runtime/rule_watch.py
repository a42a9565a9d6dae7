"""Watches Rules: a stream of changes from a version on, one for each watched namespace or one for all (docs/decisions/0140).

It lists nothing: complete lists are the sweeper's. Where no version is known, or the API server has dropped the changes since it
(410), the watch begins at the present version and says so, and what was missed comes with the list that follows.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final

import msgspec
import structlog

from attune_contract import names
from attune_kit.backoff import Backoff
from attune_kit.kubernetes.access import Access
from attune_kit.kubernetes.client import KubernetesClient, KubernetesError, Page
from attune_kit.kubernetes.depth import cut
from attune_kit.outage import Outage
from attune_operator.resources.kinds import RULE
from attune_operator.runtime.client import Body, WatchEventType

_log = structlog.stdlib.get_logger(__name__)

#: Seconds after which the API server ends a watch, to be begun again.
_WATCH_SECONDS: Final = 300
#: Seconds without a byte after which the connection counts as lost. The API server sends a bookmark about once a minute.
_SILENCE: Final = 90.0
#: Between attempts. There is no last one: rights may be gone for hours, and a watched namespace may come later.
_RETRY: Final = Backoff(initial=0.5, maximum=30.0)
#: A watch that ends sooner than this (seconds) without having read anything counts as failed.
_TOO_SHORT: Final = 1.0
#: Changes that are read before the loop lets others run.
_CHUNK: Final = 32
_GONE: Final = 410


class _Metadata(msgspec.Struct, gc=False, rename="camel"):
    resource_version: str = ""


class _Versioned(msgspec.Struct, gc=False):
    metadata: _Metadata


class _Event(msgspec.Struct, gc=False):
    """One line of a watch, its object not decoded yet."""

    type: str
    object: msgspec.Raw


class _Problem(msgspec.Struct, gc=False):
    """The object of an event ERROR (``Status``)."""

    code: int = 0
    message: str = ""


_EVENTS: Final = msgspec.json.Decoder(_Event)
_VERSIONS: Final = msgspec.json.Decoder(_Versioned)
_PROBLEMS: Final = msgspec.json.Decoder(_Problem)
_OBJECTS: Final = msgspec.json.Decoder(dict[str, Any])
_PAGES: Final = msgspec.json.Decoder(Page)
_CHANGES: Final[dict[str, WatchEventType]] = {"ADDED": "ADDED", "MODIFIED": "MODIFIED", "DELETED": "DELETED"}


class RuleWatch:
    """Shows what happens to Rules. :meth:`run` works until cancelled.

    Args:
        access: how the API server is reached.
        namespaces: those that are watched; empty means all.
        on_change: called with each change, in the order of one namespace's.
        on_begun: called when a watch began at the present version: a complete list that begins from now on, and what
            ``on_change`` shows, miss nothing.
    """

    def __init__(
        self,
        *,
        access: Access,
        namespaces: Sequence[str],
        on_change: Callable[[WatchEventType, Body], None],
        on_begun: Callable[[], None],
    ) -> None:
        # Connections of its own, without a limit: each watch keeps one for as long as it lasts.
        self._client = KubernetesClient(access, user_agent=names.FIELD_MANAGER, connections=0)
        self._namespaces: tuple[str | None, ...] = tuple(namespaces) or (None,)
        self._on_change = on_change
        self._on_begun = on_begun

    async def run(self) -> None:
        """Watch until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                for namespace in self._namespaces:
                    group.create_task(self._watch(namespace), name=f"rule watch {namespace or ''}")
        finally:
            await self._client.close()

    async def _watch(self, namespace: str | None) -> None:
        path = RULE.path(namespace)
        outage = Outage(log=_log.bind(namespace=namespace), name="rule_watch")
        retries = _RETRY.start()
        loop = asyncio.get_running_loop()
        version = ""
        while True:
            began = loop.time()
            try:
                if not version:
                    version = await self._present(path)
                    self._on_begun()
                async for seen in self._follow(path, version):
                    if outage.ongoing:
                        outage.recovered()
                    version = seen
                if loop.time() - began >= _TOO_SHORT:
                    retries.reset()
                    continue  # the API server ends each watch after a while
            except KubernetesError as error:
                if error.status == _GONE:
                    _log.info("rule_watch_expired", namespace=namespace, version=version)
                    version = ""
                else:
                    outage.failed(str(error.status), str(error))
            await asyncio.sleep(retries.next_delay())

    async def _present(self, path: str) -> str:
        """The version of all Rules now.

        Raises:
            KubernetesError: it could not be asked for.
        """
        found = await self._client.request("GET", path, query={"limit": "1"})
        try:
            return _PAGES.decode(found).metadata.version
        except msgspec.MsgspecError as error:
            raise KubernetesError(f"GET {path}: the answer is no list: {error}") from error

    async def _follow(self, path: str, version: str) -> AsyncIterator[str]:
        """Show the changes since ``version``, and yield the version after each; the first when the watch is granted.

        Raises:
            KubernetesError: the watch was refused or lost; status 410: these changes are not kept any more.
        """
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(_WATCH_SECONDS),
        }
        count = 0
        async with self._client.stream(path, query, silence=_SILENCE) as lines:
            yield version
            async for line in lines:
                event, seen, body = _read(path, line)
                if event.type == "ERROR":
                    problem = _PROBLEMS.decode(event.object)
                    raise KubernetesError(f"watch {path}: {problem.message}", status=problem.code)
                if body is not None:
                    self._on_change(_CHANGES[event.type], body)
                yield seen
                count += 1
                if count % _CHUNK == 0:
                    await asyncio.sleep(0)


def _read(path: str, line: bytes) -> tuple[_Event, str, Body | None]:
    """One line of a watch: the event, its object's version, and the object if it is a change that can be read.

    Raises:
        KubernetesError: it is no event.
    """
    try:
        try:
            event = _EVENTS.decode(line)
            version = _VERSIONS.decode(event.object).metadata.resource_version
            return event, version, _OBJECTS.decode(event.object) if event.type in _CHANGES else None
        except RecursionError:
            # The next list passes it over as well; then it counts as gone.
            event = _EVENTS.decode(cut(line))
            version = _VERSIONS.decode(event.object).metadata.resource_version
            _log.warning("rule_nested_too_deep", version=version)
            return event, version, None
    except msgspec.MsgspecError as error:
        raise KubernetesError(f"watch {path}: a line is no event: {error}") from error
