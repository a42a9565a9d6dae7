"""One process for all rules: it reads them, one per line, and names them in its output."""

import asyncio
import contextlib
import random
from collections.abc import Callable, Mapping
from typing import Final

from attune_kit.supervisor import end
from attune_sensor import AckState, Rule, SensorContext
from attune_stdio import variables
from attune_stdio.interpreter import Expressions, Interpreter
from attune_stdio.messages import AckLine, EventLine, LineError, lifecycle_line
from attune_stdio.metrics import StdioMetrics
from attune_stdio.per_rule import TOLERATED, report
from attune_stdio.process import Process
from attune_stdio.program import LateLineError, Program
from attune_stdio.restarts import HEALTHY_AFTER, Restarts
from attune_stdio.settings import StdioSettings

#: A program that takes no line of its standard input for so long (seconds) does not know its rules.
_NOT_READING_AFTER: Final = 30.0
_NOT_READING: Final = (
    "The program does not read its standard input, so it does not know of this rule as it is now. "
    "A program that needs to know no rules may close it."
)
#: Seconds that are left of the sensor's own time to stop after the program's time has run out.
_RESERVE: Final = 2.0
#: Stopped rules that are remembered, for lines that were on their way.
_REMEMBERED: Final = 10_000


class PerSensorHandler:
    """A :class:`attune_sensor.RuleHandler` that runs one program, from the first rule on.

    Args:
        context: how events are reported.
        settings: what is run, and how.
        metrics: where processes and lines are counted.
        expressions: of the Sensor.
        environment: the supervisor's environment.
        restarts: when a program that ended is started again.
        healthy_after: seconds after which a program that was started again is said to work.
        not_reading_after: seconds after which a program that does not read is complained about.
        chance: random numbers in [0, 1), for jitter.
    """

    def __init__(
        self,
        *,
        context: SensorContext,
        settings: StdioSettings,
        metrics: StdioMetrics,
        expressions: Expressions,
        environment: Mapping[str, str],
        restarts: Restarts,
        healthy_after: float = HEALTHY_AFTER,
        not_reading_after: float = _NOT_READING_AFTER,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._context = context
        self._settings = settings
        self._expressions = expressions
        self._not_reading_after = not_reading_after
        self._rules: dict[str, Rule] = {}
        self._by_ref: dict[str, str] = {}
        self._sent: dict[str, Rule] = {}  # what the process that runs knows
        self._changed: dict[str, None] = {}  # of what it must be told: a set that keeps its order
        self._stopped: dict[str, None] = {}  # names of rules that ran here: a set that keeps its order
        self._wake = asyncio.Event()
        self._reported: set[str] = set()  # rules whose state the process itself reported
        self._problem = ""  # why no rule is served now
        self._feeding: asyncio.Task[None] | None = None
        self._task: asyncio.Task[None] | None = None
        given = variables.of_program(environment, scripts_dir=settings.scripts_dir)
        self._program = Program(
            command=variables.expanded(settings.command, given),
            variables=given,
            directory=settings.scripts_dir,
            stdin=True,
            finite=False,
            done_at_success=False,
            observer=self,
            interpreter=Interpreter(
                settings.output, expressions=expressions, owner=str(context.settings.sensor), parameters=None
            ),
            lines_per_second=settings.lines_per_second,
            metrics=metrics,
            log=context.log,
            restarts=restarts,
            healthy_after=healthy_after,
            chance=chance,
        )

    # -- rules ---------------------------------------------------------------------------------------------------------

    async def start(self, rule: Rule) -> None:
        """Tell the program of a rule; the first one starts it.

        Raises:
            InvalidRuleError: an expression of the Sensor cannot be used.
        """
        await self._expressions.check()
        self._rules[rule.uid] = rule
        self._by_ref[rule.ref] = rule.uid
        self._reported.discard(rule.uid)
        self._change(rule.uid)
        if self._problem:
            self._context.failing(rule, self._problem)
        if self._task is None:
            self._task = asyncio.create_task(self._program.run(), name="program")

    async def update(self, old: Rule, new: Rule) -> None:
        """Tell the program of a rule's new state."""
        await self.start(new)

    async def stop(self, rule: Rule) -> None:
        """Tell the program that a rule is over. From now on its events are not taken."""
        self._rules.pop(rule.uid, None)
        if self._by_ref.get(rule.ref) == rule.uid:
            del self._by_ref[rule.ref]
        self._stopped |= dict.fromkeys((rule.uid, rule.ref))
        while len(self._stopped) > _REMEMBERED:
            del self._stopped[next(iter(self._stopped))]
        self._change(rule.uid)

    async def close(self) -> None:
        """End the program. What it says until then is taken."""
        if self._task is None:
            await self._expressions.close()
            return
        grace = max(0.1, self._context.settings.grace_seconds / 2 - _RESERVE)
        self._program.stop(within=min(self._settings.stop_seconds, grace), listen=True)
        try:
            await asyncio.wait({self._task})
        finally:
            await end(self._task)
            await self._expressions.close()

    # -- messages to the program --------------------------------------------------------------------------------------

    def _change(self, uid: str) -> None:
        self._changed[uid] = None
        self._wake.set()

    def started(self, process: Process) -> None:
        """A new process knows nothing."""
        self._sent.clear()
        self._reported.clear()
        self._changed = dict.fromkeys(self._rules)
        self._wake.set()
        self._feeding = asyncio.create_task(self._feed(process), name="stdin of the program")

    def ending(self, process: Process) -> None:
        """Its standard input ends, which tells it the same as SIGTERM does."""
        if self._feeding is not None:
            self._feeding.cancel()
            self._feeding = None
        if process.stdin is not None:
            process.stdin.close()

    async def _feed(self, process: Process) -> None:
        """Tell the process what it does not know yet. Level-triggered: changes of a rule that come while it does not read are
        told as one.
        """
        loop = asyncio.get_running_loop()
        if process.stdin is None:
            return
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it closed its end: it need not know
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._changed:
                    uid = next(iter(self._changed))
                    del self._changed[uid]
                    if (line := self._line(uid)) is None:
                        continue
                    timer = loop.call_later(self._not_reading_after, self._not_reading, uid)
                    try:
                        await process.stdin.write(line)
                    finally:
                        timer.cancel()
                    if self._problem == _NOT_READING:
                        self._works("")

    def _line(self, uid: str) -> bytes | None:
        old, new = self._sent.get(uid), self._rules.get(uid)
        if new is not None:
            self._sent[uid] = new
            return lifecycle_line("start" if old is None else "update", new) if new is not old else None
        return lifecycle_line("stop", self._sent.pop(uid)) if old is not None else None

    def _not_reading(self, uid: str) -> None:
        self._context.log.warning("program_does_not_read", rule_uid=uid, waiting=len(self._changed) + 1)
        self._problem = _NOT_READING
        for waiting in (uid, *self._changed):
            if (rule := self._rules.get(waiting)) is not None:
                self._context.failing(rule, _NOT_READING)

    # -- what the program says -----------------------------------------------------------------------------------------

    async def take(self, line: EventLine | AckLine) -> None:
        """Report the event for its rule, or for all rules of its trigger type; or say what the program says of a rule."""
        if isinstance(line, AckLine):
            if line.rule is None:
                raise LineError("an `ack` must name its `rule`")
            rule = self._named(line.rule)
            self._reported.add(rule.uid)
            self._context.report(rule, line.ack, line.message)
            return
        if line.rule is not None:
            rule = self._named(line.rule)
            if line.trigger_type not in (None, rule.trigger_type):
                raise LineError(f"the trigger type of {rule.ref} is {rule.trigger_type}")
            await report(self._context, rule, line)
            return
        wanted = self._type_of(line)
        for rule in [rule for rule in self._rules.values() if rule.trigger_type == wanted]:
            await report(self._context, rule, line)

    def _named(self, name: str) -> Rule:
        rule = self._rules.get(name) or self._rules.get(self._by_ref.get(name, ""))
        if rule is not None:
            return rule
        if name in self._stopped:
            raise LateLineError
        raise LineError(f"no rule {name[:200]} runs here")

    def _type_of(self, line: EventLine) -> str:
        types = self._context.settings.trigger_types
        if line.trigger_type is None and len(types) == 1:
            return types[0]
        if line.trigger_type is None:
            raise LineError("it must name its `rule`, or one `trigger_type` of several")
        if line.trigger_type not in types:
            raise LineError(f"this sensor does not provide the trigger type {line.trigger_type[:200]}")
        return line.trigger_type

    # -- the program's state -----------------------------------------------------------------------------------------

    def refused(self, why: str) -> None:
        """It may have been about any of the rules, so all say so."""
        for rule in self._rules.values():
            self._context.refused(rule, why, what="lines", tolerated=TOLERATED)

    def failing(self, message: str) -> None:
        """It holds for all rules."""
        self._problem = message
        for rule in self._rules.values():
            self._context.failing(rule, message)

    def working(self, remark: str) -> None:
        """It holds for all rules but those of which the program said something itself."""
        self._works(remark)

    def _works(self, remark: str) -> None:
        self._problem = ""
        for rule in self._rules.values():
            if rule.uid not in self._reported:
                self._context.report(rule, AckState.ACTIVE, remark)

    def completed(self) -> None:
        """It never is: one that ends is started again."""
