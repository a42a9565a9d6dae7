"""Spans, exported to a real receiver of OTLP by the OpenTelemetry SDK."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from structlog.testing import capture_logs
from support.eventually import eventually
from support.otlp_receiver import OtlpReceiver, otlp_receiver

from attune_contract.tracing import NO_TRACE, Trace, is_sampled
from attune_kit.tracing import OFF, Kind, Tracer, open_tracer

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
SENT = Trace(f"00-{TRACE_ID}-{PARENT}-01", "a=1")


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    with otlp_receiver() as found:
        yield found


def opened(monkeypatch: pytest.MonkeyPatch, endpoint: str, **more: str) -> Tracer:
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_BSP_SCHEDULE_DELAY": "50", **more}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return open_tracer("attune-test", attributes={"service.namespace": "test"}, environment=variables)


def test_spans_of_one_trace_are_children_of_whom_they_name(
    receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracer = opened(monkeypatch, receiver.url, OTEL_EXPORTER_OTLP_HEADERS="x-key=secret")
    assert tracer.enabled
    with tracer.span("outer", kind=Kind.SERVER, parent=SENT, attributes={"n": 1}) as outer:
        inner = tracer.span("inner", parent=outer.trace)
        inner.set({"said": "something"})
        inner.fail("Refused", "it was refused")
        inner.end()
        inner.end()  # a second time does nothing
    tracer.close(within=60)
    found = {span.name: span for span in receiver.spans}
    assert len(receiver.spans) == 2
    assert {span.trace_id for span in found.values()} == {TRACE_ID}
    assert (found["outer"].parent, found["inner"].parent) == (PARENT, found["outer"].span_id)
    assert (found["outer"].kind, found["outer"].attributes, found["outer"].state) == (2, {"n": 1}, "a=1")
    assert (found["inner"].failed, found["outer"].failed) == (True, False)
    assert found["inner"].attributes == {"said": "something", "error.type": "Refused"}
    assert {span.service for span in receiver.spans} == {"attune-test"}
    assert {headers["x-key"] for headers in receiver.headers} == {"secret"}


def test_what_raises_is_a_failure(receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    tracer = opened(monkeypatch, receiver.url)
    with pytest.raises(LookupError), tracer.span("alone"):
        raise LookupError("a secret")
    tracer.close(within=60)
    (span,) = receiver.spans
    assert (span.failed, span.parent, span.attributes) == (True, "", {"error.type": "LookupError"})


@pytest.mark.parametrize(
    ("sampler", "parent", "sampled"),
    [
        ("", NO_TRACE, True),
        ("parentbased_always_off", NO_TRACE, False),
        ("parentbased_always_off", SENT, True),
        ("", Trace(f"00-{TRACE_ID}-{PARENT}-00"), False),
        ("always_off", SENT, False),
    ],
)
def test_the_parent_and_the_sampler_decide(
    receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch, sampler: str, parent: Trace, sampled: bool
) -> None:
    tracer = opened(monkeypatch, receiver.url, **({"OTEL_TRACES_SAMPLER": sampler} if sampler else {}))
    with tracer.span("one", parent=parent) as span:
        assert is_sampled(span.trace.traceparent) is sampled
        assert span.trace.trace_id == (parent.trace_id or span.trace.trace_id)
    tracer.close(within=60)
    assert len(receiver.spans) == sampled


def test_what_a_receiver_refuses_for_a_while_comes_later(
    receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver.status = 503
    tracer = opened(monkeypatch, receiver.url)
    tracer.span("one").end()
    eventually(lambda: receiver.headers, within=60, what="the first try")
    receiver.status = 200
    eventually(lambda: [span.name for span in receiver.spans] == ["one"], within=60, what="the span")
    tracer.close(within=60)


@pytest.fixture
def silent() -> Iterator[str]:
    """A receiver that takes requests and answers none until the end of the test."""
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            over.wait(120)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    over.set()
    server.shutdown()
    thread.join()
    server.server_close()


SPANS = """
from attune_kit.tracing import open_tracer
tracer = open_tracer("attune-test")
for _ in range(640):
    tracer.span("one").end()
print(len(tracer._processor._batch_processor._queue))
tracer.close(within=0.2)
"""


def test_a_receiver_that_never_answers_holds_up_nothing_and_its_queue_is_bounded(silent: str) -> None:
    """Ten times what the queue holds: the program goes on, and ends by itself with a request still under way.

    In a process of its own: the exporter's thread draws random numbers in between, which other tests would notice.
    """
    variables = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": silent,
        "OTEL_BSP_MAX_QUEUE_SIZE": "64",
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "16",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "100",
    }
    done = subprocess.run(
        [sys.executable, "-c", SPANS],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert int(done.stdout.splitlines()[-1]) <= 64, done.stdout


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": " "},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_SDK_DISABLED": "true"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_without_an_endpoint_a_span_is_what_was_given(variables: dict[str, str]) -> None:
    tracer = open_tracer("attune-test", environment=variables)
    assert tracer is OFF
    with tracer.span("one", parent=SENT, attributes={"n": 1}) as span:
        span.set({"m": 2})
        span.fail("Refused")
    assert span.trace == SENT
    tracer.close(within=0)


def test_what_cannot_be_exported_is_said() -> None:
    endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    with capture_logs() as lines:
        assert open_tracer("attune-test", environment=endpoint) is OFF
    assert [(line["event"], line["reason"]) for line in lines] == [
        ("traces_off", "OTLP goes by http/protobuf here, not by grpc")
    ]


PROGRAMS = ("attune_api.__main__", "attune_actions.app", "attune_webhook.__main__", "attune_timer.__main__")


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_that_exports_nothing_does_not_load_the_sdk(program: str) -> None:
    # FastAPI loads OpenTelemetry's API by itself; what costs is the SDK and what it needs.
    code = (
        f"import sys, {program}\nfrom attune_kit.tracing import open_tracer\nopen_tracer('x', environment={{}})\n"
        "costly = 'opentelemetry.sdk', 'opentelemetry.exporter', 'google.protobuf'\n"
        "print([name for name in sys.modules if name.startswith(costly)])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"
