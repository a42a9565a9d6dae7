"""Payloads against the schema of their trigger type: strict where that is cheap, and never the reason for an outage.

Schemas are other people's. A check takes microseconds, and at most some 30 ms whatever schema and payload
(:mod:`attune_contract.schemas.json_schema`). So it is made in the event loop, which others get back after 20 ms. What cannot be
checked within the bounds (a schema that cannot be used, a check that costs too much, a request that used up its time) is
taken unchecked and counted: the Sensor's author made the mistake, and readers of the event should not pay for it.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec
import structlog

from attune_api.identity.revocation import IdentityStates
from attune_api.metrics import Metrics

if TYPE_CHECKING:
    from attune_contract.schemas.compiled import CompiledSchemas
    from attune_contract.schemas.json_schema import JsonSchema

log = structlog.get_logger(__name__)

#: Seconds that the event loop is kept at once, and that the payloads of one request may take together.
_SLICE: Final = 0.02
_SECONDS: Final = 2.0
_MOST_VIOLATIONS: Final = 3


@dataclass(frozen=True, slots=True)
class Payload:
    """A payload that has a schema to fit.

    As JSON, and decoded only while it is checked: decoded, the megabyte of a batch can be thirty.
    """

    schema: str
    trigger_type: str
    text: msgspec.Raw


class PayloadChecks:
    """Checks payloads. One for the program.

    Args:
        states: what the operator publishes about sensors; their payload schemas are in it.
        metrics: where payloads that were not checked are counted.
        clock: seconds, as ``time.perf_counter``.
    """

    def __init__(
        self, *, states: IdentityStates, metrics: Metrics, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._states = states
        self._metrics = metrics
        self._clock = clock
        self._schemas: CompiledSchemas | None = None

    def schema_of(self, *, sensor_ref: str, trigger_type: str) -> str | None:
        """The schema, as JSON, that payloads of a trigger type have to fit; None when there is none.

        Args:
            sensor_ref: the sensor that reports, namespace/name.
            trigger_type: canonical.
        """
        state = self._states.get(sensor_ref)
        return None if state is None else state.payload_schemas.get(trigger_type)

    async def check(self, payloads: Sequence[Payload]) -> list[str | None]:
        """What is wrong with each payload of one request, as a sentence; None where nothing is wrong, or it cannot be checked."""
        found: list[str | None] = []
        began = taken = self._clock()
        for payload in payloads:
            if self._schemas is None or payload.schema not in self._schemas:
                # In a step of its own: of a large schema it takes as long as a check.
                self._schema(payload)
                if self._clock() - taken > _SLICE:
                    await asyncio.sleep(0)
                    taken = self._clock()
            found.append(self._problem(payload))
            now = self._clock()
            if now - began > _SECONDS:
                self._count_unchecked("busy", len(payloads) - len(found))
                return found + [None] * (len(payloads) - len(found))
            if now - taken > _SLICE:
                await asyncio.sleep(0)
                taken = self._clock()
        return found

    def _problem(self, payload: Payload) -> str | None:
        schema = self._schema(payload)
        if schema is None:
            self._count_unchecked("unusable", 1)
            return None
        # Imported with the first schema: some MiB, for those who have schemas.
        from attune_contract.schemas.json_schema import CheckTooCostlyError
        from attune_contract.schemas.violations import describe

        try:
            violations = schema.violations(bytes(payload.text), limit=_MOST_VIOLATIONS)
        except CheckTooCostlyError:
            self._count_unchecked("costly", 1)
            return None
        return "; ".join(describe(each, root="payload") for each in violations) or None

    def _schema(self, payload: Payload) -> "JsonSchema | None":
        """The schema, compiled once; None when it cannot be used."""
        from attune_contract.schemas.structure import UnusableSchemaError

        if self._schemas is None:
            from attune_contract.schemas.compiled import CompiledSchemas

            self._schemas = CompiledSchemas()
        known = payload.schema in self._schemas
        schema = self._schemas.get(payload.schema)
        if not isinstance(schema, UnusableSchemaError):
            return schema
        if not known:
            log.warning("payload_schema_unusable", trigger_type=payload.trigger_type, reason=str(schema)[:300])
        return None

    def _count_unchecked(self, reason: str, number: int) -> None:
        self._metrics.payloads_unchecked.labels(reason).inc(number)
