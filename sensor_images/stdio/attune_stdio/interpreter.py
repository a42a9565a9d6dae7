"""From printed records to events, with the Sensor's expressions evaluated off the event loop."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from attune_sensor import InvalidRuleError, SensorContext
from attune_stdio.messages import AckLine, EventLine, LineError
from attune_stdio.output import NOT_WANTED, VARIABLES, Format, OutputOptions, OutputReader, parse_event
from attune_stdio.splitters import Splitter

if TYPE_CHECKING:  # what is copied into images of others has no CEL
    from attune_kit.cel.evaluator import Evaluator, Program


class Expressions:
    """The expressions of ``spec.stdio``, compiled once for all programs.

    Args:
        options: how output is read.
        context: the sensor.
        adopt, forget: called with the numbers of processes that evaluate, since the supervisor reaps orphans.
    """

    def __init__(
        self,
        options: OutputOptions,
        *,
        context: SensorContext,
        adopt: Callable[[int], None],
        forget: Callable[[int], None],
    ) -> None:
        self._given = options.expressions
        self._context = context
        self._adopt = adopt
        self._forget = forget
        self._evaluator: Evaluator | None = None
        self._program: Program | None = None

    def __bool__(self) -> bool:
        return bool(self._given)

    async def check(self) -> None:
        """Compile them.

        Raises:
            InvalidRuleError: one cannot be used, so no rule of this Sensor can be served.
        """
        if not self._given or self._program is not None:
            return
        try:
            from attune_kit.cel.evaluator import Evaluator, Program
        except ImportError:
            raise InvalidRuleError(
                f"spec.stdio.{next(iter(self._given))} of the Sensor needs CEL, which a copied supervisor does not have; build "
                "the image on attune/sensor-stdio and set spec.stdio.supervisor: Image"
            ) from None
        if self._evaluator is None:
            self._evaluator = Evaluator(log=self._context.log, adopt=self._adopt, forget=self._forget)
        program = Program(VARIABLES, tuple(self._given.values()))
        for name, problem in zip(self._given, await self._evaluator.check(program), strict=True):
            if problem is not None:
                raise InvalidRuleError(
                    f"spec.stdio.{name} of the Sensor is not a CEL expression that can be used here: {problem}"
                )
        self._program = program

    async def evaluate(self, owner: str, values: Mapping[str, bytes]) -> dict[str, Any]:
        """The results by field. With ``when`` false, or without a result, the others are left out.

        Raises:
            LineError: one has no result.
        """
        if self._evaluator is None or self._program is None:
            return {}
        from attune_kit.cel.library import EvaluationError

        try:
            found = await self._evaluator.evaluate(owner, self._program, values)
        except EvaluationError as error:
            raise LineError(f"its expressions could not be evaluated: {error}") from None
        results: dict[str, Any] = {}
        for name, result in zip(self._given, found, strict=True):
            if isinstance(result, EvaluationError):
                raise LineError(f"{name}: {result}")
            results[name] = result
            if name == "when" and result is False:
                break
        return results

    async def close(self) -> None:
        """End the processes that evaluate."""
        if self._evaluator is not None:
            await self._evaluator.close()


class Interpreter:
    """Reads the output of one program.

    Args:
        options: how.
        expressions: of the Sensor.
        owner: whose program it is, a rule's uid or the Sensor.
        parameters: the rule's; None where the program serves all rules.
    """

    def __init__(
        self, options: OutputOptions, *, expressions: Expressions, owner: str, parameters: Mapping[str, Any] | None
    ) -> None:
        self._reader = OutputReader(options)
        self._format = options.format
        self._expressions = expressions
        self._owner = owner
        self._parameters = msgspec.json.encode(parameters)

    def splitter(self) -> Splitter:
        """What cuts the output into records."""
        return self._reader.splitter()

    async def read(self, record: bytes) -> EventLine | AckLine | None:
        """The event or ack of a record; None when it is not wanted.

        Raises:
            LineError: it cannot be used.
        """
        if self._format is Format.EVENTS:
            return parse_event(record.strip())
        value = self._reader.value(record)
        if value is NOT_WANTED:
            return None
        results: dict[str, Any] = {}
        if self._expressions:
            line = msgspec.json.encode(value)
            results = await self._expressions.evaluate(self._owner, {"line": line, "params": self._parameters})
        return self._reader.event(value, results)
