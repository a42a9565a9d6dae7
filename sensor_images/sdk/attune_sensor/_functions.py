"""The higher level of the SDK: a sensor as functions, one call for each rule.

sensor = Sensor()

@sensor.trigger("acme.queue", parameters=QueueParameters)
async def watch(trigger: Trigger[QueueParameters]) -> None:
async for message in queue(trigger.parameters.name):
await trigger.emit({"body": message.body}, occurrence=message.id)

raise SystemExit(sensor.run())
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Generic, TypeVar

from attune_contract.messages import AckState
from attune_kit.backoff import Backoff
from attune_sensor._context import SensorContext
from attune_sensor._errors import InvalidRuleError
from attune_sensor._last_events import LastEvent
from attune_sensor._parameters import read_parameters
from attune_sensor._reports import event_of
from attune_sensor._rule_supervisor import describe
from attune_sensor._rules import Rule
from attune_sensor._runtime import run_sensor

P = TypeVar("P")

_RETRY: Final = Backoff(initial=1.0, maximum=60.0)
#: A function that runs for so long (seconds) after a failure works again.
_HEALTHY_AFTER: Final = 10.0


class Trigger(Generic[P]):
    """One rule, as the function that serves it sees it.

    Attributes:
        parameters: the rule's parameters, of the type given to :meth:`Sensor.trigger`.
        rule: the rule.
        context: the sensor's configuration, log and metrics.
        log: a structlog logger that names the rule.
    """

    def __init__(self, *, rule: Rule, parameters: P, context: SensorContext, on_emit: Callable[[], None]) -> None:
        self.rule = rule
        self.parameters = parameters
        self.context = context
        self.log = context.log.bind(rule=rule.ref, rule_uid=rule.uid)
        self._on_emit = on_emit

    def now(self) -> datetime:
        """The time, in UTC; a test may set it."""
        return self.context.clock.now()

    async def sleep(self, seconds: float) -> None:
        """Return after so many seconds, by the test's clock in a test."""
        await self.context.clock.sleep(seconds)

    async def last_event(self) -> LastEvent | None:
        """The last stored event of this rule, to continue from there after a restart; None when there is none.

        While the API is away, this waits for it.
        """
        return (await self.context.last_events([self.rule.uid])).get(self.rule.uid)

    async def emit(
        self,
        payload: dict[str, Any],
        *,
        occurrence: str | None = None,
        occurred_at: datetime | None = None,
        traceparent: str = "",
        tracestate: str = "",
    ) -> bool:
        """Report an event of this rule.

        Args:
            payload: what happened; JSON values.
            occurrence: what identifies this occurrence among those of the rule, such as a message's id. The same
                occurrence reported twice, even after a restart, is one event. Without it, ``occurred_at`` identifies
                the occurrence; an event with neither is never a duplicate.
            occurred_at: when it happened, with a zone; now unless given.
            traceparent: the trace that it belongs to, as it came with a request or a message (the header of that name, W3C
                Trace Context). What is not valid is ignored.
            tracestate: the header of that name.

        Returns:
            Whether there was room for it; see :meth:`attune_sensor._emitter.Emitter.emit`.

        Raises:
            ValueError: ``occurred_at`` has no zone, or the event is too large.
            TypeError: the payload has something that JSON does not know.
        """
        event = event_of(
            self.rule,
            payload,
            occurrence=occurrence,
            occurred_at=occurred_at,
            traceparent=traceparent,
            tracestate=tracestate,
            now=self.now,
        )
        taken = await self.context.emit(event)
        self._on_emit()
        return taken


Function = Callable[[Trigger[P]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class _Registered:
    function: Function[Any]
    parameters: type[Any] | None


class Sensor:
    """A sensor of functions, one for each trigger type."""

    def __init__(self) -> None:
        self._functions: dict[str, _Registered] = {}

    def trigger(self, trigger_type: str, *, parameters: type[P] | None = None) -> Callable[[Function[P]], Function[P]]:
        """Have the decorated async function serve each rule of a trigger type.

        It is called when a rule starts, cancelled when the rule stops, and both when the rule changes. When it returns,
        the rule has come to its end (``Completed``). When it raises :class:`InvalidRuleError`, the rule is rejected;
        when it raises something else, the rule is failing, and it is called again after a while.

        Args:
            trigger_type: the canonical name, as in the Sensor's manifest.
            parameters: a pydantic model or a ``msgspec.Struct`` for the rule's parameters. A rule that does not fit is
                rejected with what is wrong. Without it, the function gets the parameters as a dictionary.

        Raises:
            ValueError: the trigger type has a function already.
        """

        def register(function: Function[P]) -> Function[P]:
            if trigger_type in self._functions:
                raise ValueError(f"the trigger type {trigger_type} has a function already")
            self._functions[trigger_type] = _Registered(function, parameters)
            return function

        return register

    def handler(self, context: SensorContext) -> "FunctionHandler":
        """The rule handler that calls the functions, for :class:`attune_sensor.SensorRuntime` and for tests."""
        return FunctionHandler(context=context, functions=dict(self._functions))

    def run(self) -> int:
        """Run until SIGTERM; returns the exit status. The sensor's ``main``."""
        return run_sensor(self.handler)


class FunctionHandler:
    """A :class:`attune_sensor.RuleHandler` that has one task for each rule.

    Args:
        context: how events are reported.
        functions: what serves each trigger type.
        retry: how long to wait before a function that failed is called again.
        chance: random numbers in [0, 1), for jitter.
    """

    def __init__(
        self,
        *,
        context: SensorContext,
        functions: dict[str, _Registered],
        retry: Backoff = _RETRY,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._context = context
        self._functions = functions
        self._retry = retry
        self._chance = chance
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def start(self, rule: Rule) -> None:
        """Call the rule's function.

        Raises:
            InvalidRuleError: no function serves the trigger type, or the parameters do not fit.
        """
        registered = self._functions.get(rule.trigger_type)
        if registered is None:
            raise InvalidRuleError(f"this sensor has no function for the trigger type {rule.trigger_type}")
        parameters = read_parameters(rule.parameters, registered.parameters)
        await self.stop(rule)
        self._tasks[rule.uid] = asyncio.create_task(
            self._serve(rule, registered.function, parameters), name=f"rule {rule.ref}"
        )

    async def update(self, old: Rule, new: Rule) -> None:
        """Cancel the function and call it with the new state.

        Raises:
            InvalidRuleError: as :meth:`start`.
        """
        await self.start(new)

    async def stop(self, rule: Rule) -> None:
        """Cancel the rule's function and wait for its end."""
        task = self._tasks.pop(rule.uid, None)
        if task is not None:
            task.cancel()
            await asyncio.wait({task})

    async def close(self) -> None:
        """Cancel all functions and wait for their end, a few seconds at most."""
        tasks = list(self._tasks.values())
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=5)

    async def _serve(self, rule: Rule, function: Function[Any], parameters: Any) -> None:
        """Call the function until it ends by itself or is cancelled."""
        loop = asyncio.get_running_loop()
        attempt = 0

        def works() -> None:
            nonlocal attempt
            if attempt:
                attempt = 0
                self._context.recovered(rule)

        while True:
            trigger = Trigger(rule=rule, parameters=parameters, context=self._context, on_emit=works)
            healthy = loop.call_later(_HEALTHY_AFTER, works)
            try:
                await function(trigger)
            except InvalidRuleError as error:
                self._context.report(rule, AckState.REJECTED, str(error))
                return
            except Exception as error:
                attempt += 1
                delay = self._retry.delay(attempt=attempt, chance=self._chance())
                trigger.log.exception("rule_failed", retry_in_seconds=round(delay, 1))
                self._context.failing(rule, describe(error, timeout=0))
                healthy.cancel()
                await asyncio.sleep(delay)
            else:
                self._context.completed(rule)
                return
            finally:
                healthy.cancel()
