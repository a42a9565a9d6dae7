"""Judges requests and makes events of them: 2xx means that the event is safe (docs/webhook.md).

The HTTP side is :mod:`attune_webhook.listener` and :mod:`attune_webhook.http`; what is refused, and how, is decided here.
"""

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final, Protocol

from prometheus_client import CollectorRegistry, Counter

from attune_kit.tracing import OFF, Tracer
from attune_sensor import Confirmation, Disposition, EventReport, Rule, StoppingError, Trace
from attune_webhook import handshakes
from attune_webhook.authentication import Authenticator
from attune_webhook.bodies import json_items
from attune_webhook.config import Config
from attune_webhook.http.answers import RETRY_AFTER, Answer, RefusalError, json_answer
from attune_webhook.http.request import Request
from attune_webhook.parameters import Hook
from attune_webhook.payload import event_of
from attune_webhook.refusal_log import RefusalLog
from attune_webhook.routes import Route, Routes
from attune_webhook.sns import SnsMessages
from attune_webhook.spans import request_span, settle

#: Events that one request may hold.
MOST_ITEMS: Final = 1000
_BATCH: Final = "application/cloudevents-batch+json"
#: Refusals that a rule's author cannot help, or that are counted where they happen.
_NOT_THE_RULES: Final = frozenset(
    {"no_secret", "busy", "starting", "stopping", "full", "over_quota", "failed", "refused"}
)


class EventSink(Protocol):
    """Where events go (:class:`attune_sensor.SensorContext`)."""

    async def emit_confirmed(self, event: EventReport) -> Confirmation:
        """Report an event and wait until it is safe."""
        ...

    @property
    def rules_read(self) -> bool:
        """Whether all rules were read."""
        ...


@dataclass(frozen=True, slots=True)
class Admission:
    """What is known of a request by its head: the rules of its path whose sender it may be, and its longest body."""

    routes: tuple[Route, ...]
    limit: int


class WebhookServer:
    """Answers requests.

    Args:
        routes: which rules serve which path; read for each request.
        authenticator: checks who sends.
        sns: confirms subscriptions of Amazon SNS.
        sink: where events go.
        config: bounds and times.
        registry: where requests are counted.
        log: a structlog logger.
        now: Unix time in seconds.
        on_refused: called with a rule, a reason and the kind of refusal for each request that makes no event because something
            is wrong.
        on_left_out: called with a rule and a reason for each request that the rule does not ask for.
        tracer: makes a span of each request to a rule.
    """

    def __init__(
        self,
        *,
        routes: Routes,
        authenticator: Authenticator,
        sns: SnsMessages,
        sink: EventSink,
        config: Config,
        registry: CollectorRegistry,
        log: Any,
        now: Callable[[], float] = time.time,
        on_left_out: Callable[[Rule, str], None] = lambda rule, why: None,
        on_refused: Callable[[Rule, str, str], None] = lambda rule, why, kind: None,
        tracer: Tracer = OFF,
    ) -> None:
        self._tracer = tracer
        self._on_refused = on_refused
        self._on_left_out = on_left_out
        self._routes = routes
        self._authenticator = authenticator
        self._sns = sns
        self._sink = sink
        self._config = config
        self._log = log
        self._now = now
        self._pending = 0
        self._buffered = 0
        self._refusals = RefusalLog(log)
        #: Whether the sensor is about to end: connections are closed as their requests are answered.
        self.draining = False
        self._requests = Counter(
            "attune_webhook_requests",
            "Requests by result: stored, duplicate, spooled, handshake, ignored, disabled, or why they were refused",
            ["result"],
            registry=registry,
        )
        self._counted: dict[str, Any] = {}

    # What the protocol calls.

    def admit(self, request: Request) -> Answer | Admission:
        """Judge a request by its head."""
        routes: tuple[Route, ...] = ()
        try:
            if self._pending >= self._config.max_pending:
                raise RefusalError.unavailable(
                    "busy", "Too many requests are being answered; try again.", retry_after="1", close=True
                )
            routes = self._routes.find(request.path)
            return self._admit(request, routes)
        except RefusalError as refusal:
            return self._refused(refusal, routes, request)

    async def respond(self, request: Request, admission: Admission) -> Answer:
        """Answer a request with its body."""
        self._pending += 1
        try:
            return await self._traced(request, admission.routes)
        except RefusalError as refusal:
            return self._refused(refusal, admission.routes, request)
        except Exception:
            self._log.exception("webhook_failed", rule=admission.routes[0].rule.ref, **_traced(request))
            return self._refused(_failed(), admission.routes, request)
        finally:
            self._pending -= 1

    def refuse(self, refusal: RefusalError, admission: Admission | None) -> Answer:
        """The answer to a request that cannot be read, or whose body is not acceptable."""
        return self._refused(refusal, () if admission is None else admission.routes)

    def buffer(self, size: int) -> bool:
        """Account for bytes of bodies in memory; False when there are too many."""
        if size > 0 and self._buffered + size > self._config.max_buffered_bytes:
            return False
        self._buffered += size
        return True

    def forget(self, uid: str) -> None:
        """Drop what is kept of a rule's refusals: it is gone."""
        self._refusals.forget(uid)

    # By the head.

    def _admit(self, request: Request, routes: tuple[Route, ...]) -> Answer | Admission:
        if not routes:
            return self._no_route(request)
        if request.method == "HEAD":
            # Trello asks so whether an address is right, and people do whether it is served.
            return Answer(HTTPStatus.OK)
        for route in routes:
            if route.hook.handshake is not None:
                tokens = self._authenticator.verify_tokens(route.hook.auth)
                answer = handshakes.before_body(route.hook.handshake, request, verify_tokens=tokens)
                if answer is not None:
                    self._count("handshake")
                    return answer
        routes = self._accepting(request.method, routes)
        if request.headers.get("content-encoding", "").strip().lower() not in ("", "identity"):
            raise RefusalError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "encoding", "Send the body uncompressed.", close=True)
        routes = self._authenticator.by_head(request, routes)
        limit = max(route.hook.max_body for route in routes)
        length = request.headers.get("content-length", "")
        if length.isdigit() and int(length) > limit:
            raise _too_large(limit, close=True)
        request.parse_json = any(route.hook.parse_json for route in routes)
        return Admission(routes, limit)

    def _no_route(self, request: Request) -> Answer:
        ready = self._sink.rules_read
        if request.path == self._config.health_path and request.method in ("GET", "HEAD"):
            if ready and not self.draining:
                return json_answer(HTTPStatus.OK, {"status": "ok"})
            raise RefusalError.unavailable("health", "The sensor is starting or stopping.")
        if not ready:
            raise RefusalError.unavailable("starting", "The sensor has not read its rules yet; try again.", close=True)
        raise RefusalError(HTTPStatus.NOT_FOUND, "unknown_path", "No rule serves this path.", close=True)

    def _accepting(self, method: str, routes: tuple[Route, ...]) -> tuple[Route, ...]:
        accepting = tuple(route for route in routes if method in route.hook.methods)
        if not accepting:
            allowed = ", ".join(sorted({method for route in routes for method in route.hook.methods}))
            raise RefusalError(
                HTTPStatus.METHOD_NOT_ALLOWED, "method", f"This path takes {allowed}.", headers={"Allow": allowed}
            )
        return accepting

    # With the body.

    async def _traced(self, request: Request, routes: tuple[Route, ...]) -> Answer:
        if not self._tracer.enabled:
            return await self._accept(request, routes, request.trace)
        with request_span(self._tracer, request, routes[0].hook.path.text) as span:
            try:
                answer = await self._accept(request, routes, span.trace)
            except RefusalError as refusal:
                settle(span, int(refusal.status), refusal.kind)
                raise
            settle(span, int(answer.status))
            return answer

    async def _accept(self, request: Request, routes: tuple[Route, ...], trace: Trace) -> Answer:
        now = self._now()
        routes = await self._authenticator.with_body(request, routes, now=now)
        routes = tuple(route for route in routes if len(request.body) <= route.hook.max_body)
        if not routes:
            raise _too_large(len(request.body) - 1)
        for route in routes:
            answer = await self._handshake(request, route.hook)
            if answer is not None:
                self._count("handshake")
                return answer
        wanted = []
        for route in routes:
            if route.hook.when.holds(request):
                wanted.append(route)
            else:
                self._on_left_out(route.rule, "parameters.when did not hold")
        if not wanted:
            return self._without_event("ignored", routes[0].hook)
        enabled = [route for route in wanted if route.enabled]
        if not enabled:
            return self._without_event("disabled", wanted[0].hook)
        self._take_tokens(enabled)
        received_at = datetime.fromtimestamp(now, UTC)
        events = [
            event_of(route.rule, route.hook, item, received_at=received_at, trace=trace)
            for route in enabled
            for item in items_of(request, route.hook)
        ]
        if not events:
            return self._without_event("ignored", enabled[0].hook)
        results = await self._report(events)
        own = handshakes.accepted_body(enabled[0].hook.handshake, request)
        if own is not None:
            return own
        return _success(enabled[0].hook, results[0] if len(results) == 1 else {**results[0], "events": results})

    async def _handshake(self, request: Request, hook: Hook) -> Answer | None:
        if hook.handshake is None:
            return None
        if hook.handshake == "sns":
            try:
                confirmed = await self._sns.confirm(request.read.data)
            except OSError as error:
                text = "The subscription could not be confirmed; try again."
                raise RefusalError.unavailable("unconfirmed_subscription", text, reason=str(error)) from None
            return json_answer(HTTPStatus.OK, {"status": "confirmed"}) if confirmed else None
        return handshakes.with_body(hook.handshake, request, keys=self._authenticator.keys(hook.auth))

    def _without_event(self, result: str, hook: Hook) -> Answer:
        """Answer an authentic request that makes no event. After a refusal, senders may switch their hooks off."""
        self._count(result)
        return _success(hook, {"status": result})

    def _take_tokens(self, routes: Sequence[Route]) -> None:
        now = time.monotonic()
        for route in routes:
            if wait := route.bucket.take(now):
                raise RefusalError(
                    HTTPStatus.TOO_MANY_REQUESTS,
                    "rate",
                    f"This path takes {route.hook.rate:g} requests a second.",
                    headers={"Retry-After": str(wait)},
                )

    async def _report(self, events: Sequence[EventReport]) -> list[dict[str, str]]:
        """Report events and wait until all are safe; returns what an answer says of each.

        Raises:
            RefusalError: one is not safe. The sender repeats the request, and those that are stored are then duplicates.
        """
        try:
            async with asyncio.timeout(self._config.confirm_seconds):
                if len(events) == 1:
                    confirmations = [await self._sink.emit_confirmed(events[0])]
                else:
                    confirmations = await asyncio.gather(*map(self._sink.emit_confirmed, events))
        except TimeoutError:
            raise RefusalError.unavailable(
                "unconfirmed", "The event could not be made safe in time; try again."
            ) from None
        except StoppingError:
            raise RefusalError.unavailable("stopping", "The sensor is stopping; try again.", close=True) from None
        except ValueError as error:
            raise RefusalError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large", "The event would be too large.", reason=str(error)
            ) from None
        for confirmation in confirmations:
            if not confirmation.kept:
                raise _not_kept(confirmation)
        for confirmation in confirmations:
            self._count(confirmation.disposition)
        return [
            {"id": str(event.id), "status": str(confirmation.disposition)}
            for event, confirmation in zip(events, confirmations, strict=True)
        ]

    # Accounts.

    def _count(self, result: str) -> None:
        counter = self._counted.get(result)
        if counter is None:
            counter = self._counted[result] = self._requests.labels(result)
        counter.inc()

    def _refused(self, refusal: RefusalError, routes: Sequence[Route], request: Request | None = None) -> Answer:
        self._count(refusal.kind)
        self._refusals.note(refusal, routes[0].rule if routes else None, **_traced(request))
        if refusal.kind not in _NOT_THE_RULES:
            for route in routes:
                self._on_refused(route.rule, f"{int(refusal.status)} {refusal.reason}", refusal.kind)
        return refusal.answer()


def _traced(request: Request | None) -> dict[str, str]:
    """The trace that a request belongs to, for the log."""
    trace_id = "" if request is None else request.trace.trace_id
    return {"trace_id": trace_id} if trace_id else {}


def items_of(request: Request, hook: Hook) -> list[Request]:
    """The request, or one for each item of a batch."""
    if not hook.batch and request.content_type != _BATCH:
        return [request]
    items = json_items(request.body) if request.body.lstrip()[:1] == b"[" else None
    if items is None:
        return [request]
    if len(items) > MOST_ITEMS:
        raise RefusalError(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large", f"The batch has more than {MOST_ITEMS} events."
        )
    return [request.with_body(item) for item in items]


def _success(hook: Hook, body: dict[str, Any]) -> Answer:
    return json_answer(hook.answer, body) if hook.answer_body else Answer(hook.answer)


def _too_large(most: int, *, close: bool = False) -> RefusalError:
    text = f"The body has more than {most} bytes."
    return RefusalError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large", text, close=close)


def _failed() -> RefusalError:
    headers = {"Retry-After": RETRY_AFTER}
    return RefusalError(HTTPStatus.INTERNAL_SERVER_ERROR, "failed", "The sensor failed; try again.", headers=headers)


def _not_kept(confirmation: Confirmation) -> RefusalError:
    reason = confirmation.reason or ""
    if confirmation.disposition is Disposition.REFUSED:
        text = "The event service does not take this event."
        return RefusalError(HTTPStatus.UNPROCESSABLE_ENTITY, "refused", text, reason=reason)
    if confirmation.disposition is Disposition.DEFERRED:
        headers = {"Retry-After": str(max(1, math.ceil(confirmation.wait)))}
        text = "There are too many events; try again later."
        return RefusalError(HTTPStatus.TOO_MANY_REQUESTS, "over_quota", text, reason=reason, headers=headers)
    return RefusalError.unavailable("full", "There is no room for the event; try again.", reason=reason)
