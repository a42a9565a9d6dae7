"""Bodies that no sensor should send: each a 4xx problem document, nothing stored, and the API goes on."""

import gzip
import json
import socket
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.api_process import ApiProcess, report

pytest_plugins = ["support.api_fixtures"]

_JSON = {"Content-Type": "application/json"}


def _with(**changes: Any) -> bytes:
    return json.dumps(report(**changes)).encode()


def _payload(text: bytes) -> bytes:
    return _with(payload={"here": "PLACE"}).replace(b'"PLACE"', text)


BODIES: dict[str, tuple[bytes, int]] = {
    "empty": (b"", 400),
    "not JSON": (b"hello", 400),
    "JSON cut short": (_with()[:-1], 400),
    "something after it": (_with() + b"{}", 400),
    "not UTF-8": (_payload(b'"\xff\xfe"'), 400),
    "UTF-8 of a surrogate": (_payload(b'"\xed\xa0\x80"'), 400),
    "escaped lone surrogate": (_payload(rb'"\ud800"'), 400),
    "byte order mark": (b"\xef\xbb\xbf" + _with(), 400),
    "UTF-16": (_with().decode().encode("utf-16"), 400),
    "raw NUL": (_payload(b'"\x00"'), 400),
    "escaped NUL in a value": (_payload(rb'"a\u0000b"'), 422),
    "escaped NUL in a key": (_payload(rb'{"a\u0000": 1}'), 422),
    "escaped NUL deep down": (_payload(rb'[[{"a": ["\u0000"]}]]'), 422),
    "NaN": (_payload(b"NaN"), 400),
    "Infinity": (_payload(b"-Infinity"), 400),
    "number beyond a double": (_payload(b"1e999"), 422),
    "number with 5,000 digits": (_payload(b"9" * 5000), 422),
    "33 deep": (_payload(b"[" * 32 + b"]" * 32), 422),
    "100,000 deep": (_payload(b"[" * 100_000 + b"]" * 100_000), 422),
    "100,000 deep outside": (b"[" * 100_000 + b"]" * 100_000, 422),
    "a list": (b"[]", 422),
    "a number": (b"7", 422),
    "null": (b"null", 422),
    "id that is no UUID": (_with(id="abc"), 422),
    "id that is a number": (_with(id=7), 422),
    "payload that is a list": (_with(payload=[]), 422),
    "payload that is null": (_with(payload=None), 422),
    "time without a zone": (_with(occurred_at="2026-11-23T12:00:00"), 422),
    "time as a number": (_with(occurred_at=1795437443), 422),
    "year 0": (_with(occurred_at="0000-01-01T00:00:00Z"), 422),
    "year 1": (_with(occurred_at="0001-01-01T00:00:00+10:00"), 422),
    "year 9999": (_with(occurred_at="9999-12-31T23:59:59-10:00"), 422),
    "no such day": (_with(occurred_at="2026-02-30T00:00:00Z"), 422),
    "trigger type with a wildcard": (_with(trigger_type="core.*"), 422),
    "rule uid that is a subject": (_with(rule_uid="a.b.>"), 422),
    "empty rule uid": (_with(rule_uid=""), 422),
    "namespace with a dot": (_with(rule_namespace="a.b"), 422),
    "namespace with a line break": (_with(rule_namespace="default\n"), 422),
    "name with a slash": (_with(rule_name="a/b"), 422),
    "long name": (_with(rule_name="a" * 254), 422),
    "body of 1 MiB and more": (_with(payload={"x": "y" * (1024 * 1024)}), 413),
    "body of 10 MiB": (_with(payload={"x": "y" * (10 * 1024 * 1024)}), 413),
    **{
        f"without {name}": (json.dumps({k: v for k, v in report().items() if k != name}).encode(), 422)
        for name in report()
    },
}


@pytest.mark.parametrize("case", BODIES)
async def test_a_bad_body_is_refused_with_a_reason(shared_api: ApiProcess, case: str) -> None:
    body, status = BODIES[case]
    async with shared_api.client() as client, shared_api.reader() as reader:
        answer = await client.post("/api/v1/events", content=body, headers=_JSON)
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        document = answer.json()
        assert document["status"] == status
        assert len(document["detail"]) < 1000
        assert document["type"].startswith("urn:attune:problem:")
        assert (await reader.get("/api/v1/events")).json()["data"] == []


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({"Content-Encoding": "gzip"}, b"not gzip", 400),
        ({"Content-Encoding": "gzip"}, gzip.compress(_with())[:-5], 400),
        ({"Content-Encoding": "gzip"}, gzip.compress(_with()) + b"more", 400),
        ({"Content-Encoding": "gzip"}, gzip.compress(b" " * (200 * 1024 * 1024), compresslevel=1)[: 1024 * 1024], 413),
        ({"Content-Encoding": "br"}, _with(), 415),
        ({"Content-Type": "text/plain"}, _with(), 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, _with(), 415),
        ({f"X-Header-{n}": "x" for n in range(200)}, _with(), 431),
    ],
)
async def test_a_bad_wrapping_is_refused_with_a_reason(
    shared_api: ApiProcess, headers: dict[str, str], body: bytes, status: int
) -> None:
    async with shared_api.client() as client:
        answer = await client.post("/api/v1/events", content=body, headers={**_JSON, **headers})
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"


async def test_a_bad_batch_is_refused_as_a_whole(shared_api: ApiProcess) -> None:
    async with shared_api.client() as client:
        for body in (b"[]", b"{}", b'{"events": 7}', b'{"events": {}}', b'{"events": ' + b"[" * 50_000):
            answer = await client.post("/api/v1/events/batch", content=body, headers=_JSON)
            assert answer.status_code in (400, 422), answer.text
            assert answer.headers["content-type"] == "application/problem+json"


def test_a_client_that_leaves_in_the_middle_disturbs_nobody(shared_api: ApiProcess) -> None:
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", shared_api.port), timeout=60) as connection:
            connection.sendall(
                b"POST /api/v1/events HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n"
                b"Authorization: Bearer " + shared_api.minter.token().encode() + b"\r\n\r\n{"
            )
    assert httpx.get(shared_api.url + "/health", trust_env=False, timeout=60).status_code == 200
    assert shared_api.events_logged("request_failed") == []


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.dictionaries(st.sampled_from(sorted(report())), _VALUES, max_size=3), batch=st.booleans())
def test_whatever_comes_the_answer_is_no_5xx(shared_api: ApiProcess, changes: dict[str, Any], batch: bool) -> None:
    # Generated payloads may be good ones; they are kept out of the way of the other tests of this module.
    event = {**report(trigger_type="fuzz.type"), **changes}
    body = json.dumps({"events": [event]} if batch else event).encode("utf-8", "surrogatepass")
    headers = {**_JSON, "Authorization": f"Bearer {shared_api.minter.token()}"}
    path = "/api/v1/events/batch" if batch else "/api/v1/events"
    answer = httpx.post(shared_api.url + path, content=body, headers=headers, trust_env=False, timeout=60)
    if batch and answer.status_code == 200:
        assert [result["status"] for result in answer.json()["data"]] == ["refused"]
    else:
        assert answer.status_code in (400, 403, 422), answer.text
        assert answer.headers["content-type"] == "application/problem+json"
