"""Serves rules about other rules' events: one reader for those of a namespace, and a state for each."""

import asyncio
import contextlib
from typing import Final

from attune_kit.cel.evaluator import Evaluator
from attune_kit.supervisor import end
from attune_patterns.parameters import listening_of
from attune_patterns.reader import Reader
from attune_patterns.serving import Serving
from attune_sensor import MOST_RULES, ApiUnavailableError, InvalidRuleError, Rule, SensorContext

#: Seconds that a rule waits for its state, before it is Failing because the API did not answer yet.
_LOADS: Final = 10.0
#: Characters of the names that one question may have: they are in its address, and proxies allow about 8 KB there.
_LONGEST: Final = 6000
#: Seconds in which states are kept when the sensor ends.
_LAST: Final = 3.0


class PatternHandler:
    """A :class:`attune_sensor.RuleHandler`.

    Args:
        context: how events are read and reported.
        evaluator: evaluates conditions and keys.
    """

    #: A rule that is switched off is forgotten, and begins again when it is switched on.
    serves_disabled_rules: Final = True

    def __init__(self, context: SensorContext, *, evaluator: Evaluator | None = None) -> None:
        self._context = context
        self._evaluator = evaluator or Evaluator(log=context.log)
        self._readers: list[tuple[str, Reader, asyncio.Task[None]]] = []
        self._reading: dict[str, Reader] = {}
        context.add_health_check("events", self._problem)
        context.add_live_check("readers", self._died)

    async def start(self, rule: Rule) -> None:
        """Begin, or go on where the state ends. When this returns no later event is missed, or the rule is reported as failing.

        Raises:
            InvalidRuleError: its parameters cannot be used.
            ApiUnavailableError: the state of a disabled rule could not be forgotten.
        """
        if not rule.state.enabled:
            await self._leave(rule)
            await self._context.source_events.forget(rule)
            return
        listening = listening_of(rule)
        for number, problem in enumerate(await self._evaluator.check(listening.program)):
            if problem is not None:
                raise InvalidRuleError(
                    f"{listening.where(number)} is not a CEL expression that can be used here: {problem}"
                )
        serving = Serving(rule, listening, context=self._context, evaluator=self._evaluator)
        await self._join(serving)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LOADS):
                await serving.loaded.wait()
        if not serving.loaded.is_set():
            reader = self._reading.get(rule.uid)
            reason = serving.problem or (reader.problem if reader is not None else None)
            self._context.failing(rule, reason or "the API has not answered yet")

    async def update(self, old: Rule, new: Rule) -> None:
        """Go over to the new parameters. With the same ones, what is remembered stays.

        Raises:
            InvalidRuleError: the new parameters cannot be used.
            ApiUnavailableError: the state of a disabled rule could not be forgotten.
        """
        await self.start(new)

    async def stop(self, rule: Rule) -> None:
        """Serve a rule no longer. Its state stays at the API until nobody has kept it for long."""
        await self._leave(rule)

    async def close(self) -> None:
        """Stop reading, and keep the states."""
        readers, self._readers = self._readers, []
        await end(*(task for _, _, task in readers))
        with contextlib.suppress(TimeoutError, ApiUnavailableError):
            async with asyncio.timeout(_LAST):
                for _, reader, _ in readers:
                    await reader.keep()
        await self._evaluator.close()

    async def _join(self, serving: Serving) -> None:
        await self._leave(serving.rule)
        namespace = serving.rule.state.namespace
        for of, reader, _ in self._readers:
            if of == namespace and _fits(reader.names | set(serving.listening.names)):
                break
        else:
            reader = Reader(namespace, context=self._context)
            task = asyncio.create_task(reader.run(), name=f"events of {namespace}")
            self._readers.append((namespace, reader, task))
        reader.servings[serving.rule.uid] = serving
        self._reading[serving.rule.uid] = reader
        reader.wake()

    async def _leave(self, rule: Rule) -> None:
        reader = self._reading.pop(rule.uid, None)
        if reader is None:
            return
        await reader.servings.pop(rule.uid).end()
        if not reader.servings:
            task = next(task for _, each, task in self._readers if each is reader)
            self._readers = [each for each in self._readers if each[1] is not reader]
            await end(task)

    def _problem(self) -> str | None:
        return next((reader.problem for _, reader, _ in self._readers if reader.problem is not None), None)

    def _died(self) -> str | None:
        died = (namespace for namespace, _, task in self._readers if task.done())
        return next((f"the reader of {namespace} has ended" for namespace in died), None)


def _fits(names: set[str]) -> bool:
    """Whether one question can name these rules."""
    return len(names) <= MOST_RULES and sum(map(len, names)) + len("&name=") * len(names) <= _LONGEST
