"""Events of namespaces that are over their quotas: those of each namespace wait apart, so that nobody else's wait with them.

Where there is a spool they wait on disk, in a folder for each namespace, and the next process goes on with them. Each
namespace has the same room, whatever the others have. Reporters that wait for what becomes of their events have to come
again: they can hold their own sender back, which no queue can.
"""

import asyncio
import collections
import contextlib
import functools
import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import msgspec

from attune_sensor._confirmations import Disposition, confirm, has_reporter
from attune_sensor._errors import SpoolError
from attune_sensor._metrics import Metrics
from attune_sensor._outcomes import Outcomes
from attune_sensor._spool import Spool

_T = TypeVar("_T")

#: Room for each namespace, on disk and in memory, and how many have theirs on disk.
_DISK_BYTES: Final = 16 * 1024 * 1024
_MEMORY_BYTES: Final = 2 * 1024 * 1024
_MOST_ON_DISK: Final = 16
#: Tried again so many seconds later when the API does not say when.
_WAIT: Final = 1.0
_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


class _Of(msgspec.Struct, frozen=True, gc=False):
    rule_uid: str
    rule_namespace: str


_DECODER: Final = msgspec.json.Decoder(_Of)


@dataclass(frozen=True, slots=True)
class Deferred:
    """What the API deferred of one namespace: the records, for how many seconds, and why."""

    records: list[bytes]
    wait: float
    reason: str


class _Store(Protocol):
    """Where a namespace's events wait: a :class:`Spool`, or memory. Blocks."""

    @property
    def count(self) -> int: ...

    def append(self, records: Sequence[bytes]) -> int: ...

    def peek(self, *, max_records: int, max_bytes: int) -> tuple[list[bytes], Any]: ...

    def advance(self, position: Any) -> None: ...

    def drop_oldest(self) -> int: ...

    def close(self) -> None: ...


class _Memory:
    def __init__(self) -> None:
        self.records: collections.deque[bytes] = collections.deque()
        self._size = 0

    @property
    def count(self) -> int:
        return len(self.records)

    def append(self, records: Sequence[bytes]) -> int:
        written = 0
        for record in records:
            if self._size + len(record) > _MEMORY_BYTES:
                break
            self.records.append(record)
            self._size += len(record)
            written += 1
        return written

    def peek(self, *, max_records: int, max_bytes: int) -> tuple[list[bytes], int]:
        found: list[bytes] = []
        for record in self.records:
            max_bytes -= len(record)
            if len(found) == max_records or (found and max_bytes < 0):
                break
            found.append(record)
        return found, len(found)

    def advance(self, position: int) -> None:
        for _ in range(min(position, len(self.records))):
            self._size -= len(self.records.popleft())

    def drop_oldest(self) -> int:
        lost = max(1, len(self.records) // 8)
        self.advance(lost)
        return lost

    def close(self) -> None:
        pass


class _Lane:
    def __init__(self, store: _Store, *, until: float, reason: str) -> None:
        self.store = store
        self.until = until
        self.reason = reason
        self.said_full = False


class HeldBack:
    """The namespaces that are over their quotas, and their events.

    Args:
        directory: the spool's; None keeps events in memory.
        drop_oldest: whether the oldest events go when there is no room, and not the newest.
        metrics: where dropped events are counted.
        log: a structlog logger.
        outcomes: told which rules' events wait.
        clock: seconds, as ``time.monotonic``.
    """

    def __init__(
        self,
        *,
        directory: Path | None,
        drop_oldest: bool,
        metrics: Metrics,
        log: Any,
        outcomes: Outcomes | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._directory = None if directory is None else directory / "over-quota"
        self._drop_oldest = drop_oldest
        self._metrics = metrics
        self._log = log
        self._outcomes = outcomes
        self._clock = clock
        self._lanes: dict[str, _Lane] = {}
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="over-quota")

    def __len__(self) -> int:
        return sum(lane.store.count for lane in self._lanes.values())

    async def open(self) -> None:
        """Go on with what an earlier process left."""
        if self._directory is None or not await self._run(self._directory.is_dir):
            return
        for namespace in await self._run(functools.partial(_left, self._directory)):
            store = await self._store(namespace)
            if store.count:
                self._lanes[namespace] = _Lane(store, until=0.0, reason="")
            else:
                await self._run(store.close)

    def due(self) -> str | None:
        """The namespace whose events are to be tried now; None if there is none."""
        now = self._clock()
        for namespace, lane in list(self._lanes.items()):
            if lane.until <= now and not lane.store.count:
                self._forget(namespace)
        return min(
            (namespace for namespace, lane in self._lanes.items() if lane.until <= now),
            key=lambda namespace: self._lanes[namespace].until,
            default=None,
        )

    def next_due(self) -> float | None:
        """In how many seconds the next namespace's events are to be tried; None if none wait."""
        now = self._clock()
        times = [lane.until for lane in self._lanes.values() if lane.store.count]
        return max(0.0, min(times) - now) if times else None

    async def part(self, records: list[bytes]) -> list[bytes]:
        """Keep the records of namespaces that are over their quotas; returns the others."""
        if not self._lanes:
            return records
        self.due()  # forgets what is over
        free: list[bytes] = []
        apart: dict[str, list[bytes]] = {}
        for record in records:
            event = _DECODER.decode(record)
            if event.rule_namespace in self._lanes:
                apart.setdefault(event.rule_namespace, []).append(record)
            else:
                free.append(record)
        for namespace, held in apart.items():
            lane = self._lanes[namespace]
            await self._keep(namespace, lane, held)
        return free

    async def hold(self, deferred: dict[str, Deferred], *, held: str | None = None) -> None:
        """Keep what the API deferred. Of the namespace ``held`` the records are kept already."""
        for namespace, each in deferred.items():
            lane = self._lanes.get(namespace)
            until = self._clock() + (each.wait or _WAIT)
            if lane is None:
                lane = self._lanes[namespace] = _Lane(await self._store(namespace), until=until, reason=each.reason)
                self._log.info("namespace_over_quota", namespace=namespace, reason=each.reason)
            lane.until, lane.reason = until, each.reason
            if namespace == held:
                self._tell(lane, each.records)
            else:
                await self._keep(namespace, lane, each.records)

    async def peek(self, namespace: str, *, max_records: int, max_bytes: int) -> tuple[list[bytes], Any]:
        """The namespace's oldest records, and the place behind them for :meth:`advance`."""
        store = self._lanes[namespace].store
        try:
            return await self._run(functools.partial(store.peek, max_records=max_records, max_bytes=max_bytes))
        except OSError as error:
            lost = await self._run(store.drop_oldest)
            self._dropped(namespace, lost, f"they cannot be read again: {error.strerror or error}")
            return [], None

    async def advance(self, namespace: str, position: Any) -> None:
        """What lies before ``position`` was delivered."""
        lane = self._lanes[namespace]
        with contextlib.suppress(OSError):  # what cannot be forgotten is delivered again, and stored once
            await self._run(functools.partial(lane.store.advance, position))
        if not lane.store.count:
            self._forget(namespace)

    async def close(self) -> list[bytes]:
        """Release the disk; what is there stays for the next process. Returns what was in memory."""
        left: list[bytes] = []
        for lane in self._lanes.values():
            if isinstance(lane.store, _Memory):
                left.extend(lane.store.records)
            with contextlib.suppress(OSError):
                await self._run(lane.store.close)
        self._lanes.clear()
        self._thread.shutdown(wait=False)
        return left

    async def _keep(self, namespace: str, lane: _Lane, records: list[bytes]) -> None:
        self._tell(lane, records)
        wait = max(0.0, lane.until - self._clock())
        for record in records:
            confirm(record, Disposition.DEFERRED, lane.reason, wait)
        left = [record for record in records if not has_reporter(record)]
        while left:
            try:
                written = await self._run(functools.partial(lane.store.append, left))
            except OSError as error:
                self._dropped(namespace, len(left), f"the disk does not take them: {error.strerror or error}")
                return
            left = left[written:]
            if not left:
                return
            if not lane.said_full:
                lane.said_full = True
                self._log.warning("namespace_over_quota_full", namespace=namespace, reason=lane.reason)
            if not self._drop_oldest:
                self._dropped(namespace, len(left))
                return
            lost = await self._run(lane.store.drop_oldest)
            self._dropped(namespace, lost)
            if not lost:
                self._dropped(namespace, len(left))
                return

    def _tell(self, lane: _Lane, records: list[bytes]) -> None:
        if self._outcomes is None:
            return
        wait = max(0.0, lane.until - self._clock())
        for uid in {_DECODER.decode(record).rule_uid for record in records}:
            self._outcomes.deferred(uid, lane.reason, wait=wait)

    def _dropped(self, namespace: str, number: int, why: str = "") -> None:
        if not number:
            return
        self._metrics.events.labels("dropped").inc(number)
        if why:
            self._log.error("events_dropped_over_quota", namespace=namespace, events=number, reason=why)

    def _forget(self, namespace: str) -> None:
        lane = self._lanes.pop(namespace)
        self._log.info("namespace_within_quota", namespace=namespace)
        if not isinstance(lane.store, _Memory):
            self._thread.submit(_release, lane.store)

    async def _store(self, namespace: str) -> _Store:
        on_disk = sum(not isinstance(lane.store, _Memory) for lane in self._lanes.values())
        if self._directory is None or on_disk >= _MOST_ON_DISK or _NAME.fullmatch(namespace) is None:
            return _Memory()
        spool = Spool(directory=self._directory / namespace, max_bytes=_DISK_BYTES)
        try:
            await self._run(spool.open)
        except (SpoolError, OSError) as error:
            self._log.error("namespace_over_quota_in_memory", namespace=namespace, error=str(error))
            return _Memory()
        return spool

    async def _run(self, function: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)


def _left(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir() if _NAME.fullmatch(path.name))


def _release(store: _Store) -> None:
    with contextlib.suppress(OSError):
        store.close()
