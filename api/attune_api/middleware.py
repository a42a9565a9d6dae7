"""Around every request: counted, timed, and refused when its head alone is absurd. Plain ASGI, since it is on every path."""

import time
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from attune_api.metrics import Metrics
from attune_api.problems import Problem, response

_MOST_HEADERS: Final = 100


class RequestMiddleware:
    """Counts and times requests by route, and refuses those with too many headers (431, RFC 6585 §5)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request (ASGI)."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 500

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            if len(scope["headers"]) > _MOST_HEADERS:
                problem = Problem(431, f"The request has more than {_MOST_HEADERS} header fields.")
                await response(problem)(scope, receive, counted)
            else:
                await self._app(scope, receive, counted)
        finally:
            services = getattr(scope["app"].state, "services", None)
            if services is not None:
                _count(services.metrics, scope, status, time.perf_counter() - started)


def _count(metrics: Metrics, scope: Scope, status: int, seconds: float) -> None:
    # The route's pattern, never the path: paths are endless, and each would become a series.
    route = getattr(scope.get("route"), "path", "none")
    metrics.requests.labels(scope["method"] if route != "none" else "any", route, status).inc()
    metrics.request_seconds.labels(route).observe(seconds)
