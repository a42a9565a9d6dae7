"""Actions under ``attune up``: from a Rule in a file to a request, a process, and a Rule that is switched off."""

import json
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from support.attune_up import attune_up
from support.eventually import eventually

pytestmark = [pytest.mark.nats, pytest.mark.timeout(900)]

PACKS = Path(__file__).parents[3] / "packs"
PACK = PACKS / "core"
RULES = """
apiVersion: attune.dev/v1alpha1
kind: Rule
metadata: {{name: tell, namespace: default}}
spec:
  trigger: {{type: core.intervaltimer, parameters: {{interval: 200, unit: milliseconds}}}}
  data: {{team: imports}}
  actions:
    - name: post
      http:
        url: {url}
        body: {{text: "${{event.rule.name}} of ${{event.data.team}}", id: "${{event.id}}"}}
---
apiVersion: attune.dev/v1alpha1
kind: Rule
metadata: {{name: once, namespace: default}}
spec:
  serviceAccountName: anybody
  trigger: {{type: core.intervaltimer, parameters: {{interval: 300, unit: milliseconds}}}}
  actions:
    - name: run
      job:
        template:
          spec:
            template:
              spec:
                restartPolicy: Never
                containers:
                  - name: c
                    image: any
                    command: [sh, -c]
                    args: ["echo job of $WHO"]
                    env: [{{name: WHO, value: "${{event.rule.name}}"}}]
    - name: "off"
      rule: {{name: once, enabled: false}}
"""


@pytest.fixture
def requests() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """A target, and what it got: idempotency key and body."""
    got: list[tuple[str, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append((self.headers["Idempotency-Key"], self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/hook", got
    server.shutdown()
    thread.join()
    server.server_close()


def test_rules_do_something(tmp_path: Path, requests: tuple[str, list[tuple[str, bytes]]]) -> None:
    url, got = requests
    shutil.copy(PACK / "core.timer.yaml", tmp_path)
    (tmp_path / "rules.yaml").write_text(RULES.format(url=url))
    with attune_up(tmp_path) as up:
        eventually(lambda: len(got) >= 3, within=120, what="three requests")
        bodies = {key: json.loads(body) for key, body in got}
        assert {body["text"] for body in bodies.values()} == {"tell of imports"}
        ids = {event["id"] for event in up.events()}
        assert {body["id"] for body in bodies.values()} <= ids
        eventually(
            lambda: up.kube.get("rule", "once", "default")["spec"]["enabled"] is False,
            within=60,
            what="it is switched off",
        )
        jobs = up.data_dir / "actions" / "jobs"
        output = eventually(lambda: next(jobs.glob("once-*/output.log")).read_text(), within=60, what="a job's output")
        assert output == "job of once\n"


EMITTING = """
apiVersion: attune.dev/v1alpha1
kind: Rule
metadata: {{name: tick, namespace: default}}
spec:
  trigger: {{type: core.intervaltimer, parameters: {{interval: 500, unit: milliseconds}}}}
  actions:
    - name: pass-on
      emit: {{name: tock, payload: {{tick: "${{event.id}}"}}}}
      retry: {{attempts: 50, backoff: 200ms, maxBackoff: 2s}}
---
apiVersion: attune.dev/v1alpha1
kind: Rule
metadata: {{name: tock, namespace: default}}
spec:
  trigger: {{type: core.event, parameters: {{name: tock}}}}
  actions:
    - name: post
      http: {{url: "{url}", body: {{tick: "${{event.payload.tick}}", from: "${{event.payload.emitted.rule}}"}}}}
---
apiVersion: attune.dev/v1alpha1
kind: Rule
metadata: {{name: begin, namespace: default}}
spec:
  serviceAccountName: anybody
  trigger: {{type: core.intervaltimer, parameters: {{interval: 1}}}}
  actions:
    - name: once
      emit: {{name: round}}
      retry: {{attempts: 50, backoff: 200ms, maxBackoff: 2s}}
---
apiVersion: attune.dev/v1alpha1
kind: Rule
metadata: {{name: round, namespace: default}}
spec:
  trigger: {{type: core.event, parameters: {{name: round}}}}
  actions:
    - name: again
      emit: {{name: round}}
"""


def test_a_rule_takes_what_another_emits(tmp_path: Path, requests: tuple[str, list[tuple[str, bytes]]]) -> None:
    url, got = requests
    shutil.copy(PACK / "core.timer.yaml", tmp_path)
    shutil.copy(PACKS / "events" / "core.event.yaml", tmp_path)
    (tmp_path / "rules.yaml").write_text(EMITTING.format(url=url))
    with attune_up(tmp_path) as up:
        eventually(lambda: len(got) >= 3, within=120, what="three requests")
        up.kube("wait", "--for=condition=Active", "rule/tock", "-n", "default")
        bodies = [json.loads(body) for _, body in got]
        assert {body["from"] for body in bodies} == {"default/tick"}
        ticks = {event["id"] for event in up.events() if event["trigger_type"] == "core.intervaltimer"}
        assert {body["tick"] for body in bodies} <= ticks

        # Each event of begin starts a loop. The condition shows what ended last, and that may be another one's emit.
        def says_loop() -> bool:
            failed = up.api("/api/v1/runs", params={"rule_name": "round", "state": "Failed"}).json()["data"]
            return any(each["reason"] == "TooManyHops" and "make a loop" in each["message"] for each in failed)

        eventually(says_loop, within=120, what="a run says that there is a loop")
