"""Payloads against the schema that their trigger type has: strict where that is cheap, and never the reason for an outage.

Schemas are other people's. A plain one, as nearly all are, is a function that says yes in microseconds. For the others, and for
the words about a payload that does not fit, there is the full validation, bounded in what one payload may cost, in one thread of
its own, for so many seconds per request. Whatever cannot be checked within that (a schema that cannot be used, or costs too much)
is taken unchecked and counted: the sensor's author made the mistake, and whoever waits for the event should not pay for it.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec
import structlog

from attune_api.identity.revocation import IdentityStates
from attune_api.metrics import Metrics

if TYPE_CHECKING:
    from attune_contract.schemas.bounded import BoundedSchema

log = structlog.get_logger(__name__)

#: Keywords that the full validation of one payload may evaluate; about 20 µs each.
_BUDGET: Final = 2000
#: Seconds that the full validation of one request's payloads may take.
_SECONDS: Final = 2.0
#: Seconds that a request waits for it, when others are before it.
_PATIENCE: Final = 5.0
#: Seconds that a request waits for the validator to be loaded, which is done once; a busy machine is slow at it.
_LOADING: Final = 20.0
_REMEMBERED: Final = 512
_MOST_ERRORS: Final = 3


def _load() -> None:
    """Load the full validation: some MiB, and up to seconds, for those who have schemas."""
    import attune_contract.schemas.bounded  # noqa: F401 - so that it is there


class _Schema:
    """One schema, compiled as far as it was needed."""

    def __init__(self, text: str) -> None:
        # Here and not above: a few MiB, for those who have schemas.
        from attune_contract.schemas.quick import compile_plain

        self._text = text
        self.plain: Callable[[Any], bool] | None = None
        with suppress(msgspec.DecodeError):  # then it is found unusable, in the thread
            self.plain = compile_plain(msgspec.json.decode(text))
        self._full: BoundedSchema | None = None

    def full(self) -> "BoundedSchema":
        """The full validation; making it takes up to a second, so it is called in the thread.

        Raises:
            UnusableSchema: there is none.
        """
        from attune_contract.schemas.bounded import BoundedSchema

        if self._full is None:
            self._full = BoundedSchema(self._text.encode())
        return self._full


@dataclass(frozen=True, slots=True)
class Suspect:
    """A payload that does not fit at first sight."""

    schema: _Schema
    payload: msgspec.Raw
    trigger_type: str


class PayloadChecks:
    """Checks payloads. One for the program; close it at the end.

    Args:
        states: what the operator says of sensors; their payload schemas are in it.
        metrics: where payloads that were not checked are counted.
    """

    def __init__(self, *, states: IdentityStates, metrics: Metrics) -> None:
        self._states = states
        self._metrics = metrics
        self._schemas: OrderedDict[str, _Schema] = OrderedDict()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="payloads")
        self._loaded: Future[None] | None = None

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def suspect(self, *, sensor_ref: str, trigger_type: str, payload: dict[str, Any]) -> _Schema | None:
        """The schema that a payload has yet to be checked by; None when it is known to fit, or there is none.

        Args:
            sensor_ref: who reports it, namespace/name.
            trigger_type: canonical.
            payload: as it was decoded.
        """
        state = self._states.get(sensor_ref)
        text = None if state is None else state.payload_schemas.get(trigger_type)
        if text is None:
            return None
        schema = self._schemas.get(text)
        if schema is None:
            if self._loaded is None:  # somebody has schemas: be ready before a payload has to be looked at closely
                self._loaded = self._thread.submit(_load)
            schema = self._schemas[text] = _Schema(text)
            if len(self._schemas) > _REMEMBERED:
                self._schemas.popitem(last=False)
        return None if schema.plain is not None and schema.plain(payload) else schema

    async def faults(self, suspects: Sequence[Suspect]) -> Sequence[str | None]:
        """What is wrong with each, as a sentence; None where nothing is, or it cannot be told."""
        if self._loaded is not None and not self._loaded.done():
            await asyncio.wait([asyncio.wrap_future(self._loaded)], timeout=_LOADING)
        found: list[str | None] = []
        work = asyncio.get_running_loop().run_in_executor(self._thread, self._validate, suspects, found)
        # What was found so far counts even if time is up; the thread ends by itself soon after.
        await asyncio.wait([work], timeout=_PATIENCE)
        if not work.done():
            work.cancel()
            self._unchecked("busy", len(suspects) - len(found))
        else:
            work.result()
        answers = list(found)
        return answers + [None] * (len(suspects) - len(answers))

    def _validate(self, suspects: Sequence[Suspect], found: list[str | None]) -> None:
        until = time.monotonic() + _SECONDS
        for suspect in suspects:
            if time.monotonic() > until:
                self._unchecked("busy", len(suspects) - len(found))
                return
            found.append(self._fault(suspect))

    def _fault(self, suspect: Suspect) -> str | None:
        from attune_contract.schemas.bounded import TooCostly, UnusableSchema, describe

        try:
            errors = suspect.schema.full().errors(bytes(suspect.payload), limit=_MOST_ERRORS, budget=_BUDGET)
        except TooCostly:
            self._unchecked("costly", 1)
            return None
        except UnusableSchema as error:
            self._unchecked("unusable", 1)
            log.warning("payload_schema_unusable", trigger_type=suspect.trigger_type, reason=str(error)[:300])
            return None
        if not errors:
            return None
        return "; ".join(describe(error, root="payload") for error in errors)

    def _unchecked(self, reason: str, number: int) -> None:
        self._metrics.payloads_unchecked.labels(reason).inc(number)
