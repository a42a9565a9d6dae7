"""One trace from the sender of a webhook to what the action called, exported by the programs of ``attune up``."""

import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from support.attune_up import AttuneUp, attune_up
from support.eventually import eventually
from support.otlp_receiver import otlp_receiver

from attune_local.ports import free_port

PACK = Path(__file__).parents[3] / "packs" / "core"
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
SENDER = "b7ad6b7169203331"
RULE = """apiVersion: attune.dev/v1alpha1
kind: Rule
metadata: {{name: hook, namespace: default}}
spec:
  trigger:
    type: core.webhook
    parameters: {{path: /here, auth: {{type: none}}}}
  when: event.payload.body.n > 0
  actions:
    - name: tell
      http: {{url: "{url}/told?key=secret", body: {{n: "${{event.payload.body.n}}"}}}}
"""


@pytest.fixture
def target() -> Iterator[tuple[str, list[str]]]:
    """A target, and the header ``traceparent`` of each request."""
    told: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            told.append(self.headers.get("traceparent", ""))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", told
    server.shutdown()
    thread.join()
    server.server_close()


def hooked(folder: Path, url: str) -> int:
    """Fill the folder; returns the port of the webhook."""
    port = free_port()
    manifest = (PACK / "core.webhook.yaml").read_text()
    (folder / "core.webhook.yaml").write_text(manifest.replace("port: 8000", f"port: {port}"))
    (folder / "rule.yaml").write_text(RULE.format(url=url))
    return port


def post(port: int, n: int, **headers: str) -> str:
    """Send a request until the rule is served; returns the event's id."""

    def sent() -> str:
        try:
            answer = httpx.post(f"http://127.0.0.1:{port}/here", json={"n": n}, headers=headers, timeout=60)
        except httpx.TransportError:
            return ""
        return str(answer.json()["id"]) if answer.status_code == 202 else ""

    return eventually(sent, within=180, what="the webhook is served")


def event_of(up: AttuneUp, event_id: str) -> dict[str, str]:
    """A stored event."""
    found: dict[str, str] = eventually(
        lambda: next(each for each in up.events() if each["id"] == event_id), within=60, what="the event is stored"
    )
    return found


def test_one_trace_shows_request_occurrence_stored_condition_and_attempt(
    tmp_path: Path, target: tuple[str, list[str]]
) -> None:
    url, told = target
    port = hooked(tmp_path, url)
    with otlp_receiver() as receiver:
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, "OTEL_BSP_SCHEDULE_DELAY": "100"}
        with attune_up(tmp_path, environment=environment) as up:
            stored = event_of(up, post(port, 1, traceparent=f"00-{TRACE_ID}-{SENDER}-01", tracestate="a=1"))
            eventually(lambda: len(receiver.of_trace(TRACE_ID)) >= 6, within=60, what="six spans")
            begun = event_of(up, post(port, 2))  # without a trace of the sender's
            own = begun["traceparent"][3:35]
            eventually(lambda: len(receiver.of_trace(own)) >= 6, within=60, what="six spans of its own")
    spans = {span.name: span for span in receiver.of_trace(TRACE_ID)}
    names = {span.span_id: span.name for span in spans.values()} | {SENDER: "sender"}
    assert {name: names[span.parent] for name, span in spans.items()} == {
        "POST /here": "sender",
        "create core.webhook": "POST /here",
        "store core.webhook": "create core.webhook",
        "process core.webhook": "create core.webhook",
        "evaluate": "process core.webhook",
        "POST": "process core.webhook",
    }
    assert [spans[name].service for name in ("POST /here", "store core.webhook", "POST")] == [
        "core.webhook",
        "attune-api",
        "attune-actions",
    ]
    assert stored["traceparent"] == f"00-{TRACE_ID}-{spans['create core.webhook'].span_id}-01"
    assert told[0] == f"00-{TRACE_ID}-{spans['POST'].span_id}-01"
    assert spans["POST"].attributes["url.full"] == f"{url}/told", "the query may hold secrets"
    assert spans["POST"].attributes["http.response.status_code"] == 204
    assert {span.parent for span in receiver.of_trace(own)} - {span.span_id for span in receiver.of_trace(own)} == {""}


def test_what_exports_nothing_passes_a_trace_on_and_begins_none(tmp_path: Path, target: tuple[str, list[str]]) -> None:
    url, told = target
    port = hooked(tmp_path, url)
    variables = {name: "" for name in os.environ if name.startswith("OTEL_")}
    with attune_up(tmp_path, environment=variables) as up:
        sent = f"00-{TRACE_ID}-{SENDER}-01"
        stored = event_of(up, post(port, 1, traceparent=sent))
        eventually(lambda: told == [sent], within=60, what="the target is told")
        assert stored["traceparent"] == sent
        assert "traceparent" not in event_of(up, post(port, 2, traceparent="nonsense"))
        eventually(lambda: told == [sent, ""], within=60, what="the target is told")
