"""Lists of Sensors and Rules, read while somebody looks at them, with the token of one who does.

A list is shared by all who may list the same things: each request is let through by the caller's own rights before it gets
any of it (:mod:`attune_api.console.visit`). It is read page by page and then watched, so that each change costs one line. When
nobody has looked for a minute, it is let go: who does not open the console pays nothing for it.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import Any, Final

import msgspec
import structlog

from attune_api.console.cluster import ConsoleCluster, path_of
from attune_api.console.rows import TONES, Line, rule_line, sensor_line
from attune_contract.names import RULES, SENSORS
from attune_kit.backoff import Backoff
from attune_kit.kubernetes.client import KubernetesError
from attune_kit.memory import release_memory
from attune_kit.supervisor import end

log = structlog.get_logger(__name__)

#: Seconds for which a list is kept after somebody looked at it.
KEPT: Final = 60.0
#: Lists at once: one for each namespace that somebody may see who may not see all.
MOST_LISTS: Final = 64
#: Tokens of those who look, of which one is used.
_MOST_TOKENS: Final = 16
#: Seconds between two looks where nothing can be watched.
_POLL: Final = 2.0
#: The same in a cluster, for who may list and not watch.
_POLL_CLUSTER: Final = 15.0
#: Seconds that a page waits for a list that is just being read.
_FIRST: Final = 2.0
_RETRY: Final = Backoff(initial=0.5, maximum=10.0)
_GONE: Final = 410
_FORBIDDEN: Final = 403
_REFUSED: Final = (401, _FORBIDDEN)
_MAKERS: Final[dict[str, Callable[[Any], Line]]] = {RULES: rule_line, SENSORS: sensor_line}


class _Change(msgspec.Struct, gc=False):
    type: str
    object: dict[str, Any]


_CHANGES: Final = msgspec.json.Decoder(_Change)
_OBJECTS: Final = msgspec.json.Decoder(dict[str, Any])


#: Lines by namespace and name. A dictionary in a dictionary: a pair of both as key would be 70 bytes more for each line.
_Lines = dict[str, dict[str, Line]]


class Listing:
    """One list: the Sensors or Rules of a namespace, or of all.

    Attributes:
        version: another number whenever the list has changed.
        complete: whether it has been read to its end.
        fault: why it cannot be read now, as the Kubernetes API said it; empty if it can.
    """

    def __init__(self, cluster: ConsoleCluster, *, plural: str, namespace: str, clock: Callable[[], float]) -> None:
        self._cluster = cluster
        self._path = path_of(plural, namespace)
        self._make = _MAKERS[plural]
        self._clock = clock
        self._lines: _Lines = {}
        self._ordered: list[Line] | None = []
        self._tokens: OrderedDict[str, float] = OrderedDict()
        self._unwatching: set[str] = set()
        self._looked = clock()
        self._first = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.version = 0
        self.complete = False
        self.fault = ""

    # -- those who look

    def look(self, bearer: str) -> None:
        """Somebody looks, who may; the list is kept up to date for a while, with this token or another's."""
        self._looked = self._clock()
        self._tokens[bearer] = self._looked
        self._tokens.move_to_end(bearer)
        while len(self._tokens) > _MOST_TOKENS:
            self._tokens.popitem(last=False)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name=f"console list {self._path}")

    async def read(self, *, patience: float = _FIRST) -> Sequence[Line]:
        """The lines, what is wrong first; a list that is just being read gets a moment."""
        try:
            async with asyncio.timeout(patience):
                await self._first.wait()
        except TimeoutError:
            pass
        if self._ordered is None:
            self._ordered = sorted((line for part in self._lines.values() for line in part.values()), key=_place)
        return self._ordered

    @property
    def idle(self) -> float:
        """Seconds since somebody looked."""
        return self._clock() - self._looked

    async def close(self) -> None:
        """Stop reading."""
        if self._task is not None:
            await end(self._task)

    # -- reading

    async def _run(self) -> None:
        failures = 0
        while self._tokens and self.idle < KEPT:
            bearer = next(reversed(self._tokens))
            try:
                version = await self._read(bearer)
                release_memory()  # what it was read into
                failures = 0
                self._say("")
                if version and bearer not in self._unwatching:
                    await self._follow(bearer, version)
                else:
                    await asyncio.sleep(_POLL if not version else _POLL_CLUSTER)
                continue
            except KubernetesError as error:
                if error.status == _GONE:
                    continue
                if error.status in _REFUSED:
                    self._tokens.pop(bearer, None)  # another's may do; without one, the next who looks begins again
                self._say(str(error))
                log.info("console_list_failed", path=self._path, status=error.status, reason=str(error)[:300])
            failures += 1
            await asyncio.sleep(_RETRY.delay(attempt=failures))

    async def _follow(self, bearer: str, version: str) -> None:
        try:
            await self._watch(bearer, version)
        except KubernetesError as error:
            if error.status != _FORBIDDEN:
                raise
            self._unwatching.add(bearer)  # it may list and not watch: then the list is read now and then

    def _say(self, fault: str) -> None:
        if fault != self.fault:
            self.fault = fault
            self.version += 1
        self._first.set()

    async def _read(self, bearer: str) -> str:
        """Read the whole list; returns its version, empty where it cannot be watched."""
        found: _Lines = {}
        version, number = "", 0
        async with aclosing(self._cluster.pages(bearer, self._path)) as pages:
            async for page in pages:
                for raw in page.items or ():
                    self._keep(found, _OBJECTS.decode(raw))
                number += len(page.items or ())
                version = version or page.metadata.version
                if not self.complete:
                    # The first part is shown while the rest is still being read.
                    self._lines, self._ordered = found, None
                    self.version += 1
                    if number >= 100:
                        self._first.set()
        if found != self._lines or not self.complete:
            self._lines, self._ordered = found, None
            self.version += 1
        self.complete = True
        return version

    def _keep(self, lines: _Lines, body: dict[str, Any]) -> None:
        try:
            line = self._make(body)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            log.warning("console_object_unreadable", path=self._path, error=type(error).__name__)
            return
        lines.setdefault(line.namespace, {})[line.name] = line

    async def _watch(self, bearer: str, version: str) -> None:
        """Follow the changes until the connection ends, or nobody looks.

        Raises:
            KubernetesError: it was refused or lost, or the version is no longer known (410).
        """
        async with self._cluster.watch(bearer, self._path, version) as lines:
            async for raw in lines:
                if self.idle >= KEPT:
                    return
                change = _CHANGES.decode(raw)
                if change.type == "ERROR":
                    code = int(change.object.get("code") or 0)
                    raise KubernetesError(str(change.object.get("message") or "the watch failed"), status=code)
                if change.type == "BOOKMARK":
                    continue
                metadata = change.object["metadata"]
                namespace, name = metadata.get("namespace", ""), metadata["name"]
                part = self._lines.setdefault(namespace, {})
                before = part.get(name)
                if change.type == "DELETED":
                    part.pop(name, None)
                else:
                    self._keep(self._lines, change.object)
                if part.get(name) != before:
                    self._ordered = None
                    self.version += 1


def _place(line: Line) -> tuple[int, int, str, str]:
    """What is wrong first, the newest trouble before older; the rest by namespace and name."""
    rank = TONES.index(line.tone)
    newest = -_seconds(line.since) if line.tone in ("bad", "wait") else 0
    return rank, newest, line.namespace, line.name


def _seconds(time: str) -> int:
    """A Kubernetes time as a number that sorts as the time does: its digits."""
    return int("".join(char for char in time[:19] if char.isdigit()) or 0)


class Listings:
    """The lists that somebody looks at.

    Args:
        cluster: where they are read.
        clock: as ``time.monotonic``.
    """

    def __init__(self, cluster: ConsoleCluster, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._cluster = cluster
        self._clock = clock
        self._lists: OrderedDict[tuple[str, str], Listing] = OrderedDict()

    async def of(self, plural: str, namespace: str, *, bearer: str) -> Listing:
        """The list of ``plural`` in a namespace (empty for all), for somebody who may list them.

        Args:
            plural: ``rules`` or ``sensors``.
            namespace: which one.
            bearer: the token to read with.
        """
        key = (plural, namespace)
        found = self._lists.get(key)
        if found is None:
            found = self._lists[key] = Listing(self._cluster, plural=plural, namespace=namespace, clock=self._clock)
            while len(self._lists) > MOST_LISTS:
                _, oldest = self._lists.popitem(last=False)
                await oldest.close()
        self._lists.move_to_end(key)
        found.look(bearer)
        return found

    async def sweep(self) -> int:
        """Let go of the lists that nobody looks at; returns how many are left."""
        for key, listing in list(self._lists.items()):
            if listing.idle >= KEPT:
                del self._lists[key]
                await listing.close()
        return len(self._lists)

    async def close(self) -> None:
        """Stop reading."""
        while self._lists:
            _, listing = self._lists.popitem()
            await listing.close()
