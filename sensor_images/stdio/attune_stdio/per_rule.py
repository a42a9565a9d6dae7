"""One process for each active rule."""

import asyncio
import contextlib
import itertools
import os
import random
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from attune_kit.supervisor import end
from attune_sensor import AckState, Rule, SensorContext, event_of
from attune_stdio import variables
from attune_stdio.interpreter import Expressions, Interpreter
from attune_stdio.messages import AckLine, EventLine, LineError, RefusedEventError
from attune_stdio.metrics import StdioMetrics
from attune_stdio.process import Process
from attune_stdio.program import Program
from attune_stdio.restarts import HEALTHY_AFTER, Restarts
from attune_stdio.settings import OnExit, StdioSettings

#: A rule's stop waits so long (seconds) for the end of its process; what takes longer goes on behind the scenes, for other
#: rules wait for their turn.
_PATIENCE: Final = 0.5
#: Seconds that are left of the sensor's own time to stop after the programs' time has run out.
_RESERVE: Final = 2.0
#: So many lines that cannot be used may be a greeting: only further ones mean that nothing gets through.
TOLERATED: Final = 2


class PerRuleHandler:
    """A :class:`attune_sensor.RuleHandler` that runs a program for each rule.

    Args:
        context: how events are reported.
        settings: what is run, and how.
        metrics: where processes and lines are counted.
        expressions: of the Sensor.
        environment: the supervisor's environment.
        restarts: when a program that ended is started again.
        healthy_after: seconds after which a program that was started again is said to work.
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
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._context = context
        self._settings = settings
        self._metrics = metrics
        self._expressions = expressions
        self._environment = variables.of_program(environment, scripts_dir=settings.scripts_dir)
        self._restarts = restarts
        self._healthy_after = healthy_after
        self._chance = chance
        self._running: dict[str, _RuleProgram] = {}
        self._ending: dict[str, asyncio.Task[None]] = {}
        self._folder: Path | None = None
        self._starts = itertools.count(1)

    async def start(self, rule: Rule) -> None:
        """Start the rule's program, as soon as the one that it had before has ended.

        Raises:
            InvalidRuleError: an expression of the Sensor cannot be used.
        """
        await self._expressions.check()
        if self._folder is None:
            self._folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="attune-stdio-"))
        await self.stop(rule)
        # Each start has a file of its own: the process before may still read its.
        file = self._folder / f"{rule.uid}-{next(self._starts)}.json"
        await asyncio.to_thread(_write, file, msgspec.json.encode(rule.parameters))
        self._running[rule.uid] = self._program(rule, file)

    async def update(self, old: Rule, new: Rule) -> None:
        """Restart the program, unless its input is the same."""
        running = self._running.get(new.uid)
        if running is not None and not running.task.done() and _same(old, new):
            running.rule = new
        else:
            await self.start(new)

    async def stop(self, rule: Rule) -> None:
        """End the rule's program. What it still says is not taken."""
        running = self._running.pop(rule.uid, None)
        if running is None:
            return
        running.program.stop(within=self._settings.stop_seconds, listen=False)
        # Before anything is waited for: who is cancelled while waiting must not lose sight of it.
        self._ending[rule.uid] = running.task
        running.task.add_done_callback(lambda task: self._ended(rule.uid, task))
        await asyncio.wait({running.task}, timeout=_PATIENCE)

    async def close(self) -> None:
        """End all programs. What they say until they have ended is taken."""
        grace = max(0.1, self._context.settings.grace_seconds / 2 - _RESERVE)
        for running in self._running.values():
            running.program.stop(within=min(self._settings.stop_seconds, grace), listen=True)
        tasks = {*(running.task for running in self._running.values()), *self._ending.values()}
        try:
            if tasks:
                await asyncio.wait(tasks)
        finally:
            await end(*tasks)
            await self._expressions.close()
            if self._folder is not None:
                shutil.rmtree(self._folder, ignore_errors=True)

    def _ended(self, uid: str, task: "asyncio.Task[None]") -> None:
        if self._ending.get(uid) is task:
            del self._ending[uid]

    def _program(self, rule: Rule, file: Path) -> "_RuleProgram":
        settings = self._settings
        found = _RuleProgram(rule=rule, context=self._context, file=file)
        given = {**self._environment, **variables.of_rule(rule, parameters_file=file)}
        found.program = Program(
            command=variables.expanded(settings.command, given),
            variables=given,
            directory=settings.scripts_dir,
            stdin=False,
            finite=True,
            done_at_success=settings.on_exit is OnExit.COMPLETE,
            observer=found,
            interpreter=Interpreter(
                settings.output, expressions=self._expressions, owner=rule.uid, parameters=rule.parameters
            ),
            lines_per_second=settings.lines_per_second,
            metrics=self._metrics,
            log=self._context.log.bind(rule=rule.ref, rule_uid=rule.uid),
            restarts=self._restarts,
            healthy_after=self._healthy_after,
            chance=self._chance,
            notes=variables.same_names(rule.parameters),
        )
        found.task = asyncio.create_task(found.run(after=self._ending.get(rule.uid)), name=f"program of {rule.ref}")
        return found


class _RuleProgram:
    """The program of one rule: an :class:`attune_stdio.program.ProgramObserver`."""

    program: Program
    task: "asyncio.Task[None]"

    def __init__(self, *, rule: Rule, context: SensorContext, file: Path) -> None:
        self.rule = rule
        self._context = context
        self._file = file
        self._reported = False  # the process itself reported the rule's state

    async def run(self, *, after: "asyncio.Task[None] | None") -> None:
        """Run the program, after the end of the one before."""
        try:
            if after is not None and not after.done():
                self._context.failing(self.rule, "The program that the rule had before has not ended yet.")
                await asyncio.wait({after})
                self._context.recovered(self.rule)
            await self.program.run()
        finally:
            with contextlib.suppress(OSError):
                self._file.unlink()

    def started(self, process: Process) -> None:
        """A new process has said nothing yet."""
        self._reported = False

    def ending(self, process: Process) -> None:
        """Nothing is said to it."""

    async def take(self, line: EventLine | AckLine) -> None:
        """Report the event, or say what the program says of its rule."""
        rule = self.rule
        if line.rule is not None and line.rule not in (rule.uid, rule.ref):
            raise LineError(f"it names another rule than {rule.ref}, which is this program's")
        if isinstance(line, AckLine):
            self._reported = True
            self._context.report(rule, line.ack, line.message)
            if line.ack in (AckState.REJECTED, AckState.COMPLETED):
                self.program.stop(within=1.0, listen=False)
            return
        if line.trigger_type not in (None, rule.trigger_type):
            raise LineError(f"the trigger type of its rule is {rule.trigger_type}")
        await report(self._context, rule, line)

    def refused(self, why: str) -> None:
        """Count it for the rule."""
        self._context.refused(self.rule, why, what="lines", tolerated=TOLERATED)

    def failing(self, message: str) -> None:
        """Say so."""
        self._context.failing(self.rule, message)

    def working(self, remark: str) -> None:
        """Report it, unless the process itself reported the rule's state."""
        if not self._reported:
            self._context.report(self.rule, AckState.ACTIVE, remark)

    def completed(self) -> None:
        """Say so."""
        self._context.completed(self.rule)


async def report(context: SensorContext, rule: Rule, line: EventLine) -> None:
    """Report an event of a rule.

    Raises:
        RefusedEventError: the event is too large.
    """
    try:
        await context.emit(
            event_of(
                rule,
                line.payload,
                occurrence=line.occurrence,
                occurred_at=line.occurred_at,
                traceparent=line.traceparent,
                tracestate=line.tracestate,
            )
        )
    except ValueError as error:
        raise RefusedEventError(str(error)) from None


def _same(old: Rule, new: Rule) -> bool:
    """Whether the program of a rule need not know of a change."""
    return old.trigger_type == new.trigger_type and old.parameters == new.parameters


def _write(file: Path, content: bytes) -> None:
    """Write a file that nobody else reads: parameters may be confidential."""
    fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "wb") as opened:
        opened.write(content)
