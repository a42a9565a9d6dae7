"""What of a request is carried, what tells one delivery from another, how many are taken, and who has a path."""

import base64
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
import yaml
from multidict import CIMultiDict
from support.rule_stream import rule_state

from attune_api.events.reports import Report, read_report
from attune_sensor import EventReport, Rule
from attune_webhook.parameters import Auth, Hook, Scheme
from attune_webhook.payload import encoded, event_of, occurrence_of
from attune_webhook.rates import Bucket
from attune_webhook.routes import Route, Routes
from attune_webhook.secret_files import SecretFiles

PACK = Path(__file__).parents[3] / "packs" / "core"
NOW = datetime(2026, 11, 24, tzinfo=UTC)


def hook(scheme: Scheme = Scheme.NONE, **changes: Any) -> Hook:
    return Hook(**{"path": "/a", "auth": Auth(scheme=scheme, secrets=("h/a",)), **changes})


def occurrence(headers: dict[str, str], body: bytes = b"", scheme: Scheme = Scheme.NONE, **changes: Any) -> str:
    return occurrence_of(hook(scheme, **changes), headers=CIMultiDict(headers), body=body)


def test_deliveries_are_told_apart_by_the_names_that_senders_give_them() -> None:
    assert occurrence({"idempotency-key": "k"}) == "idempotency-key:k"
    assert occurrence({"Webhook-Id": "w"}) == "webhook-id:w"
    assert occurrence({"X-GitHub-Delivery": "g"}, scheme=Scheme.GITHUB) == "x-github-delivery:g"
    assert occurrence({"Idempotency-Key": "k", "X-GitHub-Delivery": "g"}) == "idempotency-key:k"
    assert occurrence({"X-Mine": "m", "Idempotency-Key": "k"}, id_header="x-mine") == "x-mine:m"
    assert occurrence({"Idempotency-Key": "k"}, id_header="x-mine") == "idempotency-key:k"


def test_without_a_name_each_request_is_an_occurrence_of_its_own() -> None:
    assert occurrence({}, b"same") != occurrence({}, b"same")
    assert occurrence({"Idempotency-Key": " "}) != occurrence({"Idempotency-Key": " "})


def test_where_the_name_is_signed_no_other_counts() -> None:
    body = b'{"id": "evt_1", "type": "charge"}'
    assert occurrence({"Idempotency-Key": "k"}, body, Scheme.STRIPE) == "stripe:evt_1"
    assert occurrence({"Idempotency-Key": "k", "webhook-id": "w"}, b"", Scheme.STANDARD) == "webhook-id:w"
    assert len({occurrence({"Idempotency-Key": "k"}, b"[]", Scheme.STRIPE) for _ in range(2)}) == 2


@pytest.mark.parametrize(
    ("body", "content_type", "encoding"),
    [
        (b'{"a": [1, 2.5, null, "\xc3\xa9"]}', "application/json", "json"),
        (b"[]", "application/cloudevents+json", "json"),
        (b"{}", "text/plain", "text"),
        (b'{"a"', "application/json", "text"),
        (b'{"a": "\\u0000"}', "application/json", "text"),
        (b'{"a": "\\ud800"}', "application/json", "text"),
        (b"[" * 200 + b"]" * 200, "application/json", "text"),
        (b"[" * 100_000 + b"]" * 100_000, "application/json", "text"),
        (b"[" * 31 + b"]" * 31, "application/json", "text"),
        (b"[" * 30 + b"]" * 30, "application/json", "json"),
        (b"[" + b",".join([b"[]"] * 100) + b"]", "application/json", "json"),
        (b"a=b&c=d", "application/x-www-form-urlencoded", "text"),
        (b"a\0b", "text/plain", "base64"),
        (b"\xff\xfe", "text/plain", "base64"),
        (b"\x89PNG", "", "base64"),
        (b"", "application/json", "none"),
    ],
)
def test_every_body_can_be_carried_and_stored(body: bytes, content_type: str, encoding: str) -> None:
    assert encoded(body, content_type)[0] == encoding
    stored = carried(body, content_type)
    assert stored.payload["encoding"] == encoding
    match encoding:
        case "json":
            assert stored.payload["body"] == msgspec.json.decode(body)
        case "text":
            assert stored.payload["body"].encode() == body
        case "base64":
            assert base64.b64decode(stored.payload["body"]) == body
        case _:
            assert stored.payload["body"] is None


def made(body: bytes, content_type: str, **given: Any) -> EventReport:
    fields: dict[str, Any] = {
        "method": "POST",
        "query": {},
        "headers": CIMultiDict({"Content-Type": content_type}),
        "received_at": NOW,
        **given,
    }
    rule = Rule(state=rule_state(trigger_type="core.webhook"), since_us=0)
    return event_of(rule, hook(headers=("x-one", "user-agent")), body=body, **fields)


def carried(body: bytes, content_type: str, **given: Any) -> Report:
    """The event as the API reads it; it raises what the API refuses."""
    return read_report(msgspec.json.encode(made(body, content_type, **given)))


def test_only_the_headers_of_the_list_are_carried() -> None:
    headers = CIMultiDict({"X-ONE": "1", "Authorization": "Bearer s", "User-Agent": "a\udcff", "X-Two": "2"})
    stored = carried(b"", "", headers=headers, query={"a": ["1", "\0"]})
    assert stored.payload["headers"] == {"x-one": "1", "user-agent": "a?"}
    assert stored.payload["query"] == {"a": ["1", "\ufffd"]}


def test_payload_is_as_declared() -> None:
    sensor = yaml.safe_load((PACK / "core.webhook.yaml").read_text())
    [declared] = sensor["spec"]["triggerTypes"]
    for body, kind in ((b"{}", "application/json"), (b"\xff", ""), (b"", ""), (b"x", "text/plain")):
        jsonschema.Draft202012Validator(declared["payloadSchema"]).validate(
            carried(body, kind, query={"a": ["b"]}).payload
        )


def test_bucket_takes_a_burst_and_then_the_rate() -> None:
    bucket = Bucket(rate=2, burst=3, now=0)
    assert [bucket.take(0) for _ in range(4)] == [0, 0, 0, 1]
    assert bucket.take(0.5) == 0
    assert bucket.take(0.5) == 1
    assert [bucket.take(100) for _ in range(4)] == [0, 0, 0, 1]


def test_bucket_says_how_long_to_wait() -> None:
    bucket = Bucket(rate=0.1, burst=1, now=0)
    assert bucket.take(0) == 0
    assert bucket.take(0) == 10
    assert bucket.take(5) == 5


def route(number: int, path: str = "/a", *, age: int = 0) -> Route:
    state = rule_state(number, created_at=NOW - timedelta(seconds=age))
    return Route(rule=Rule(state=state, since_us=0), hook=hook(path=path), bucket=Bucket(rate=1, burst=1, now=0))


def test_the_oldest_rule_has_the_path_and_the_next_oldest_takes_over() -> None:
    routes = Routes()
    young, old, middle = route(1), route(2, age=10), route(3, age=5)
    for each in (young, old, middle):
        assert routes.put(each) == {"/a"}
    assert routes.find("/a") is old
    assert routes.at("/a") == [old, middle, young]
    assert routes.remove(old.rule.uid) == {"/a"}
    assert routes.find("/a") is middle
    assert routes.put(route(3, "/b", age=5)) == {"/a", "/b"}
    assert routes.find("/a") is young
    assert routes.remove("unknown") == set()
    assert routes.remove(young.rule.uid) == {"/a"}
    assert routes.find("/a") is None
    assert len(routes) == 1


def test_secrets_are_read_again_when_they_are_not_fresh(tmp_path: Any) -> None:
    now = [0.0]
    files = SecretFiles(tmp_path, clock=lambda: now[0])
    assert [files.read("h/a"), files.read("h/b")] == [None, None]
    (tmp_path / "h").mkdir()
    (tmp_path / "h" / "a").write_bytes(b"one\r\n")
    (tmp_path / "h" / "b").write_bytes(b"\n")
    assert files.read("h/a") is None
    now[0] = 1.0
    assert files.read("h/a") == b"one"
    assert files.read("h/b") is None, "an empty file is no secret"
    (tmp_path / "h" / "a").write_bytes(b"two")
    assert files.read("h/a") == b"one"
    now[0] = 2.0
    assert files.read("h/a") == b"two"
    assert SecretFiles(None).read("h/a") is None
