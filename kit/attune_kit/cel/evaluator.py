"""Evaluates other people's expressions outside the event loop, with a deadline and a memory limit for each evaluation.

There are two lanes, each with a process and a standby process. Expressions are evaluated in the fast lane. When one misses its
deadline there, its process is killed, and its owner goes to the slow lane for a minute. There it has more time, and delays only
other slow ones.
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from attune_kit.cel.library import EvaluationError, ExpressionError
from attune_kit.cel.process import EvaluatingProcess, ProcessEndedError
from attune_kit.cel.worker import NO_MEMORY, Answer, Request

#: Seconds of the processor's time for an evaluation in each lane.
FAST_DEADLINE: Final = 0.05
SLOW_DEADLINE: Final = 0.5
#: Bytes that an evaluation may take.
MEMORY: Final = 128 * 1024 * 1024
#: An owner stays in the slow lane for so long (seconds) after its last slow evaluation.
_SLOW_FOR: Final = 60.0
#: So many evaluations of one owner wait in the slow lane; more have no result.
_MOST_WAITING: Final = 16
#: Seconds between attempts to start a process.
_RETRY: Final = 1.0
#: After so many times its deadline by the clock on the wall an evaluation is stopped, however little it could work.
_STARVED: Final = 20.0
#: How soon (seconds) a process that could not work is looked at again.
_SOON: Final = 0.005
#: A compilation has so much time (seconds).
_COMPILE: Final = 5.0


@dataclass(frozen=True, slots=True)
class Program:
    """Expressions that are evaluated together.

    Args:
        variables: what they may read.
        expressions: each with whether its result must be true or false.
    """

    variables: tuple[str, ...]
    expressions: tuple[tuple[str, bool], ...]


class Evaluator:
    """Compiles and evaluates.

    Args:
        log: a structlog logger.
        fast: seconds of the processor's time for an evaluation in the fast lane.
        slow: the same in the slow lane.
        memory: bytes for one.
        adopt, forget: called with the number of each process when it has started and when it has ended, for a program that
            reaps children of its own.
    """

    def __init__(
        self,
        *,
        log: Any,
        fast: float = FAST_DEADLINE,
        slow: float = SLOW_DEADLINE,
        memory: int = MEMORY,
        adopt: Callable[[int], None] = lambda pid: None,
        forget: Callable[[int], None] = lambda pid: None,
    ) -> None:
        self._log = log
        self._fast = _Lane("fast", deadline=fast, niceness=0, memory=memory, log=log, adopt=adopt, forget=forget)
        self._slow = _Lane("slow", deadline=slow, niceness=10, memory=memory, log=log, adopt=adopt, forget=forget)
        self._slow_until: dict[str, float] = {}
        self._waiting: Counter[str] = Counter()

    async def check(self, program: Program) -> list[ExpressionError | None]:
        """What is wrong with each expression of a program, in order; None for those that can be used."""
        problems: list[ExpressionError | None] = []
        for expression in program.expressions:
            request = Request(program.variables, [expression], None)
            try:
                (answer,) = await self._slow.ask(request, deadline=_COMPILE)
            except (_TooSlowError, EvaluationError) as error:
                problems.append(ExpressionError(str(error)))
            else:
                wrong = answer.result is None
                problems.append(ExpressionError(answer.problem, column=answer.column) if wrong else None)
        return problems

    async def evaluate(self, owner: str, program: Program, values: Mapping[str, bytes]) -> "list[Any]":
        """The results in order: values as JSON has them, and for those that have none an :class:`EvaluationError`.

        Args:
            owner: whose program it is, such as a rule's uid: if it is slow, only its owner's next ones wait.
            program: what to evaluate.
            values: the variables as JSON.

        Raises:
            EvaluationError: none of them has a result: it took too long, or too much memory.
        """
        request = Request(program.variables, list(program.expressions), dict(values))
        now = time.monotonic()
        if self._slow_until.get(owner, 0.0) <= now:
            self._slow_until.pop(owner, None)
            try:
                return _results(await self._fast.ask(request))
            except _TooSlowError:
                self._mark_slow(owner)
        if self._waiting[owner] >= _MOST_WAITING:
            raise EvaluationError(f"it is too slow: {_MOST_WAITING} evaluations of it are waiting already")
        self._waiting[owner] += 1
        try:
            answers = await self._slow.ask(request)
        except _TooSlowError as error:
            self._mark_slow(owner)
            raise EvaluationError(str(error)) from None
        finally:
            self._waiting[owner] -= 1
            if not self._waiting[owner]:
                del self._waiting[owner]
        if sum(answer.seconds for answer in answers) > self._fast.deadline:
            self._mark_slow(owner)
        return _results(answers)

    def is_slow(self, owner: str) -> bool:
        """Whether the owner's expressions are evaluated in the slow lane now."""
        return self._slow_until.get(owner, 0.0) > time.monotonic()

    async def close(self) -> None:
        """End all processes."""
        await self._fast.close()
        await self._slow.close()

    def _mark_slow(self, owner: str) -> None:
        now = time.monotonic()
        if len(self._slow_until) > 10_000:
            self._slow_until = {each: until for each, until in self._slow_until.items() if until > now}
        if self._slow_until.get(owner, 0.0) <= now:
            self._log.warning("expression_is_slow", owner=owner, deadline=self._fast.deadline)
        self._slow_until[owner] = now + _SLOW_FOR


class _TooSlowError(Exception):
    """The deadline of a lane has passed."""


class _Lane:
    """One process at work, and one that stands by for when it had to be ended."""

    def __init__(
        self,
        name: str,
        *,
        deadline: float,
        niceness: int,
        memory: int,
        log: Any,
        adopt: Callable[[int], None],
        forget: Callable[[int], None],
    ) -> None:
        self.deadline = deadline
        self._name = name
        self._memory = memory
        self._niceness = niceness
        self._log = log
        self._adopt = adopt
        self._forget = forget
        self._turn = asyncio.Lock()
        self._process: EvaluatingProcess | None = None
        self._next: asyncio.Task[EvaluatingProcess] | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._closed = False

    async def ask(self, request: Request, *, deadline: float | None = None) -> list[Answer]:
        """Answers from the lane's process, when it is this request's turn.

        Raises:
            _TooSlowError: the deadline passed.
            EvaluationError: the process ended, for want of memory.
        """
        seconds = self.deadline if deadline is None else deadline
        async with self._turn:
            process = await self._ready()
            task = asyncio.create_task(process.ask(request), name="evaluation")
            try:
                if not await _within(task, process, seconds):
                    raise _TooSlowError(f"it takes longer than {seconds * 1000:.0f} ms")
                return task.result()
            except ProcessEndedError:
                raise EvaluationError(NO_MEMORY) from None
            finally:
                if not task.done():
                    task.cancel()
                    await asyncio.wait({task})
                if process.broken:
                    self._replace()

    async def close(self) -> None:
        """End the processes."""
        self._closed = True
        if self._next is not None:
            self._next.cancel()
            with contextlib.suppress(asyncio.CancelledError, ProcessEndedError):
                await (await self._next).close()
        if self._process is not None:
            await self._process.close()
        if self._ending:
            await asyncio.wait(self._ending)

    async def _ready(self) -> EvaluatingProcess:
        while self._process is None:
            if self._closed:
                raise EvaluationError("the sensor is stopping")
            if self._next is None:
                self._next = self._start()
            waiting, self._next = self._next, None
            try:
                self._process = await asyncio.shield(waiting)
            except ProcessEndedError as error:
                self._log.warning("evaluating_process_not_started", lane=self._name, error=str(error))
                await asyncio.sleep(_RETRY)
            except asyncio.CancelledError:
                self._next = waiting
                raise
        if self._next is None and not self._closed:
            self._next = self._start()
        return self._process

    def _start(self) -> "asyncio.Task[EvaluatingProcess]":
        return asyncio.create_task(
            EvaluatingProcess.start(
                memory=self._memory, niceness=self._niceness, adopt=self._adopt, forget=self._forget
            ),
            name=f"start the {self._name} lane",
        )

    def _replace(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            task = asyncio.create_task(process.close(), name=f"end the {self._name} lane")
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)


async def _within(task: "asyncio.Task[Any]", process: EvaluatingProcess, seconds: float) -> bool:
    """Whether an evaluation ends within so much of the processor's time. On a busy machine the wall clock continues while
    the process waits for the processor, which is not the expression's fault.
    """
    began, used_before = time.monotonic(), process.processor_seconds()
    left = seconds
    while True:
        done, _ = await asyncio.wait({task}, timeout=left)
        if done:
            return True
        used = process.processor_seconds() - used_before
        if used >= seconds or time.monotonic() - began > seconds * _STARVED:
            return False
        left = max(_SOON, seconds - used)


def _results(answers: Sequence[Answer]) -> list[Any]:
    return [
        EvaluationError(answer.problem) if answer.result is None else msgspec.json.decode(answer.result)
        for answer in answers
    ]
