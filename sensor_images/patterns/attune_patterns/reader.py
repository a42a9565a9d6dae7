"""Reads the events of one namespace for the rules that are about them."""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from typing import Final

from attune_kit.backoff import Backoff
from attune_kit.outage import Outage
from attune_patterns.decide import Decider
from attune_patterns.events import instant
from attune_patterns.serving import Serving
from attune_sensor import (
    ApiRefusedError,
    ApiUnavailableError,
    Disposition,
    EventPage,
    EventReport,
    Rule,
    SensorContext,
)

#: Seconds between two looks.
POLL: Final = 0.5
#: Seconds that an event may take from its receipt by the API until it can be read. What is due is decided so much later.
MARGIN: Final = 0.4
#: Seconds for which nothing is held to be missing after the API was away: sensors deliver what they have on disk. They try again
#: at least every 15 s.
SETTLE: Final = 20.0
#: An outage that is shorter (seconds) leaves no events on disks that matter.
_OUTAGE: Final = 2.0
_RETRY: Final = Backoff(initial=0.25, maximum=5.0)
#: Reports that are under way at once.
_AT_ONCE: Final = 500
_SOONEST: Final = 0.02


class Reader:
    """Reads for some rules of one namespace, which share it.

    Args:
        namespace: the namespace.
        context: the sensor's.
    """

    def __init__(self, namespace: str, *, context: SensorContext) -> None:
        self.servings: dict[str, Serving] = {}
        self._context = context
        self._outage = Outage(log=context.log.bind(namespace=namespace), name="source_events")
        self._failed_since: float | None = None
        self._away_at = 0.0  # when the last outage began
        self._settled_at = 0.0
        self._unreported = False  # something was decided, and its events are not stored yet
        self._wake = asyncio.Event()
        self.problem: str | None = None

    @property
    def names(self) -> set[str]:
        """Whose events it reads."""
        return {name for serving in self.servings.values() for name in serving.listening.names}

    def wake(self) -> None:
        """Look now: there is another rule."""
        self._wake.set()

    async def run(self) -> None:
        """Read until cancelled."""
        attempt = 0
        while True:
            self._wake.clear()
            try:
                pause = await self._turn()
            except ApiUnavailableError as error:
                attempt += 1
                self._away(str(error))
                pause = _RETRY.delay(attempt=attempt)
            else:
                attempt = 0
                self._back()
            await self._sleep(pause)

    async def keep(self) -> None:
        """Keep what is not kept yet: the sensor ends. Where it was interrupted, what was kept before leads to the same events."""
        if self._unreported:
            return
        for serving in list(self.servings.values()):
            await serving.keep(now=True)

    async def _turn(self) -> float:
        """Read once; returns the seconds until the next time."""
        servings = list(self.servings.values())
        for serving in servings:
            await self._load(serving)
        running = [(serving, serving.decider) for serving in servings if serving.decider is not None]
        if not running:
            return POLL
        after = min(decider.state.position for _, decider in running)
        names = sorted({name for serving, _ in running for name in serving.listening.names})
        page = await self._read([serving.rule for serving, _ in running], names, after=after)
        self._back()  # before anything is decided
        if page.newest < after:
            self._context.log.warning(
                "events_lost", position=after, newest=page.newest, reason="the API has fewer than before"
            )
            for serving, _ in running:
                await serving.reload(newest=page.newest)
            return 0.0
        self._unreported = True
        await self._report(await self._taken([serving for serving, _ in running], page))
        for _, decider in running:
            decider.skip(page.position)
        complete = page.position >= page.newest
        if complete:
            now = instant(page.asked_at) - int(MARGIN * 1e6)
            await self._report(
                [report for serving, _ in running if self._judges(serving) for report in serving.advance(now)]
            )
        self._unreported = False
        for serving, _ in running:
            await serving.keep()
        return self._pause(page, [decider for _, decider in running]) if complete else 0.0

    async def _load(self, serving: Serving) -> None:
        """Load a rule's state, unless it is there. One that the API does not know yet holds up no other."""
        if serving.loaded.is_set():
            return
        try:
            await serving.load()
        except ApiRefusedError as error:
            serving.problem = str(error)
            self._context.failing(serving.rule, serving.problem)
        else:
            serving.problem = None
            if serving.loaded.is_set():
                self._context.recovered(serving.rule)

    async def _read(self, rules: Sequence[Rule], names: Sequence[str], *, after: int) -> EventPage:
        """A page, asked for as one of these rules: one may have ended a moment ago."""
        refused: ApiRefusedError | None = None
        for rule in rules:
            try:
                return await self._context.source_events.read(rule, names, after=after)
            except ApiRefusedError as error:
                refused = error
        raise refused or ApiRefusedError("there is no rule")

    async def _taken(self, servings: Sequence[Serving], page: EventPage) -> list[EventReport]:
        reports: list[EventReport] = []
        for event in page.data:
            for serving in servings:
                reports += await serving.take(event, judge=self._judges(serving))
        return reports

    def _judges(self, serving: Serving) -> bool:
        """Whether what is due for a rule is decided now."""
        if not serving.listening.awaits or time.monotonic() >= self._settled_at:
            return True
        return serving.began_at is not None and serving.began_at >= self._away_at

    @staticmethod
    def _pause(page: EventPage, deciders: Sequence[Decider]) -> float:
        """Until something is due, or until it is time to look again."""
        due = [deadline for decider in deciders if (deadline := decider.next_deadline) is not None]
        if not due:
            return POLL
        left = (min(due) - instant(page.asked_at)) / 1e6 + MARGIN
        return min(POLL, max(_SOONEST, left))

    async def _report(self, reports: Sequence[EventReport]) -> None:
        """Have events stored, or refused for good. Those that went to the disk are reported again: a pod may lose its disk."""
        left = list(reports)
        while left:
            again: list[EventReport] = []
            for start in range(0, len(left), _AT_ONCE):
                some = left[start : start + _AT_ONCE]
                waiting = [await self._context.submit(report) for report in some]
                for report, confirmation in zip(some, await asyncio.gather(*waiting), strict=True):
                    if confirmation.disposition in (Disposition.SPOOLED, Disposition.DROPPED):
                        again.append(report)
            left = again
            if left:
                await self._delivered()

    async def _delivered(self) -> None:
        """Wait until nothing is on the disk."""
        while True:
            await asyncio.sleep(POLL)
            if not self._context.spooled:
                return

    async def _sleep(self, seconds: float) -> None:
        if self._wake.is_set():
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()

    def _away(self, reason: str) -> None:
        if self._failed_since is None:
            self._failed_since = time.monotonic()
        self.problem = f"events cannot be read: {reason}"
        self._outage.failed("unavailable", reason)
        for serving in self.servings.values():
            self._context.failing(serving.rule, self.problem)

    def _back(self) -> None:
        if self._failed_since is None:
            return
        if time.monotonic() - self._failed_since >= _OUTAGE:
            self._away_at = self._failed_since
            self._settled_at = time.monotonic() + SETTLE
        self._failed_since = self.problem = None
        self._outage.recovered()
        for serving in self.servings.values():
            self._context.recovered(serving.rule)
