"""No route holds a request's body before it knows who sends it, nor more of it than its bound."""

import gzip
import re
from collections.abc import Iterator

import httpx
import pytest
from support.api_process import ADMIN_TOKEN, ApiProcess
from support.process_memory import peak_mib, reset_peak

pytest_plugins = ["support.api_fixtures"]

REPORTS = ("/api/v1/events", "/api/v1/events/batch")
#: Cheap to send, and some 25 times as large once it is parsed.
LARGE = b'{"sensor_ref": [' + b"[]," * (8 * 1024 * 1024) + b"[]]}"
#: What one answer may add to the memory of the API, in MiB: far below the body, and above noise.
MOST_GROWTH = 12.0


def _routes(api: ApiProcess) -> list[tuple[str, str]]:
    """All routes that take a body, as the OpenAPI document of the running API has them."""
    document = httpx.get(f"{api.url}/openapi.json", trust_env=False, timeout=60).json()
    return [
        (method.upper(), re.sub(r"\{[^}]+\}", "x", path))
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if "requestBody" in operation
    ]


def _sensor(api: ApiProcess) -> str:
    return api.minter.token(metadata={"trigger_types": ["core.intervaltimer", "core.count"]})


def _in_pieces(body: bytes) -> Iterator[bytes]:
    for start in range(0, len(body), 256 * 1024):
        yield body[start : start + 256 * 1024]


@pytest.mark.parametrize("token", ["", "not-a-token"])
def test_a_stranger_s_large_body_is_refused_without_being_held(shared_api: ApiProcess, token: str) -> None:
    routes = _routes(shared_api)
    assert ("POST", "/auth/sensor-token") in routes
    assert len(routes) >= 3
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
    for method, path in routes:
        before = reset_peak(shared_api.process.pid)
        with httpx.Client(base_url=shared_api.url, headers=headers, timeout=60, trust_env=False) as client:
            answer = client.request(method, path, content=_in_pieces(LARGE))
        growth = peak_mib(shared_api.process.pid) - before
        assert answer.status_code == 401, (method, path, answer.text)
        assert growth < MOST_GROWTH, f"{method} {path} took {growth} MiB for {len(LARGE) >> 20} MiB of a stranger's"


def test_a_caller_s_large_body_is_refused_as_too_large(shared_api: ApiProcess) -> None:
    for method, path in _routes(shared_api):
        # Sensors may report events; everything else is for people.
        token = _sensor(shared_api) if path in REPORTS or path.startswith("/api/v1/sensor/") else ADMIN_TOKEN
        for encoding, body in (("identity", LARGE), ("gzip", gzip.compress(LARGE))):
            before = reset_peak(shared_api.process.pid)
            headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
            with httpx.Client(base_url=shared_api.url, headers=headers, timeout=60, trust_env=False) as client:
                try:
                    answer = client.request(
                        method, path, content=_in_pieces(body), headers={"Content-Encoding": encoding}
                    )
                    assert answer.status_code == 413, (method, path, encoding, answer.text)
                except httpx.WriteError:
                    pass  # after the bound and some more is read, the connection is closed on who still sends
            assert peak_mib(shared_api.process.pid) - before < MOST_GROWTH, (method, path, encoding)


async def test_a_token_request_is_read_as_json_of_64_kib_at_most(shared_api: ApiProcess) -> None:
    good = {"sensor_ref": "default/edge.thermometer", "trigger_types": ["edge.temperature"]}
    async with shared_api.reader() as admin:
        for content, content_type, status, kind in (
            (b"{", "application/json", 400, "invalid-json"),
            (b"\xff", "application/json", 400, "invalid-json"),
            (b"{}", "application/json", 422, "invalid-request"),
            (b"{}", "text/plain", 415, "unsupported-media-type"),
            (b'{"sensor_ref": "' + b"x" * 65_536 + b'"}', "application/json", 413, "body-too-large"),
        ):
            answer = await admin.post("/auth/sensor-token", content=content, headers={"Content-Type": content_type})
            assert (answer.status_code, answer.json()["type"]) == (status, f"urn:attune:problem:{kind}"), answer.text
        missing = await admin.post("/auth/sensor-token", json={"sensor_ref": "default/edge"})
        assert missing.json()["errors"] == [{"where": "body.trigger_types", "what": "Field required"}]
        assert (await admin.post("/auth/sensor-token", json=good)).status_code == 201
