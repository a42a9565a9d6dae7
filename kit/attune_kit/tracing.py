"""Spans, which the OpenTelemetry SDK exports over OTLP (http/protobuf) where an endpoint is set (docs/tracing.md).

Where none is set, the SDK is not imported, and a span is nothing but the trace that was given. With one, spans wait in a bounded
queue for a thread of the SDK, which exports them. Nothing waits for that thread: a collector that is away or slow costs spans.
"""

import os
import threading
from collections.abc import Mapping
from enum import Enum
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

import structlog

from attune_contract import __version__
from attune_contract.tracing import NO_TRACE, Trace

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

_log = structlog.stdlib.get_logger(__name__)

#: Where to export to; the first one wins (OpenTelemetry's "OTLP Exporter Configuration").
_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_PROTOCOL: Final = "http/protobuf"
#: The one exporter that there is (``OTEL_TRACES_EXPORTER``).
_EXPORTER: Final = "otlp"

Attributes = Mapping[str, str | int | float | bool]


class Kind(Enum):
    """What a span is to the one that is its parent (OpenTelemetry's "SpanKind")."""

    INTERNAL = 0
    SERVER = 1
    CLIENT = 2
    PRODUCER = 3
    CONSUMER = 4


class Span(Protocol):
    """One piece of work in a trace. It ends at the end of its ``with`` block, or by :meth:`end`."""

    @property
    def trace(self) -> Trace:
        """What to pass on, so that further spans are children of this one."""

    def set(self, attributes: Attributes) -> None:
        """Add attributes."""

    def fail(self, kind: str, message: str = "") -> None:
        """Say that it failed: a word of a small set (``error.type``), and a sentence without secrets."""

    def end(self) -> None:
        """End it; a second time does nothing."""

    def __enter__(self) -> Self:
        """Itself."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """End it; an exception is a failure."""


class Tracer:
    """Makes spans. This one makes none: it passes on the trace that it is given.

    Attributes:
        enabled: whether spans are exported; ask before preparing what only a span needs.
    """

    enabled: bool = False

    def span(
        self, name: str, *, kind: Kind = Kind.INTERNAL, parent: Trace = NO_TRACE, attributes: Attributes | None = None
    ) -> Span:
        """Begin a span.

        Args:
            name: what is done, as one of few names.
            kind: what it is to its parent.
            parent: the trace that it belongs to; without one, it begins a trace.
            attributes: what it is about.
        """
        return _Passed(parent)

    def close(self, *, within: float) -> None:
        """Export what waits, for so many seconds at most; blocks. What is left then is lost."""


#: For parts that do not trace.
OFF: Final = Tracer()


def wanted(environment: Mapping[str, str]) -> bool:
    """Whether spans are to be exported: there is an endpoint, and nothing that switches the export off."""
    return (
        any(environment.get(name, "").strip() for name in _ENDPOINTS)
        and environment.get("OTEL_SDK_DISABLED", "").strip().lower() != "true"
        and _EXPORTER in (environment.get("OTEL_TRACES_EXPORTER", "").strip().lower() or _EXPORTER).split(",")
    )


def open_tracer(
    service: str, *, attributes: Mapping[str, str] | None = None, environment: Mapping[str, str] = os.environ
) -> Tracer:
    """The tracer of this process, by the standard variables of OpenTelemetry. It never fails: it says why it is off.

    Args:
        service: ``service.name``, unless the environment has one.
        attributes: further attributes of the resource.
        environment: variables; the SDK itself reads those of the process.
    """
    if not wanted(environment):
        return OFF
    protocol = next((value for name in _PROTOCOLS if (value := environment.get(name, "").strip())), _PROTOCOL)
    if protocol != _PROTOCOL:
        _log.error("traces_off", reason=f"OTLP goes by {_PROTOCOL} here, not by {protocol}")
        return OFF
    try:
        tracer = _opened(service, attributes or {}, environment)
    except ImportError as error:
        _log.error("traces_off", reason=f"the OpenTelemetry SDK is not installed (extra `traces`): {error}")
        return OFF
    except ValueError as error:
        _log.error("traces_off", reason=f"a setting of OpenTelemetry is not valid: {error}")
        return OFF
    _log.info("traces_on", service=service)
    return tracer


def _opened(service: str, attributes: Mapping[str, str], environment: Mapping[str, str]) -> Tracer:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    named = {"service.version": __version__, **attributes}
    if "OTEL_SERVICE_NAME" not in environment and "service.name=" not in environment.get(
        "OTEL_RESOURCE_ATTRIBUTES", ""
    ):
        named["service.name"] = service
    processor = BatchSpanProcessor(OTLPSpanExporter())
    provider = TracerProvider(resource=Resource.create(named), shutdown_on_exit=False)
    provider.add_span_processor(processor)
    return _ExportingTracer(provider, processor)


class _Passed:
    """No span: only the trace that was given."""

    __slots__ = ("trace",)

    def __init__(self, trace: Trace) -> None:
        self.trace = trace

    def set(self, attributes: Attributes) -> None:
        pass

    def fail(self, kind: str, message: str = "") -> None:
        pass

    def end(self) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        pass


class _ExportingTracer(Tracer):
    """Makes spans of the OpenTelemetry SDK.

    Args:
        provider: makes them.
        processor: exports them.
    """

    enabled = True

    def __init__(self, provider: "TracerProvider", processor: "BatchSpanProcessor") -> None:
        from opentelemetry import trace

        self._api = trace
        self._tracer = provider.get_tracer("attune", __version__)
        self._processor = processor
        self._kinds = {kind: trace.SpanKind[kind.name] for kind in Kind}

    def span(
        self, name: str, *, kind: Kind = Kind.INTERNAL, parent: Trace = NO_TRACE, attributes: Attributes | None = None
    ) -> Span:
        made = self._tracer.start_span(
            name, context=self._context(parent), kind=self._kinds[kind], attributes=dict(attributes or {})
        )
        return _Exported(made, self._api)

    def _context(self, parent: Trace) -> Any:
        from opentelemetry.context import Context

        if not parent.traceparent:
            return Context()
        _, trace_id, span_id, flags = parent.traceparent.split("-")
        api = self._api
        remote = api.SpanContext(
            trace_id=int(trace_id, 16),
            span_id=int(span_id, 16),
            is_remote=True,
            trace_flags=api.TraceFlags(int(flags, 16)),
            trace_state=api.TraceState.from_header([parent.tracestate]) if parent.tracestate else None,
        )
        return api.set_span_in_context(api.NonRecordingSpan(remote), Context())

    def close(self, *, within: float) -> None:
        # The SDK waits for a request that is under way, however long it takes; its thread is a daemon, and so is this one.
        closing = threading.Thread(target=self._processor.shutdown, daemon=True)
        closing.start()
        closing.join(within)


class _Exported:
    """A span of the SDK."""

    __slots__ = ("_api", "_span")

    def __init__(self, span: Any, api: Any) -> None:
        self._span = span
        self._api = api

    @property
    def trace(self) -> Trace:
        context = self._span.get_span_context()
        header = f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags) & 0x03:02x}"
        return Trace(header, context.trace_state.to_header())

    def set(self, attributes: Attributes) -> None:
        self._span.set_attributes(dict(attributes))

    def fail(self, kind: str, message: str = "") -> None:
        self._span.set_attribute("error.type", kind)
        self._span.set_status(self._api.StatusCode.ERROR, message or None)

    def end(self) -> None:
        if self._span.is_recording():
            self._span.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is not None:
            self.fail(kind.__name__)
        self.end()
