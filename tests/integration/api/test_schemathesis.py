"""The API is what its description says: requests made from it, good and bad ones, get answers that it names, and no 5xx."""

import asyncio
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from nats.js.api import StreamConfig
from support.api_process import ADMIN_TOKEN, ApiProcess, report
from support.eventually import until
from support.nats_client import connect
from support.nats_server import NatsServer

from attune_contract import subjects
from attune_operator.streams.definitions import acks_stream, history_stream, rules_stream

pytest_plugins = ["support.api_fixtures"]
pytestmark = pytest.mark.nats

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)


@pytest.mark.timeout(900)
async def test_no_5xx_and_no_undocumented_answer(tmp_path: Path, nats_server: NatsServer) -> None:
    with ApiProcess(tmp_path / "api", nats_url=nats_server.url) as api:
        await _make_streams(nats_server)
        async with api.client() as sensor, api.reader() as reader:
            events = [report(k) for k in range(50)]

            # Until the rule stream was read, the API does not know whose rules these are.
            async def stored() -> bool:
                return (await sensor.post("/api/v1/events/batch", json={"events": events})).status_code == 200

            await until(stored, within=30)
            for path in ("rules", "sensors"):
                await until(lambda path=path: _answers(reader, path), within=30)  # type: ignore[misc]
            tokens = f"""
[auth.openapi.sensorToken]
bearer = "{api.minter.token()}"
[auth.openapi.callerToken]
bearer = "{ADMIN_TOKEN}"
"""
            configuration = tmp_path / "schemathesis.toml"
            configuration.write_text(tokens)
            done = await asyncio.to_thread(_schemathesis, tmp_path, configuration, api.url)
            assert done.returncode == 0, done.stdout[-20_000:]
            paths = (await reader.get("/openapi.json")).json()["paths"]
            operations = sum(len(path) for path in paths.values()) - 2  # without the two that stream
            assert f"Tested: {operations}" in done.stdout, done.stdout[-5000:]
            assert api.events_logged("request_failed") == []
            for query, status in (("?limit=1", 422), ("?after_seq=x", 422), ("?payload.=1", 422)):
                answer = await reader.get(f"/api/v1/events/stream{query}")
                assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")


def _schemathesis(directory: Path, configuration: Path, url: str) -> "subprocess.CompletedProcess[str]":
    program = str(Path(sys.executable).parent / "schemathesis")
    arguments = [
        *("--config-file", str(configuration), "run", f"{url}/openapi.json"),
        # It has no end; its answers that have one are tried by the test itself.
        *("--exclude-operation-id", "streamEvents"),
        *("--exclude-operation-id", "streamRuns"),
        *("--phases", "examples,coverage,fuzzing", "--max-examples", "10", "--seed", "6"),
        *("--checks", ",".join(CHECKS), "--continue-on-failure"),
        *("--generation-database", "none", "--no-color", "--request-timeout", "30"),
    ]
    return subprocess.run(
        [program, *arguments], cwd=directory, capture_output=True, text=True, check=False, timeout=400
    )


async def _make_streams(server: NatsServer) -> None:
    """As the operator makes them."""
    client = await connect(server.url)
    jetstream = client.jetstream(timeout=60)
    for config in (
        rules_stream(replicas=1),
        acks_stream(replicas=1),
        history_stream(replicas=1, per_rule=50, max_age=0),
        StreamConfig(name=subjects.IDENTITIES_STREAM, subjects=[subjects.ALL_IDENTITIES], max_msgs_per_subject=1),
    ):
        await jetstream.add_stream(config)
    await client.close()


async def _answers(reader: httpx.AsyncClient, path: str) -> bool:
    return (await reader.get(f"/api/v1/{path}")).status_code == 200
