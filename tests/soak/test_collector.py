"""One whole trace in OpenTelemetry's own collector: its receiver of OTLP, and its exporter into a file.

The collector is built from its Go modules (`tests/oracles/otelcol`), once, into `.cache`. That takes ten minutes of two cores; no
cluster is needed.
"""

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.attune_up import attune_up
from support.environments import CACHE
from support.eventually import eventually
from support.traced_hook import SENDER, TRACE_ID, event_of, hooked, listening, post

from attune_local.ports import free_port

pytestmark = pytest.mark.skipif(not shutil.which("go"), reason="needs Go")

SOURCE = Path(__file__).parents[1] / "oracles" / "otelcol"
CONFIG = """
receivers:
  otlp: {{protocols: {{http: {{endpoint: "127.0.0.1:{port}"}}}}}}
exporters:
  file: {{path: {file}, flush_interval: 100ms}}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines:
    traces: {{receivers: [otlp], exporters: [file]}}
"""


def built() -> Path:
    """The collector, built if it is not."""
    program = CACHE / "otelcol"
    if not program.exists():
        environment = os.environ | {"CGO_ENABLED": "0", "GOWORK": "off"}
        command = ["go", "build", "-mod=readonly", "-trimpath", "-ldflags=-s -w", "-o", str(program), "."]
        subprocess.run(command, cwd=SOURCE, env=environment, check=True)
    return program


@contextmanager
def collector(directory: Path) -> Iterator[tuple[str, Path]]:
    """A running collector: its URL, and the file with what it took."""
    port, file = free_port(), directory / "traces.json"
    config = directory / "collector.yaml"
    config.write_text(CONFIG.format(port=port, file=file))
    with (directory / "collector.log").open("wb") as log:
        process = subprocess.Popen([str(built()), f"--config={config}"], stdout=log, stderr=log)
    try:
        yield f"http://127.0.0.1:{port}", file
    finally:
        process.terminate()
        process.wait(60)


def spans(file: Path) -> list[dict[str, Any]]:
    """The spans that the collector wrote, each with the name of its service."""
    found = []
    for line in file.read_text().splitlines() if file.exists() else ():
        for resource in json.loads(line)["resourceSpans"]:
            names = {each["key"]: next(iter(each["value"].values())) for each in resource["resource"]["attributes"]}
            for scope in resource["scopeSpans"]:
                found += [{**span, "service": names["service.name"]} for span in scope["spans"]]
    return found


def test_one_whole_trace_arrives(tmp_path: Path) -> None:
    folder = tmp_path / "up"
    folder.mkdir()
    with (
        contextlib.ExitStack() as stack,
        listening() as (url, told),
        collector(tmp_path) as (endpoint, file),
    ):
        port = hooked(folder, url)
        up = stack.enter_context(attune_up(folder, environment={"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}))
        stored = event_of(up, post(port, 1, traceparent=f"00-{TRACE_ID}-{SENDER}-01"))
        found = eventually(
            lambda: [each for each in spans(file) if each["traceId"] == TRACE_ID] if len(spans(file)) >= 6 else [],
            within=120,
            what="the spans",
        )
    names = {span["spanId"]: span["name"] for span in found} | {SENDER: "the sender"}
    tree = sorted(f"{names[span['parentSpanId']]} > {span['name']} ({span['service']})" for span in found)
    print(*tree, sep="\n")
    assert tree == [
        "POST /here > create core.webhook (core.webhook)",
        "create core.webhook > process core.webhook (attune-actions)",
        "create core.webhook > store core.webhook (attune-api)",
        "process core.webhook > POST (attune-actions)",
        "process core.webhook > evaluate (attune-actions)",
        "the sender > POST /here (core.webhook)",
    ]
    assert names[stored["traceparent"][36:52]] == "create core.webhook"
    assert names[told[0][36:52]] == "POST"
