"""Answers the runner of actions: 200 means that the event is stored for each rule that takes it."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec
from prometheus_client import CollectorRegistry, Counter

from attune_contract import emitted
from attune_sensor import Confirmation, Disposition, EventReport, Rule, StoppingError
from attune_webhook.config import Config
from attune_webhook.emitted.takers import Takers, report_of
from attune_webhook.http.answers import Answer, RefusalError, json_answer
from attune_webhook.http.request import Request

#: Rules of a namespace that may take one event.
MOST_TAKERS: Final = 1000
#: Seconds for which the token before still counts: kubelet brings a new one to the runner up to two minutes later.
OVERLAP: Final = 600.0


class Sink(Protocol):
    """Where events go (:class:`attune_sensor.SensorContext`)."""

    async def emit_confirmed(self, event: EventReport) -> Confirmation:
        """Report an event and wait until it is safe."""
        ...

    @property
    def rules_started(self) -> bool:
        """Whether all rules are served."""
        ...


@dataclass(frozen=True, slots=True)
class Admission:
    """A request whose body is wanted."""

    limit: int = emitted.MOST_REQUEST_BYTES


class Tokens:
    """The Sensor's token, and for a while the one before it.

    Args:
        file: the token's; read for each request, since kubelet replaces it.
        now: Unix time in seconds.
    """

    def __init__(self, file: Path, *, now: Callable[[], float] = time.time) -> None:
        self._file = file
        self._now = now
        self._known: deque[str] = deque(maxlen=2)

    async def read(self) -> list[str]:
        """Those that count now, the newest last.

        Raises:
            OSError: there is none.
        """
        token, written = await asyncio.to_thread(self._stored)
        if token and token not in self._known:
            self._known.append(token)
        return list(self._known) if self._now() - written < OVERLAP else [token]

    def _stored(self) -> tuple[str, float]:
        return self._file.read_text().strip(), self._file.stat().st_mtime


class EmittedServer:
    """Answers requests.

    Args:
        takers: the rules.
        sink: where events go.
        tokens: what requests are signed with.
        config: bounds and times.
        registry: where requests are counted.
        log: a structlog logger.
        now: Unix time in seconds.
    """

    def __init__(
        self,
        *,
        takers: Takers,
        sink: Sink,
        tokens: Tokens,
        config: Config,
        registry: CollectorRegistry,
        log: Any,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._takers = takers
        self._sink = sink
        self._tokens = tokens
        self._config = config
        self._log = log
        self._now = now
        self._pending = 0
        self._buffered = 0
        self._started = False
        #: Whether the sensor is about to end: connections are closed as their requests are answered.
        self.draining = False
        self._requests = Counter(
            "attune_emitted_requests",
            "Requests of the runner of actions by result: stored, spooled, or why they were refused",
            ["result"],
            registry=registry,
        )

    # What the protocol calls.

    def admit(self, request: Request) -> Answer | Admission:
        """Judge a request by its head."""
        if request.path != emitted.PATH:
            return self.refuse(RefusalError(HTTPStatus.NOT_FOUND, "path", "There is nothing here.", close=True), None)
        if request.method != "POST":
            headers = {"Allow": "POST"}
            refusal = RefusalError(HTTPStatus.METHOD_NOT_ALLOWED, "method", "This path takes POST.", headers=headers)
            return self.refuse(refusal, None)
        # Rules that come later are not Active before they are served; those of an earlier process are Active already.
        self._started = self._started or self._sink.rules_started
        if not self._started:
            text = "The sensor has not started all of its rules yet; try again."
            return self.refuse(RefusalError.unavailable("starting", text, retry_after="1", close=True), None)
        if self._pending >= self._config.max_pending:
            text = "Too many requests are being answered; try again."
            return self.refuse(RefusalError.unavailable("busy", text, retry_after="1", close=True), None)
        return Admission()

    async def respond(self, request: Request, _admission: Any) -> Answer:
        """Answer a request with its body."""
        self._pending += 1
        try:
            return await self._accept(request)
        except RefusalError as refusal:
            return self.refuse(refusal, None)
        except Exception as error:
            # Its text may hold anything of the payload.
            self._log.error("emitted_failed", error=type(error).__name__)
            return self.refuse(RefusalError.unavailable("failed", "The sensor failed; try again."), None)
        finally:
            self._pending -= 1

    def refuse(self, refusal: RefusalError, _admission: Any) -> Answer:
        """The answer to a request that is not accepted."""
        self._requests.labels(refusal.kind).inc()
        return refusal.answer()

    def buffer(self, size: int) -> bool:
        """Account for bytes of bodies in memory; False when there are too many."""
        if size > 0 and self._buffered + size > self._config.max_buffered_bytes:
            return False
        self._buffered += size
        return True

    # With the body.

    async def _accept(self, request: Request) -> Answer:
        await self._authenticate(request)
        try:
            emission = emitted.decode_emission(request.body)
        except ValueError as error:
            raise RefusalError(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid", f"{error}.") from None
        rules = self._takers.of(emission)
        if len(rules) > MOST_TAKERS:
            text = f"{len(rules)} Rules take {emission.origin.name}; at most {MOST_TAKERS} of a namespace can."
            raise RefusalError(HTTPStatus.UNPROCESSABLE_ENTITY, "too_many", text)
        now = datetime.fromtimestamp(self._now(), UTC)
        events = [report_of(rule, emission, now=now, trace=request.trace) for rule in rules]
        return self._answer(rules, events, await self._report(events))

    async def _authenticate(self, request: Request) -> None:
        try:
            tokens = await self._tokens.read()
        except (OSError, UnicodeDecodeError):
            raise RefusalError.unavailable("no_token", "The sensor has no token now; try again.") from None
        time_, given = (
            request.headers.get(name.lower(), "") for name in (emitted.TIME_HEADER, emitted.SIGNATURE_HEADER)
        )
        if not emitted.is_signed(tokens=tokens, time=time_, given=given, body=request.body, now=self._now()):
            text = "The request is not signed with this sensor's token, or its time is not that of this sensor."
            raise RefusalError(HTTPStatus.UNAUTHORIZED, "unsigned", text, close=True)

    async def _report(self, events: list[EventReport]) -> list[Confirmation]:
        """What became of each event.

        Raises:
            RefusalError: it is not known; the runner repeats the request, and those that are stored are then duplicates.
        """
        try:
            async with asyncio.timeout(self._config.confirm_seconds):
                return await asyncio.gather(*map(self._sink.emit_confirmed, events))
        except TimeoutError:
            text = "The event could not be made safe in time; try again."
            raise RefusalError.unavailable("unconfirmed", text) from None
        except StoppingError:
            raise RefusalError.unavailable("stopping", "The sensor is stopping; try again.", close=True) from None
        except ValueError as error:
            raise RefusalError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large", "The event would be too large.", reason=str(error)
            ) from None

    def _answer(self, rules: list[Rule], events: list[EventReport], found: list[Confirmation]) -> Answer:
        taken = tuple(
            emitted.Taken(
                rule=rule.ref, id=event.id, status=str(confirmation.disposition), reason=confirmation.reason or ""
            )
            for rule, event, confirmation in zip(rules, events, found, strict=True)
        )
        status, result = _outcome([confirmation.disposition for confirmation in found])
        self._requests.labels(result).inc()
        return json_answer(status, msgspec.to_builtins(emitted.Answer(events=taken)))


def _outcome(dispositions: list[Disposition]) -> tuple[HTTPStatus, str]:
    """The status of an answer, and its word in the metrics: the worst of all counts."""
    if Disposition.REFUSED in dispositions:
        return HTTPStatus.UNPROCESSABLE_ENTITY, "refused"
    if not {Disposition.DROPPED, Disposition.DEFERRED}.isdisjoint(dispositions):
        return HTTPStatus.SERVICE_UNAVAILABLE, "full"
    if Disposition.SPOOLED in dispositions:
        return HTTPStatus.ACCEPTED, "spooled"
    return HTTPStatus.OK, "stored"
