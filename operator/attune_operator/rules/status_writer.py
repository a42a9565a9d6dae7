"""Writes Rules' statuses, at a bounded rate, again until it succeeds.

The queue holds Rules, not versions: what is written is rendered at the last moment, so a Rule that changed five times is
written once. Statuses that a person waits for go before the bulk. Errors slow everything down: if Kubernetes has trouble
with one write, it has trouble with the others.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import structlog

from attune_kit.backoff import Backoff
from attune_operator.rules import metrics
from attune_operator.runtime.client import ClusterError
from attune_operator.runtime.controller import Controller
from attune_operator.runtime.queue import PriorityQueue

_log = structlog.stdlib.get_logger(__name__)

#: Of so many writes one is from the bulk, even if urgent ones never end.
_BULK_SHARE: Final = 4
_ATTEMPT_TIMEOUT: Final = 20.0
#: The longest time that one worker rests after a failed write, in seconds.
_REST: Final = 5.0
#: Seconds until a write that failed is tried again: the first wait, and the longest.
_RETRY: Final = Backoff(initial=0.5, maximum=30.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusWrite:
    """One write: the Rule, the fields of its status, and what to remember when it succeeded. ``first``: it has no status yet."""

    namespace: str
    name: str
    uid: str
    first: bool
    patch: dict[str, Any]
    done: Callable[[], None]


#: Returns what has to be written for a Rule now; None if nothing is.
Render = Callable[[str], StatusWrite | None]
Write = Callable[[StatusWrite], Awaitable[None]]


class StatusWriter(Controller[str]):
    """Writes statuses with ``concurrency`` calls at a time and at most ``rate`` calls a second.

    Args:
        render: returns what has to be written for a Rule.
        write: writes it.
        rate: calls a second.
        concurrency: calls at a time.
        debounce: seconds between a change and its write, so that several changes become one write.
        yields_to: the bulk waits while Rules wait in this queue.
    """

    def __init__(
        self,
        *,
        render: Render,
        write: Write,
        rate: float = 200.0,
        concurrency: int = 8,
        debounce: float = 0.03,
        yields_to: PriorityQueue[str] | None = None,
    ) -> None:
        queue: PriorityQueue[str] = PriorityQueue(bulk_share=_BULK_SHARE, yields_to=yields_to, retry=_RETRY)
        super().__init__("rule statuses", queue=queue, workers=concurrency)
        self._render = render
        self._write = write
        self._interval = 1.0 / rate
        self._debounce = debounce
        self._next_slot = 0.0
        self._failing = False

    def __len__(self) -> int:
        return self.queue.outstanding

    def submit(self, uid: str, *, urgent: bool) -> None:
        """Something may have to be written for the Rule."""
        if self.queue.is_failing(uid) and not self.queue.is_processing(uid):
            return  # it waits for its next attempt, which writes what is right then
        self.queue.enqueue(uid, urgent=urgent, after=0.0 if self.queue.is_waiting(uid) else self._debounce)
        metrics.STATUS_WAITING.set(len(self))

    def is_writing(self, uid: str) -> bool:
        """Whether a write for the Rule is under way, so that what Kubernetes says is about to change."""
        return self.queue.is_processing(uid)

    async def reconcile(self, key: str, *, urgent: bool) -> float | None:
        """Write one Rule's status if it differs from what Kubernetes says."""
        await self._pace()
        write = self._render(key)
        if write is not None:
            try:
                async with asyncio.timeout(_ATTEMPT_TIMEOUT):
                    await self._write(write)
            except Exception as error:
                self._log_failure(write, error)
                raise
            if self._failing:
                self._failing = False
                _log.info("rule_status_written_again", waiting=len(self))
            metrics.STATUS_WRITES.labels("written").inc()
            write.done()
        metrics.STATUS_WAITING.set(len(self) - 1)
        return None

    async def on_error(self, key: str, error: Exception) -> None:
        """Try again later, and let this worker rest: the others find out by themselves."""
        metrics.STATUS_WRITES.labels("failed").inc()
        delay = self.queue.failed(key, urgent=False, hold=True)
        await asyncio.sleep(min(delay, _REST))

    def _log_failure(self, write: StatusWrite, error: Exception) -> None:
        if not self._failing:
            self._failing = True
            _log.warning(
                "rule_status_not_written",
                rule=f"{write.namespace}/{write.name}",
                error=str(error) or type(error).__name__,
                exc_info=not isinstance(error, ClusterError | TimeoutError | OSError),
            )

    async def _pace(self) -> None:
        now = asyncio.get_running_loop().time()
        slot = max(now, self._next_slot)
        self._next_slot = slot + self._interval
        if slot > now:
            await asyncio.sleep(slot - now)
