"""The HTTP side: takes requests, refuses what is to be refused, and answers 202 when the event is safe (docs/webhook.md)."""

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final, Protocol

import msgspec
from aiohttp import web
from aiohttp.web_protocol import RequestHandler
from prometheus_client import CollectorRegistry, Counter

from attune_sensor import Confirmation, EventReport, Fate, Stopping
from attune_webhook import signatures
from attune_webhook.config import Config
from attune_webhook.key_ring import KeyRing
from attune_webhook.parameters import Scheme
from attune_webhook.payload import event_of
from attune_webhook.routes import Route, Routes

#: Seconds after which a sender may try again what failed here.
_AGAIN: Final = "5"
#: The same refusal of the same rule is logged once in so many seconds.
_LOG_EVERY: Final = 60.0
_SIGNED: Final = "The request is not signed as this path asks for, or too old."


class Refusal(Exception):  # noqa: N818 - read as a sentence: "raise Refusal"
    """A request is not taken.

    Attributes:
        status: the answer's.
        kind: one word for metrics and the log.
        detail: a sentence for the sender.
        reason: a sentence for the log, where it may say more.
        headers: further headers of the answer.
        close: whether the connection is of no more use.
    """

    def __init__(
        self,
        status: HTTPStatus,
        kind: str,
        detail: str,
        *,
        reason: str = "",
        headers: dict[str, str] | None = None,
        close: bool = False,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.detail = detail
        self.reason = reason or detail
        self.headers = headers or {}
        self.close = close


class Outlet(Protocol):
    """Where events go (:class:`attune_sensor.SensorContext`)."""

    async def emit_confirmed(self, event: EventReport) -> Confirmation:
        """Report an event and wait until it is safe."""
        ...

    @property
    def rules_read(self) -> bool:
        """Whether all rules were read."""
        ...


class _Server(web.Server):
    """Bounds the number of connections; one too many is closed at once."""

    most = 0

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        if len(self._connections) > self.most:
            transport.abort()


class WebhookServer:
    """Serves the routes.

    Args:
        routes: which rule serves which path; read for each request.
        keys: the keys of the rules' secrets.
        outlet: where events go.
        config: bounds and times.
        registry: where requests are counted.
        log: a structlog logger.
        now: Unix time in seconds.
    """

    def __init__(
        self,
        *,
        routes: Routes,
        keys: KeyRing,
        outlet: Outlet,
        config: Config,
        registry: CollectorRegistry,
        log: Any,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._routes = routes
        self._keys = keys
        self._outlet = outlet
        self._config = config
        self._log = log
        self._now = now
        self._pending = 0
        self._draining = False
        self._logged: dict[tuple[str, str], float] = {}
        self._runner: web.ServerRunner | None = None
        self._requests = Counter(
            "attune_webhook_requests",
            "Requests by what became of them: stored, duplicate, spooled, or why they were refused",
            ["result"],
            registry=registry,
        )

    @property
    def port(self) -> int:
        """The port that it listens on; 0 before :meth:`open`."""
        addresses = self._runner.addresses if self._runner is not None else []
        return int(addresses[0][1]) if addresses else 0

    async def open(self, host: str | None, port: int) -> None:
        """Begin to serve; without effect when it does.

        Raises:
            OSError: the port is taken.
        """
        if self._runner is not None:
            return
        # Bodies stay as they came: they are signed so, and a small one may hide a huge one.
        server = _Server(
            self._answer,
            access_log=None,
            logger=_silent(),
            keepalive_timeout=self._config.keep_alive_seconds,
            lingering_time=1.0,
            auto_decompress=False,
        )
        server.most = self._config.max_connections
        runner = web.ServerRunner(server, handle_signals=False, shutdown_timeout=self._config.confirm_seconds)
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port, backlog=1024, reuse_address=True).start()
        except BaseException:
            await runner.cleanup()
            raise
        self._runner = runner

    async def close(self) -> None:
        """Serve on until everybody knows that this one goes, then take nothing new, finish what is under way, and stop."""
        runner, self._runner = self._runner, None
        if runner is None:
            return
        self._draining = True
        try:
            await asyncio.sleep(self._config.drain_seconds)
        finally:
            await runner.cleanup()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        route: Route | None = None
        self._pending += 1
        try:
            route = self._route(request)
            answer = await self._take(request, route)
        except Refusal as refusal:
            answer = self._refuse(refusal, route)
        except Exception:
            self._log.exception("webhook_failed", rule=None if route is None else route.rule.ref)
            failure = "The sensor failed; try again."
            answer = self._refuse(
                Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "failed", failure, headers={"Retry-After": _AGAIN}), route
            )
        finally:
            self._pending -= 1
        if self._draining:
            answer.force_close()
        return answer

    def _route(self, request: web.BaseRequest) -> Route:
        if self._pending > self._config.max_pending:
            raise Refusal(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "busy",
                "Too many requests are being answered; try again.",
                headers={"Retry-After": "1"},
                close=True,
            )
        path = request.raw_path.partition("?")[0]
        route = self._routes.find(path if "%" not in path else request.path)
        if route is not None:
            return route
        if not self._outlet.rules_read:
            raise Refusal(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "starting",
                "The sensor has not read its rules yet; try again.",
                headers={"Retry-After": _AGAIN},
                close=True,
            )
        raise Refusal(HTTPStatus.NOT_FOUND, "unknown_path", "No rule serves this path.", close=True)

    async def _take(self, request: web.BaseRequest, route: Route) -> web.Response:
        hook = route.hook
        if request.method not in hook.methods:
            raise Refusal(
                HTTPStatus.METHOD_NOT_ALLOWED,
                "method",
                f"This path takes {', '.join(sorted(hook.methods))}.",
                headers={"Allow": ", ".join(sorted(hook.methods))},
            )
        if request.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "encoding", "Send the body uncompressed.", close=True)
        keys = self._keys.keys(hook.auth)
        if hook.auth.secrets and not keys:
            raise Refusal(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "no_secret",
                "The secret for this path is missing or cannot be used; try again later.",
                headers={"Retry-After": _AGAIN},
                close=True,
            )
        if hook.auth.scheme is Scheme.BEARER:
            # It needs no body, so strangers need not send theirs.
            self._authenticated(signatures.check_bearer(request.headers, keys), route, close=True)
        body = await self._read(request, hook.max_body)
        now = self._now()
        if hook.auth.scheme is not Scheme.BEARER:
            self._authenticated(
                signatures.check(hook.auth, headers=request.headers, body=body, keys=keys, now=now), route
            )
        # Only now: who cannot sign must not use up what those who can may send.
        if wait := route.bucket.take(time.monotonic()):
            raise Refusal(
                HTTPStatus.TOO_MANY_REQUESTS,
                "rate",
                f"This path takes {hook.rate:g} requests a second.",
                headers={"Retry-After": str(wait)},
            )
        event = event_of(
            route.rule,
            hook,
            method=request.method,
            query=_query(request),
            headers=request.headers,
            body=body,
            received_at=datetime.fromtimestamp(now, UTC),
        )
        return await self._report(event)

    def _authenticated(self, refused: signatures.Refused | None, route: Route, *, close: bool = False) -> None:
        if refused is None:
            return
        headers = {"WWW-Authenticate": "Bearer"} if route.hook.auth.scheme is Scheme.BEARER else None
        raise Refusal(
            HTTPStatus.UNAUTHORIZED, refused.kind, _SIGNED, reason=refused.sentence, headers=headers, close=close
        )

    async def _read(self, request: web.BaseRequest, most: int) -> bytes:
        too_large = Refusal(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large", f"The body has more than {most} bytes.", close=True
        )
        if request.content_length is not None and request.content_length > most:
            raise too_large
        if not request.body_exists:
            return b""
        if request.headers.get("Expect", "").lower() == "100-continue" and request.transport is not None:
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = b""
        try:
            async with asyncio.timeout(self._config.body_seconds):
                async for chunk in request.content.iter_any():
                    body = body + chunk if body else chunk
                    if len(body) > most:
                        raise too_large
        except TimeoutError:
            raise Refusal(
                HTTPStatus.REQUEST_TIMEOUT,
                "slow",
                f"The body did not come within {self._config.body_seconds:g} s.",
                close=True,
            ) from None
        except web.RequestPayloadError:
            raise Refusal(
                HTTPStatus.BAD_REQUEST, "malformed", "The body is cut off or malformed.", close=True
            ) from None
        return body

    async def _report(self, event: EventReport) -> web.Response:
        unavailable = {"Retry-After": _AGAIN}
        try:
            async with asyncio.timeout(self._config.confirm_seconds):
                confirmation = await self._outlet.emit_confirmed(event)
        except TimeoutError:
            raise Refusal(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "unconfirmed",
                "The event could not be made safe in time; try again.",
                headers=unavailable,
            ) from None
        except Stopping:
            raise Refusal(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "stopping",
                "The sensor is stopping; try again.",
                headers={"Retry-After": _AGAIN},
                close=True,
            ) from None
        except ValueError as error:
            raise Refusal(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large", "The event would be too large.", reason=str(error)
            ) from None
        if confirmation.kept:
            self._requests.labels(confirmation.fate).inc()
            return _json(HTTPStatus.ACCEPTED, {"id": str(event.id), "status": confirmation.fate})
        if confirmation.fate is Fate.REFUSED:
            raise Refusal(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                "refused",
                "The event service does not take this event.",
                reason=confirmation.reason or "",
            )
        raise Refusal(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "full",
            "There is no room for the event; try again.",
            reason=confirmation.reason or "",
            headers=unavailable,
        )

    def _refuse(self, refusal: Refusal, route: Route | None) -> web.Response:
        self._requests.labels(refusal.kind).inc()
        uid, now = ("" if route is None else route.rule.uid), time.monotonic()
        if now - self._logged.get((uid, refusal.kind), now - 2 * _LOG_EVERY) > _LOG_EVERY:
            self._logged[uid, refusal.kind] = now
            named = {} if route is None else {"rule": route.rule.ref, "rule_uid": uid}
            self._log.warning(
                "webhook_refused", kind=refusal.kind, status=int(refusal.status), error=refusal.reason, **named
            )
        answer = _json(
            refusal.status,
            {"title": refusal.status.phrase, "status": int(refusal.status), "detail": refusal.detail},
            content_type="application/problem+json",
        )
        answer.headers.update(refusal.headers)
        if refusal.close:
            answer.force_close()
        return answer

    def forget(self, uid: str) -> None:
        """The rule is gone; what is kept of its refusals goes too."""
        for key in [key for key in self._logged if key[0] == uid]:
            del self._logged[key]


def _query(request: web.BaseRequest) -> dict[str, list[str]]:
    query: dict[str, list[str]] = {}
    if "?" in request.raw_path:
        for name, value in request.query.items():
            query.setdefault(name, []).append(value)
    return query


def _json(status: HTTPStatus, body: Any, *, content_type: str = "application/json") -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(body), content_type=content_type)


def _silent() -> logging.Logger:
    """For aiohttp, which would log a traceback for each malformed request of a stranger."""
    logger = logging.getLogger(f"{__name__}.http")
    logger.disabled = True
    return logger
