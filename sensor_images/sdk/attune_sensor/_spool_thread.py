"""The spool as the event loop uses it: its methods block, so they run in a thread of their own, one at a time."""

import asyncio
import contextlib
import functools
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from attune_kit.outage import Outage
from attune_sensor._metrics import Metrics
from attune_sensor._spool import Position, Spool

_T = TypeVar("_T")

#: The disk is asked this often (seconds) to keep what was written. A killed process loses nothing, a power cut this
#: much.
_SYNC_INTERVAL: Final = 1.0


class SpoolThread:
    """A :class:`Spool` whose failures are counted and logged.

    Args:
        spool: the spool; it must have no other user.
        metrics: where its size and failures are shown.
        log: a structlog logger.
    """

    def __init__(self, *, spool: Spool, metrics: Metrics, log: Any) -> None:
        self._spool = spool
        self._metrics = metrics
        self._log = log
        self._outage = Outage(log=log, name="spool")
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spool")
        self._last_sync = 0.0

    @property
    def count(self) -> int:
        """Events in the spool."""
        return self._spool.count

    @property
    def fault(self) -> str | None:
        """How the disk fails, and since when; None while it works."""
        return self._outage.fault

    @property
    def failing(self) -> bool:
        """Whether the disk failed at the last try."""
        return self._outage.ongoing

    async def open(self) -> None:
        """Lock the directory and read what an earlier process left.

        Raises:
            SpoolError: it cannot be used.
        """
        report = await self._run(self._spool.open)
        if report.damaged_bytes:
            self._log.warning("spool_repaired", cut_off_bytes=report.damaged_bytes)
        if report.records:
            self._log.info("spool_replayed", events=report.records, size=report.size)
        self._show()

    async def append(self, records: Sequence[bytes], *, durable: bool = False) -> int | None:
        """Write records at the end; returns how many found room, or None when the disk failed.

        Args:
            records: what to write.
            durable: have the disk keep them before this returns, so that not even a power cut loses them.
        """
        try:
            written = await self._run(functools.partial(self._spool.append, records))
            if durable or time.monotonic() - self._last_sync > _SYNC_INTERVAL:
                self._last_sync = time.monotonic()
                await self._run(self._spool.sync)
        except OSError as error:
            self._failed(f"cannot write to the spool: {error.strerror or error}; events wait in memory", error)
            return None
        self._outage.recovered()
        self._show()
        self._metrics.events.labels("spooled").inc(written)
        return written

    async def peek(self, *, max_records: int, max_bytes: int) -> tuple[list[bytes], Position] | None:
        """The oldest records; None when they turned out to be damaged, and were dropped."""
        try:
            return await self._run(functools.partial(self._spool.peek, max_records=max_records, max_bytes=max_bytes))
        except OSError as error:
            self._metrics.spool_errors.inc()
            lost = await self.drop_oldest()
            self._metrics.events.labels("dropped").inc(lost)
            self._log.error("spool_damaged", error=str(error), events_lost=lost)
            return None

    async def advance(self, position: Position) -> None:
        """Everything before ``position`` was delivered."""
        try:
            await self._run(functools.partial(self._spool.advance, position))
        except OSError as error:
            self._failed(f"cannot remove what was delivered: {error.strerror or error}", error)
        self._show()

    async def drop_oldest(self) -> int:
        """Make room; returns how many events were dropped for it."""
        lost = await self._run(self._spool.drop_oldest)
        self._show()
        return lost

    async def close(self) -> None:
        """Release the directory; what is in it stays, for the next process."""
        with contextlib.suppress(OSError):
            await self._run(self._spool.close)
        self._thread.shutdown(wait=False)
        if self._spool.count:
            self._log.info("events_left_in_spool", events=self._spool.count)

    async def _run(self, function: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)

    def _failed(self, problem: str, error: OSError) -> None:
        self._metrics.spool_errors.inc()
        self._outage.failed(type(error).__name__, problem)
        self._show()

    def _show(self) -> None:
        self._metrics.spool_bytes.set(self._spool.size)
        self._metrics.spool_events.set(self._spool.count)
