"""Clients that others' generators make of the API's own OpenAPI document post an event and read it, from a real API.

The generators come from PyPI and npm, at fixed versions, into a directory of the test. It needs no cluster.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from support.api_process import ADMIN_TOKEN, ApiProcess, report

PYTHON_GENERATOR: Final = "openapi-python-client==0.29.1"
NODE_PACKAGES: Final = ("openapi-typescript@7.13.0", "openapi-fetch@0.17.0", "typescript@5.9.3", "@types/node@20.19.43")

_PYTHON: Final = """
import json, os
from attune_client import AuthenticatedClient, models
from attune_client.api.events import get_event, list_events, report_event, report_events
from attune_client.api.identity import who_am_i

url = os.environ["API"]
first, *others = [models.EventReport.from_dict(each) for each in json.loads(os.environ["EVENTS"])]
with AuthenticatedClient(base_url=url, token=os.environ["SENSOR_TOKEN"], raise_on_unexpected_status=True) as sensor:
    stored = report_event.sync(client=sensor, body=first)
    assert isinstance(stored, models.StoredAnswer), stored
    assert str(stored.data.id) == str(first.id) and stored.data.status == "stored", stored
    batch = report_events.sync(client=sensor, body=models.EventBatch(events=[first, *others]))
    assert isinstance(batch, models.BatchAnswer), batch
    assert [each.status for each in batch.data] == ["duplicate", "stored", "stored"], batch
    bad = report_event.sync(client=sensor, body=models.EventReport.from_dict({**first.to_dict(), "trigger_type": "a.b"}))
    assert isinstance(bad, models.ProblemDocument), bad
with AuthenticatedClient(base_url=url, token=os.environ["READER_TOKEN"], raise_on_unexpected_status=True) as reader:
    page = list_events.sync(client=reader, order=models.ListEventsOrder.ASC)
    assert isinstance(page, models.EventPage), page
    assert [each.id for each in page.data] == [first.id, *(each.id for each in others)], page
    assert page.data[0].payload.to_dict() == first.payload.to_dict()
    assert page.data[0].occurred_at == first.occurred_at
    where = models.ListEventsPayload.from_dict({"payload.k": "1"})
    assert [each.id for each in list_events.sync(client=reader, payload=where).data] == [others[0].id]
    one = get_event.sync(event_id=first.id, client=reader)
    assert isinstance(one, models.EventAnswer) and one.data.seq == page.data[0].seq, one
    assert isinstance(who_am_i.sync(client=reader), models.WhoAnswer)
print("done")
"""

_TYPESCRIPT: Final = """
import assert from "node:assert/strict";
import createClient from "openapi-fetch";
import type { components, paths } from "./api.js";

const { API, EVENTS, SENSOR_TOKEN, READER_TOKEN } = process.env as Record<string, string>;
const [first, ...others]: components["schemas"]["EventReport"][] = JSON.parse(EVENTS);
const as = (token: string) => createClient<paths>({ baseUrl: API, headers: { Authorization: `Bearer ${token}` } });
const sensor = as(SENSOR_TOKEN);
const reader = as(READER_TOKEN);

const stored = await sensor.POST("/api/v1/events", { body: first });
assert.equal(stored.data?.data.status, "stored");
const batch = await sensor.POST("/api/v1/events/batch", { body: { events: [first, ...others] } });
assert.deepEqual(batch.data?.data.map((each) => each.status), ["duplicate", "stored", "stored"]);
const bad = await sensor.POST("/api/v1/events", { body: { ...first, trigger_type: "a.b" } });
const title: string | undefined = bad.error?.title;
assert.ok(title);
const page = await reader.GET("/api/v1/events", { params: { query: { order: "asc", limit: 10 } } });
assert.deepEqual(page.data?.data.map((each) => each.id), [first, ...others].map((each) => each.id));
const one = await reader.GET("/api/v1/events/{event_id}", { params: { path: { event_id: first.id } } });
const seq: number | undefined = one.data?.data.seq;
assert.equal(seq, page.data?.data[0].seq);
assert.deepEqual(one.data?.data.payload, first.payload);
// @ts-expect-error: it has no such field
one.data?.data.nothing;
console.log("done");
"""

_TSCONFIG: Final = {
    "compilerOptions": {
        "strict": True,
        "module": "nodenext",
        "target": "es2022",
        "lib": ["es2023", "dom", "dom.iterable"],
        "types": ["node"],
        "outDir": "out",
    },
    "files": ["use.ts"],
}


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ApiProcess]:
    with ApiProcess(tmp_path / "api") as api:
        document = httpx.get(f"{api.url}/openapi.json", trust_env=False)
        assert document.status_code == 200
        (tmp_path / "openapi.json").write_bytes(document.content)
        yield api


def _run(directory: Path, *command: str | Path, api: ApiProcess | None = None, path: str = "") -> str:
    """Run it; what it prints.

    Raises:
        AssertionError: it failed.
    """
    environment = {**os.environ, "PATH": f"{path}:{os.environ['PATH']}" if path else os.environ["PATH"]}
    if api is not None:
        events: list[dict[str, Any]] = [report(k) for k in range(3)]
        environment |= {
            "API": api.url,
            "EVENTS": json.dumps(events),
            "SENSOR_TOKEN": api.minter.token(),
            "READER_TOKEN": ADMIN_TOKEN,
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }
    done = subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, f"{command[0]} failed:\n{done.stdout[-10_000:]}{done.stderr[-10_000:]}"
    return done.stdout + done.stderr


def test_python(api: ApiProcess, tmp_path: Path) -> None:
    _run(tmp_path, sys.executable, "-m", "venv", "venv")
    programs = tmp_path / "venv" / "bin"
    _run(tmp_path, programs / "pip", "install", "--quiet", PYTHON_GENERATOR)
    said = _run(
        tmp_path,
        programs / "openapi-python-client",
        *("generate", "--path", "openapi.json", "--meta", "none", "--output-path", "attune_client"),
        "--fail-on-warning",
        path=str(programs),
    )
    assert "warning" not in said.lower()
    (tmp_path / "use.py").write_text(_PYTHON)
    assert _run(tmp_path, programs / "python", "use.py", api=api).strip() == "done"


@pytest.mark.skipif(shutil.which("npm") is None, reason="needs npm")
def test_typescript(api: ApiProcess, tmp_path: Path) -> None:
    (tmp_path / "package.json").write_text('{"private": true, "type": "module"}')
    _run(tmp_path, "npm", "install", "--silent", "--no-audit", "--no-fund", *NODE_PACKAGES)
    (tmp_path / "use.ts").write_text(_TYPESCRIPT)
    (tmp_path / "tsconfig.json").write_text(json.dumps(_TSCONFIG))
    programs = tmp_path / "node_modules" / ".bin"
    said = _run(tmp_path, programs / "openapi-typescript", "openapi.json", "--output", "api.d.ts")
    assert "warn" not in said.lower(), said
    _run(tmp_path, programs / "tsc")
    assert _run(tmp_path, "node", "out/use.js", api=api).strip() == "done"
