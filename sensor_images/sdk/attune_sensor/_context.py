"""What the code of a sensor gets to work with."""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from attune_contract.events import EventReport
from attune_contract.messages import AckState
from attune_kit.tracing import OFF, Tracer
from attune_sensor._clock import Clock, SystemClock
from attune_sensor._confirmations import Answers, Confirmation, Course
from attune_sensor._emitter import Emitter
from attune_sensor._http_server import Check
from attune_sensor._last_events import LastEvent, LastEvents
from attune_sensor._metrics import Metrics
from attune_sensor._outcomes import Outcomes
from attune_sensor._rule_supervisor import RuleSupervisor
from attune_sensor._rules import Rule
from attune_sensor._settings import SensorSettings
from attune_sensor._source_events import SourceEvents


class SensorContext:
    """What a handler gets: methods to report events, and what it may need to know.

    Attributes:
        settings: the sensor's settings.
        config: the Sensor's free-form configuration (``spec.config``); empty when there is none.
        log: a structlog logger.
        metrics: the sensor's metrics; add your own to ``metrics.registry``.
        tracer: makes spans where the sensor exports them (docs/tracing.md). Each event has one of its own in any case.
        clock: the time, which a test may set.
        source_events: other rules' events, for sensors whose rules are about them, and what is remembered of rules.
        versions: what decides how the sensor works, by name, like ``tzdata``; add to it. Part of its health reports.
    """

    def __init__(
        self,
        *,
        settings: SensorSettings,
        config: dict[str, Any],
        log: Any,
        metrics: Metrics,
        emitter: Emitter,
        last_events: LastEvents,
        source_events: SourceEvents,
        clock: Clock | None = None,
        outcomes: Outcomes | None = None,
        tracer: Tracer = OFF,
    ) -> None:
        self._outcomes = outcomes or Outcomes(clock=time.monotonic)
        self.settings = settings
        self.config = config
        self.log = log
        self.metrics = metrics
        self.tracer = tracer
        self.clock: Clock = SystemClock() if clock is None else clock
        self._emitter = emitter
        self._last_events = last_events
        self.source_events = source_events
        self._supervisor: RuleSupervisor | None = None
        self._live_checks: dict[str, Check] = {}
        self._health_checks: dict[str, Check] = {}
        self.versions: dict[str, str] = {}
        self._rules_read: Callable[[], bool] = lambda: True

    def emit_nowait(self, event: EventReport) -> bool:
        """Report an event; see :meth:`attune_sensor._emitter.Emitter.emit_nowait`."""
        return self._emitter.emit_nowait(event)

    def emit_from_thread(self, event: EventReport) -> bool:
        """Report an event from another thread; see :meth:`attune_sensor._emitter.Emitter.emit_from_thread`."""
        return self._emitter.emit_from_thread(event)

    async def emit(self, event: EventReport) -> bool:
        """Report an event; see :meth:`attune_sensor._emitter.Emitter.emit`."""
        return await self._emitter.emit(event)

    async def emit_confirmed(self, event: EventReport) -> Confirmation:
        """Report an event and wait until it is safe; see :meth:`attune_sensor._emitter.Emitter.emit_confirmed`."""
        return await self._emitter.emit_confirmed(event)

    async def submit(self, event: EventReport) -> "asyncio.Future[Confirmation]":
        """Report an event now and learn later whether it is safe; see :meth:`attune_sensor._emitter.Emitter.submit`."""
        return await self._emitter.submit(event)

    def encode(self, event: EventReport) -> bytes:
        """An event for :meth:`submit_all`; see :meth:`attune_sensor._emitter.Emitter.encode`."""
        return self._emitter.encode(event)

    def submit_all(self, bodies: Sequence[bytes], course: Course, *, at_least: int) -> Answers:
        """Report events together and learn later whether they are safe; see
        :meth:`attune_sensor._emitter.Emitter.submit_all`.
        """
        return self._emitter.submit_all(bodies, course, at_least=at_least)

    @property
    def spooled(self) -> int:
        """Events on disk that are not stored yet."""
        return self._emitter.spooled

    @property
    def undelivered(self) -> int:
        """Events that were reported and are not stored yet."""
        return self._emitter.waiting

    async def last_events(self, rule_uids: Iterable[str]) -> dict[str, LastEvent]:
        """The last stored event of each rule, by the rule's uid: where to continue after the sensor was down.

        A rule without a stored event is absent. While the API is away, this waits for it.
        """
        return await self._last_events.read(rule_uids)

    def completed(self, rule: Rule) -> None:
        """Report that a running rule has ended and will not fire again."""
        self.report(rule, AckState.COMPLETED)

    def failing(self, rule: Rule, message: str) -> None:
        """Report that a running rule cannot do its work now; the handler keeps trying."""
        self.report(rule, AckState.FAILING, message)

    def recovered(self, rule: Rule) -> None:
        """Report that a failing rule works again."""
        self.report(rule, AckState.ACTIVE)

    def refused(self, rule: Rule, why: str, *, what: str = "events", tolerated: int = 0, stray: bool = False) -> None:
        """Report that something occurred and makes no event: a request that is not authentic, a line that is no JSON.

        What the API refuses is counted by itself. While nothing gets through, the rule is ``Failing``; while some does, it
        is ``Active`` with a remark. So call this for what the rule's author has to know, and not for what a filter
        leaves out.

        Args:
            rule: the rule.
            why: the reason, for the rule's author; no secrets.
            what: the things that are refused, in the plural.
            tolerated: so many refusals do not mean yet that nothing gets through.
            stray: anybody may have caused it, such as a scanner: that nothing gets through takes five in a row where nothing
                ever did, and 20 where something did.
        """
        self._outcomes.refused(rule.uid, why, what=what, tolerated=tolerated, stray=stray)

    def left_out(self, rule: Rule, why: str, *, what: str = "events") -> None:
        """Report that something occurred for which the rule does not ask, such as what its filter leaves out. That is no
        problem; but as long as the rule never had an event, its condition says how many were left out, and why.

        Args:
            rule: the rule.
            why: the reason as a clause, like "parameters.filter was not true".
            what: the things that are left out, in the plural.
        """
        self._outcomes.left_out(rule.uid, why, what=what)

    def report(self, rule: Rule, state: AckState, message: str = "") -> None:
        """Report the state of a running rule, with a sentence for its author."""
        if self._supervisor is not None:
            self._supervisor.report(rule, state, message)

    def next_occurrence(self, rule: Rule, at: datetime | None) -> None:
        """Report when the next occurrence of a running rule is due: the Rule shows it (``status.nextTime``, column NEXT).

        For rules of which the sensor knows it, and when it changes. It may be called while a rule is started or updated,
        which forgets what was said before. Leave it out where occurrences are less than a minute apart: nobody can read it in
        time.

        Args:
            rule: the rule.
            at: when, with a zone; None: it is not known any more, or not worth saying.
        """
        if self._supervisor is not None:
            self._supervisor.next_occurrence(rule, at)

    @property
    def rules_read(self) -> bool:
        """Whether the rule state was read completely; before that, an unknown rule may exist all the same."""
        return self._rules_read()

    @property
    def rules_started(self) -> bool:
        """Whether the rule state was read completely, and the handler was given every rule of it.

        Before that, a message that is taken from a queue may belong to a rule that the handler does not know yet.
        """
        return self._rules_read() and (self._supervisor is None or self._supervisor.caught_up)

    def attach(self, supervisor: RuleSupervisor, *, rules_read: Callable[[], bool] | None = None) -> None:
        """Connect :meth:`report` and :attr:`rules_read`; the runtime calls this once."""
        self._supervisor = supervisor
        if rules_read is not None:
            self._rules_read = rules_read

    @property
    def live_checks(self) -> Mapping[str, Check]:
        """What was added by :meth:`add_live_check`, by name."""
        return self._live_checks

    def add_live_check(self, name: str, check: Check) -> None:
        """Make ``/live`` fail, so that the pod is restarted, while ``check`` returns a problem."""
        self._live_checks[name] = check

    @property
    def health_checks(self) -> Mapping[str, Check]:
        """What was added by :meth:`add_health_check`, by name."""
        return self._health_checks

    def add_health_check(self, name: str, check: Check) -> None:
        """Make the Sensor's condition Healthy False while ``check`` returns a problem. Nothing is restarted.

        The text must stay the same while the problem lasts.
        """
        self._health_checks[name] = check
