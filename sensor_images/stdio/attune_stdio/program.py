"""Keeps one program running, and takes its lines (docs/runners.md, "When it ends")."""

import asyncio
import random
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from attune_kit.supervisor import end
from attune_stdio.hints import hints
from attune_stdio.interpreter import Interpreter
from attune_stdio.lines import Line
from attune_stdio.messages import MAX_LINE, AckLine, EventLine, LineError, RefusedEventError
from attune_stdio.metrics import StdioMetrics
from attune_stdio.pipes import CHUNK
from attune_stdio.process import Process
from attune_stdio.restarts import HEALTHY_AFTER, Restarts
from attune_stdio.stderr import ErrorOutput
from attune_stdio.throttle import Throttle
from attune_stdio.warnings import ProgramWarnings

#: Seconds for what a program forked to write its last lines after the program itself has ended.
_DRAIN_SECONDS: Final = 1.0
#: Seconds to wait for the end of a program after SIGKILL. One that takes longer hangs in the kernel.
_KILLED: Final = 5.0
#: How often (seconds) it is looked whether there is something to remark.
_LOOK: Final = 2.0
#: Others get their turn after so many lines.
_YIELD_AFTER: Final = 64
#: A line that cannot be used is logged at most this often (seconds), and shown so far (bytes).
_BAD_LOGGED_EVERY: Final = 300.0
_SHOWN: Final = 120


class LateLineError(LineError):
    """The line is of a rule that ran here and does not any more: nobody's fault."""


class ProgramObserver(Protocol):
    """Observes a program's output and state. None of these methods blocks, except :meth:`take`."""

    def started(self, process: Process) -> None:
        """A process was started."""

    def ending(self, process: Process) -> None:
        """The process has ended, or is about to be stopped: nothing more can be sent to it."""

    async def take(self, line: EventLine | AckLine) -> None:
        """A line. While this waits, nothing more is read.

        Raises:
            LineError: it cannot be used.
            LateLineError: it is of a rule that was stopped.
        """

    def refused(self, why: str) -> None:
        """A line cannot be used."""

    def failing(self, message: str) -> None:
        """The program does not run, and is started again soon."""

    def working(self, remark: str) -> None:
        """The program works (again); ``remark`` is what is not quite right about it."""

    def completed(self) -> None:
        """The program has done all that there is to do."""


@dataclass(frozen=True, slots=True)
class _End:
    """How a run ended: the exit status as ``Popen.returncode`` (None: it never ran), its length in seconds, last words."""

    status: int | None
    ran: float
    words: str


class Program:
    """One program, started again whenever it ends.

    Args:
        command: the program and its arguments.
        variables: its environment.
        directory: where it runs.
        stdin: whether it gets messages on its standard input; otherwise that is empty.
        finite: whether ending with status 0 is all right; it is then either done or started again without a complaint.
        done_at_success: with ``finite``, whether it is then done.
        observer: who hears of it.
        interpreter: reads its output.
        lines_per_second: lines that are taken from it.
        metrics: where it is counted.
        log: a structlog logger that names it.
        restarts: when it is started again.
        healthy_after: seconds after which it is said to work again.
        chance: random numbers in [0, 1), for jitter.
    """

    def __init__(
        self,
        *,
        command: Sequence[str],
        variables: Mapping[str, str],
        directory: Path | None,
        stdin: bool,
        finite: bool,
        done_at_success: bool,
        observer: ProgramObserver,
        interpreter: Interpreter,
        lines_per_second: float,
        metrics: StdioMetrics,
        log: Any,
        restarts: Restarts,
        healthy_after: float = HEALTHY_AFTER,
        chance: Callable[[], float] = random.random,
        notes: Sequence[str] = (),
    ) -> None:
        self._command = command
        self._variables = variables
        self._directory = directory
        self._stdin = stdin
        self._finite = finite
        self._done_at_success = done_at_success
        self._observer = observer
        self._interpreter = interpreter
        self._rate = lines_per_second
        self._metrics = metrics
        self._log = log
        self._restarts = restarts
        self._healthy_after = healthy_after
        self._chance = chance
        self._warnings = ProgramWarnings([*notes, *hints(command)])
        self._stop = asyncio.Event()
        self._stop_seconds = 0.0
        self._listening = True
        self._waiting_for_output = False
        self._chunks = 0  # read so far
        self._failing = False
        self._bad_logged = float("-inf")

    def stop(self, *, within: float, listen: bool) -> None:
        """Have :meth:`run` end the program and return.

        Args:
            within: seconds from SIGTERM to SIGKILL.
            listen: whether what the program still says is taken.
        """
        self._listening = self._listening and listen
        self._stop_seconds = within
        self._stop.set()

    async def run(self) -> None:
        """Keep the program running until :meth:`stop`, or until it is done."""
        attempt = 0
        while not self._stop.is_set():
            try:
                end_ = await self._run_once()
            except Exception as error:
                # Whatever it is, a program is never given up.
                self._log.exception("program_not_kept")
                end_ = _End(None, 0.0, repr(error))
            if self._stop.is_set():
                return
            if end_.status == 0 and self._finite:
                attempt, delay = 0, self._restarts.after(attempt=0, ran=0.0, chance=self._chance())[1]
                if self._done_at_success:
                    self._observer.completed()
                    return
                self._warnings.ended_well(ran=end_.ran, words=end_.words, now=time.monotonic())
                self._remark()  # it may always end before somebody looks
            else:
                attempt, delay = self._restarts.after(attempt=attempt, ran=end_.ran, chance=self._chance())
                self._failing = True
                self._observer.failing(_sentence(end_, program=self._command[0], again_in=delay))
            await self._sleep(delay)

    async def _sleep(self, seconds: float) -> None:
        await asyncio.wait({stopped := asyncio.ensure_future(self._stop.wait())}, timeout=seconds)
        await end(stopped)

    # -- one run -------------------------------------------------------------------------------------------------------

    async def _run_once(self) -> _End:
        try:
            process = Process.start(
                self._command, variables=self._variables, directory=self._directory, stdin=self._stdin
            )
        except (OSError, ValueError) as error:
            reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
            self._log.warning("program_not_started", command=self._command[0], error=reason)
            return _End(None, 0.0, reason)
        self._metrics.starts.inc()
        self._metrics.processes.inc()
        log = self._log.bind(pid=process.pid)
        log.info("program_started", command=self._command[0])
        errors = ErrorOutput(log=log)
        output = asyncio.create_task(self._read(process), name=f"stdout of {process.pid}")
        complaints = asyncio.create_task(errors.read(process.stderr), name=f"stderr of {process.pid}")
        self._observer.started(process)
        self._warnings.started(now=time.monotonic())
        killed = False
        try:
            await self._attend(process)
            self._observer.ending(process)
            if not process.exited.is_set():
                killed = await self._end(process)
            ran = process.running_for
            await self._drain(process, output, complaints, log)
        finally:
            self._observer.ending(process)
            process.signal(signal.SIGKILL)
            if not process.exited.is_set():  # this was cancelled
                await _within(process.exited, _KILLED)
            status = process.reap()
            await end(output, complaints)
            for pipe in (process.stdout, process.stderr):
                pipe.close()
            self._metrics.processes.dec()
            self._metrics.exits.labels(_how(status, stopped=self._stop.is_set(), killed=killed)).inc()
        log.info("program_ended", status=status, ran_seconds=round(ran, 3), told_to=self._stop.is_set(), killed=killed)
        return _End(status, ran, errors.last)

    async def _attend(self, process: Process) -> None:
        """Wait until the process ends or is to be stopped, and report its state meanwhile."""
        waits = [asyncio.ensure_future(process.exited.wait()), asyncio.ensure_future(self._stop.wait())]
        try:
            while True:
                done, _ = await asyncio.wait(
                    waits, timeout=min(_LOOK, self._healthy_after), return_when=asyncio.FIRST_COMPLETED
                )
                if done:
                    return
                self._look(process)
        finally:
            await end(*waits)

    def _look(self, process: Process) -> None:
        now = time.monotonic()
        if self._failing:
            if process.running_for >= self._healthy_after:
                self._failing = False
                self._observer.working(self._warnings.text(now=now))
        else:
            self._remark()

    def _remark(self) -> None:
        if not self._failing and (text := self._warnings.changed_text(now=time.monotonic())) is not None:
            self._observer.working(text)

    async def _end(self, process: Process) -> bool:
        """End the process, by force where it does not heed SIGTERM; returns whether that was needed."""
        process.signal(signal.SIGTERM)
        process.signal(signal.SIGCONT)  # one that is halted could not hear it
        if await _within(process.exited, self._stop_seconds):
            return False
        self._log.warning("program_ignores_sigterm", pid=process.pid, waited_seconds=self._stop_seconds)
        process.signal(signal.SIGKILL)
        if not await _within(process.exited, _KILLED):
            self._log.error("program_does_not_end", pid=process.pid)
        return True

    async def _drain(
        self, process: Process, output: "asyncio.Task[None]", complaints: "asyncio.Task[None]", log: Any
    ) -> None:
        """The program has ended: take what is still in its pipes, and end what it left behind."""
        pending: set[asyncio.Task[None]]
        _, pending = await asyncio.wait({output, complaints}, timeout=_DRAIN_SECONDS)
        process.signal(signal.SIGKILL)
        while pending:
            before = self._chunks
            _, pending = await asyncio.wait(pending, timeout=_DRAIN_SECONDS)
            idle = output.done() or (self._waiting_for_output and self._chunks == before)
            if pending and (idle or self._stop.is_set()):
                if idle:
                    # It made a session of its own, so no signal of ours finds it; when it writes, it will be told so.
                    log.warning("program_left_a_process_behind")
                return

    # -- lines ---------------------------------------------------------------------------------------------------------

    async def _read(self, process: Process) -> None:
        splitter = self._interpreter.splitter()
        throttle = Throttle(rate=self._rate, now=time.monotonic())
        while True:
            self._waiting_for_output = True
            data = await process.stdout.read()
            self._waiting_for_output = False
            self._chunks += 1
            if data:
                self._warnings.printed()
            lines = splitter.feed(data) if data else [last] if (last := splitter.end()) is not None else []
            self._warnings.waiting(splitter.waiting, now=time.monotonic())
            for number, line in enumerate(lines, start=1):
                await self._take(line)
                await self._pace(throttle, 1)
                if number % _YIELD_AFTER == 0:
                    await asyncio.sleep(0)
            if not data:
                return
            # A line that has no end costs as much as one that has.
            await self._pace(throttle, 0 if lines else len(data) / CHUNK)
            await asyncio.sleep(0)

    async def _pace(self, throttle: Throttle, number: float) -> None:
        now = time.monotonic()
        wait = throttle.take(number, now=now)
        if not wait:
            return
        if self._warnings.held_up(now=now):
            self._log.warning("program_is_too_quick", lines_per_second=self._rate)
        self._metrics.held_up.inc(wait)
        await asyncio.sleep(wait)

    async def _take(self, line: Line) -> None:
        text = line.text.rstrip(b"\r\n")
        if not text.strip():
            return
        if not self._listening:
            self._metrics.lines.labels("late").inc()
            return
        if line.cut:
            self._bad("too_long", f"it has {line.length} bytes, and {MAX_LINE} are allowed", text)
            return
        try:
            parsed = await self._interpreter.read(text)
            if parsed is not None:
                await self._observer.take(parsed)
        except LateLineError:
            self._metrics.lines.labels("late").inc()
        except RefusedEventError:
            self._metrics.lines.labels("malformed").inc()  # counted for its rule already
        except LineError as error:
            self._bad("malformed", str(error), text)
        except Exception:
            # No one else reads this pipe: the program would wait for ever.
            self._log.exception("line_failed")
            self._bad("malformed", "the sensor failed to take it; its log says why", text)
        else:
            self._warnings.read(wanted=parsed is not None)
            result = "skipped" if parsed is None else "ack" if isinstance(parsed, AckLine) else "event"
            self._metrics.lines.labels(result).inc()

    def _bad(self, result: str, why: str, text: bytes) -> None:
        self._metrics.lines.labels(result).inc()
        now = time.monotonic()
        if now - self._bad_logged >= _BAD_LOGGED_EVERY:
            self._bad_logged = now
            self._log.warning("line_not_taken", reason=why, line=text[:200].decode("utf-8", "replace"))
        self._observer.refused(f"{why}: {text[:_SHOWN].decode('utf-8', 'replace')!r}")


async def _within(event: asyncio.Event, seconds: float) -> bool:
    """Whether the event is set within so many seconds."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return event.is_set()
    return True


def _how(status: int | None, *, stopped: bool, killed: bool) -> str:
    if killed:
        return "killed"
    if stopped:
        return "stopped"
    if status == 0:
        return "success"
    return "signal" if status is not None and status < 0 else "failure"


def _sentence(end_: _End, *, program: str, again_in: float) -> str:
    """What became of the program, for the condition of its rules."""
    again = f"it is started again in {max(1, round(again_in))} s"
    if end_.status is None:
        return f"The program {program} cannot be started: {end_.words}; {again}."
    if end_.status < 0:
        try:
            name = signal.Signals(-end_.status).name
        except ValueError:
            name = f"signal {-end_.status}"
        how = f"was ended by {name}" + (", perhaps for want of memory," if name == "SIGKILL" else "")
    else:
        how = f"ended with status {end_.status}"
    said = f" It said last: {end_.words}" if end_.words else ""
    return f"The program {program} {how} after {end_.ran:.1f} s; {again}.{said}"
