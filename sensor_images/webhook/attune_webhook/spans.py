"""The span of a request (OpenTelemetry's conventions for HTTP servers). The query is not in it: it may hold secrets."""

from attune_kit.tracing import Kind, Span, Tracer
from attune_webhook.http.request import Request


def request_span(tracer: Tracer, request: Request, route: str) -> Span:
    """The span of a request, as a child of its sender's.

    Args:
        tracer: makes the span.
        request: the request.
        route: the path as the rule has it.
    """
    return tracer.span(
        f"{request.method} {route}",
        kind=Kind.SERVER,
        parent=request.trace,
        attributes={
            "http.request.method": request.method,
            "http.route": route,
            "url.path": request.path,
            "url.scheme": "http",
        },
    )


def settle(span: Span, status: int, refused: str = "") -> None:
    """Say how a request was answered. What the sender did wrong is no failure of the server's span."""
    span.set({"http.response.status_code": status})
    if refused:
        span.set({"attune.webhook.refused": refused})
    if status >= 500:
        span.fail(str(status))
