"""A webhook's Rule under ``attune up`` whose action tells a target, for tests of traces."""

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
from support.attune_up import AttuneUp
from support.eventually import eventually

from attune_local.ports import free_port

PACK = Path(__file__).parents[2] / "packs" / "core"
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


@contextlib.contextmanager
def listening() -> Iterator[tuple[str, list[str]]]:
    """A target: its URL, and the header ``traceparent`` of each request."""
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
    try:
        yield f"http://127.0.0.1:{server.server_port}", told
    finally:
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
