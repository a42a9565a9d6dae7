"""Timers that wait until the API has said which event of their rule is stored last, so that they go on after it."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final

from attune_sensor import LastEvent
from attune_timer import instants
from attune_timer.missed import Missed
from attune_timer.schedule import Occurrence
from attune_timer.timer_heap import Timer, first_missed

#: More missed occurrences than this are counted in a thread, since that takes long.
_MANY: Final = 200
#: Others get their turn after so many timers.
_YIELD_AFTER: Final = 50

#: Takes a timer, since when it is served, and the first missed occurrence to fire.
Arm = Callable[[Timer, int, Occurrence | None], None]


class CatchUp:
    """Finds out where timers go on, and has them armed.

    Args:
        last_events: asks the API for the last event of each rule; waits while the API is away.
        arm: what is done with a timer then.
        name: what the task is called.
        patience: seconds to wait for the API; then timers are armed as if nothing were stored. Events that are reported twice
            are recognised by their ids. None waits for ever.
    """

    def __init__(
        self,
        *,
        last_events: Callable[[Iterable[str]], Awaitable[Mapping[str, LastEvent]]],
        arm: Arm,
        name: str,
        patience: float | None = None,
    ) -> None:
        self._last_events = last_events
        self._arm = arm
        self._name = name
        self._patience = patience
        self._waiting: dict[Timer, int] = {}  # and since when it is served
        self._more = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._run(), name=self._name)

    async def close(self) -> None:
        """End; timers that wait are not armed."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        self._waiting.clear()

    def add(self, timer: Timer, *, since: int) -> None:
        """Have a timer armed once it is known where it goes on."""
        self._waiting[timer] = since
        self._more.set()

    def discard(self, timer: Timer) -> bool:
        """Have a timer not armed; returns whether it was waiting."""
        return self._waiting.pop(timer, None) is not None

    def problem(self) -> str | None:
        """Why nothing is caught up any more; None while it works."""
        task = self._task
        if task is None or not task.done() or task.cancelled():
            return None
        return f"the {self._name} of missed occurrences has ended: {task.exception()!r}"

    async def _run(self) -> None:
        while True:
            await self._more.wait()
            self._more.clear()
            waiting = list(self._waiting)
            last = await self._ask([timer.rule.uid for timer in waiting])
            for number, timer in enumerate(waiting, start=1):
                event = last.get(timer.rule.uid)
                await self._take(timer, None if event is None else instants.from_datetime(event.occurred_at))
                if number % _YIELD_AFTER == 0:
                    await asyncio.sleep(0)

    async def _ask(self, uids: list[str]) -> Mapping[str, LastEvent]:
        try:
            async with asyncio.timeout(self._patience):
                return await self._last_events(uids)
        except TimeoutError:
            return {}

    async def _take(self, timer: Timer, last: int | None) -> None:
        since = self._waiting.get(timer)
        if since is None:
            return  # it was disarmed
        if timer.missed.missed is Missed.ALL and timer.missed.most > _MANY:
            first = await asyncio.to_thread(first_missed, timer, since=since, last=last)
        else:
            first = first_missed(timer, since=since, last=last)
        if self._waiting.pop(timer, None) is not None:
            self._arm(timer, since, first)
