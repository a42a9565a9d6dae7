"""What of a request is carried, what tells one delivery from another, how many are taken, and who has a path."""

import base64
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
import yaml
from support.rule_stream import rule_state
from support.webhook_requests import request

from attune_api.events.ingest.reports import read_report
from attune_kit.secret_files import SecretFiles
from attune_sensor import EventReport, Rule
from attune_webhook.bodies import read_body
from attune_webhook.identity import occurrence_of
from attune_webhook.parameters import Hook, hook_of
from attune_webhook.payload import event_of
from attune_webhook.rates import Bucket
from attune_webhook.routes import Route, Routes

PACK = Path(__file__).parents[3] / "packs" / "core"
NOW = datetime(2026, 11, 24, tzinfo=UTC)


def hook(scheme: str = "none", **changes: Any) -> Hook:
    secrets = {} if scheme == "none" else {"secrets": ["h/a"]}
    parameters = {"path": "/a", "auth": {"type": scheme, **secrets}, **changes}
    return hook_of(Rule(state=rule_state(parameters=parameters, trigger_type="core.webhook"), since_us=0))


def occurrence(headers: dict[str, str], body: bytes = b"", scheme: str = "none", **changes: Any) -> str:
    return occurrence_of(hook(scheme, **changes), request({"content-type": "application/json", **headers}, body))


def test_deliveries_are_told_apart_by_the_names_that_senders_give_them() -> None:
    assert occurrence({"idempotency-key": "k"}) == "idempotency-key:k"
    assert occurrence({"Webhook-Id": "w"}) == "webhook-id:w"
    assert occurrence({"X-GitHub-Delivery": "g"}, scheme="github") == "x-github-delivery:g"
    assert occurrence({"Idempotency-Key": "k", "X-GitHub-Delivery": "g"}) == "idempotency-key:k"
    assert occurrence({"X-Mine": "m", "Idempotency-Key": "k"}, idHeader="X-Mine") == "x-mine:m"
    assert occurrence({"Idempotency-Key": "k"}, idHeader="X-Mine") == "idempotency-key:k"


def test_without_a_name_each_request_is_an_occurrence_of_its_own() -> None:
    assert occurrence({}, b"same") != occurrence({}, b"same")
    assert occurrence({"Idempotency-Key": " "}) != occurrence({"Idempotency-Key": " "})


def test_where_the_name_is_signed_no_other_counts() -> None:
    body = b'{"id": "evt_1", "type": "charge"}'
    assert occurrence({"Idempotency-Key": "k"}, body, "stripe") == "stripe:evt_1"
    assert occurrence({"Idempotency-Key": "k", "webhook-id": "w"}, b"", "standard") == "webhook-id:w"
    assert len({occurrence({"Idempotency-Key": "k"}, b"[]", "stripe") for _ in range(2)}) == 2


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
        (b"a=b&c=d", "application/x-www-form-urlencoded", "form"),
        (b"\xff=b", "application/x-www-form-urlencoded", "base64"),
        (b"a=%00", "application/x-www-form-urlencoded", "text"),
        (b"a=%ff", "application/x-www-form-urlencoded", "text"),
        (b"&".join([b"a=b"] * 1001), "application/x-www-form-urlencoded", "text"),
        (b'payload={"a": 1}', "application/x-www-form-urlencoded", "json"),
        (b"payload=x", "application/x-www-form-urlencoded", "form"),
        (b'{"a": "C:\\\\u0000x"}', "application/json", "json"),
        (b"--b\r\n", "multipart/form-data; boundary=b", "text"),
        (b"--b\r\n", "multipart/form-data", "text"),
        (b"a\0b", "text/plain", "base64"),
        (b"\xff\xfe", "text/plain", "base64"),
        (b"\x89PNG", "", "base64"),
        (b"", "application/json", "none"),
    ],
)
def test_every_body_can_be_carried_and_stored(body: bytes, content_type: str, encoding: str) -> None:
    assert read_body(body, content_type).encoding == encoding
    stored = carried(body, content_type)
    assert stored.payload["encoding"] == encoding
    match encoding:
        case "json" if "form" not in content_type:
            assert stored.payload["body"] == msgspec.json.decode(body)
        case "form" | "json" if "form" in content_type:
            pass
        case "text":
            assert stored.payload["body"].encode() == body
        case "base64":
            assert base64.b64decode(stored.payload["body"]) == body
        case _:
            assert stored.payload["body"] is None


def made(body: bytes, content_type: str, *, target: str = "/a", headers: dict[str, str] | None = None) -> EventReport:
    rule = Rule(state=rule_state(trigger_type="core.webhook"), since_us=0)
    found = request({"Content-Type": content_type, **(headers or {})}, body, target=target)
    return event_of(rule, hook(headers=["x-one", "user-agent"]), found, received_at=NOW, trace=found.trace)


def carried(body: bytes, content_type: str, **given: Any) -> EventReport:
    """The event as the API reads it; it raises what the API refuses."""
    return read_report(msgspec.json.encode(made(body, content_type, **given)))


def test_only_the_headers_of_the_list_are_carried() -> None:
    headers = {"X-ONE": "1", "Authorization": "Bearer s", "User-Agent": "a\udcff", "X-Two": "2"}
    stored = carried(b"", "", headers=headers, target="/a?a=1&a=%00")
    assert stored.payload["headers"] == {"x-one": "1", "user-agent": "a?"}
    assert stored.payload["query"] == {"a": ["1", "\ufffd"]}


def test_the_sender_s_trace_is_the_event_s() -> None:
    traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    stored = carried(b"", "", headers={"Traceparent": traceparent, "tracestate": "a=1,b=2"})
    assert (stored.traceparent, stored.tracestate) == (traceparent, "a=1,b=2")
    for wrong in ("", "00-x", f"{traceparent}, {traceparent}", "\udcff"):
        stored = carried(b"", "", headers={"traceparent": wrong, "tracestate": "a=1"})
        assert (stored.traceparent, stored.tracestate) == ("", "")


def test_query_parameters_that_hold_secrets_are_not_carried() -> None:
    names = ["access_token", "api-key", "code", "hub.verify_token", "sig", "X-Amz-Signature", "key", "client_secret"]
    target = "/a?" + "&".join(f"{name}=s3cret" for name in names) + "&monkey=1&tokens_of_nothing=2&page=3"
    assert carried(b"", "", target=target).payload["query"] == {"monkey": ["1"], "page": ["3"]}


def test_multipart_becomes_fields_and_files() -> None:
    body = (
        b'--b\r\nContent-Disposition: form-data; name="title"\r\n\r\nHello\r\n'
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\nContent-Type: image/png\r\n'
        b"\r\n\x89\x00\r\n--b--\r\n"
    )
    stored = carried(body, "multipart/form-data; boundary=b").payload
    assert stored["encoding"] == "form"
    assert stored["body"] == {
        "title": "Hello",
        "file": {"filename": "a.bin", "contentType": "image/png", "base64": "iQA="},
    }


def test_multipart_with_too_many_parts_is_carried_as_text() -> None:
    part = b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n'
    assert read_body(part * 100 + b"--b--\r\n", "multipart/form-data; boundary=b").encoding == "form"
    assert read_body(part * 101 + b"--b--\r\n", "multipart/form-data; boundary=b").encoding == "text"


def test_form_fields_are_texts_and_repeated_ones_lists() -> None:
    found = read_body(b"a=1&b=x+y&a=%C3%A9&c=", "application/x-www-form-urlencoded")
    assert found.data == {"a": ["1", "é"], "b": "x y", "c": ""}


def test_payload_is_as_declared() -> None:
    sensor = yaml.safe_load((PACK / "core.webhook.yaml").read_text())
    [declared] = sensor["spec"]["triggerTypes"]
    for body, kind in ((b"{}", "application/json"), (b"\xff", ""), (b"", ""), (b"x", "text/plain")):
        jsonschema.Draft202012Validator(declared["payloadSchema"]).validate(
            carried(body, kind, target="/a?a=b").payload
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


def route(number: int, path: str = "/a", *, age: int = 0, enabled: bool = True, **parameters: Any) -> Route:
    state = rule_state(number, created_at=NOW - timedelta(seconds=age), enabled=enabled)
    return Route(
        rule=Rule(state=state, since_us=0), hook=hook(path=path, **parameters), bucket=Bucket(rate=1, burst=1, now=0)
    )


def test_the_oldest_rule_has_the_path_and_the_next_oldest_takes_over() -> None:
    routes = Routes()
    young, old, middle = route(1), route(2, age=10), route(3, age=5)
    for each in (young, old, middle):
        assert routes.put(each) == {"/a"}
    assert routes.find("/a") == (old,)
    assert routes.at("/a") == [old, middle, young]
    assert routes.remove(old.rule.uid) == {"/a"}
    assert routes.find("/a") == (middle,)
    assert routes.put(route(3, "/b", age=5)) == {"/a", "/b"}
    assert routes.find("/a") == (young,)
    assert routes.remove("unknown") == set()
    assert routes.remove(young.rule.uid) == {"/a"}
    assert routes.find("/a") == ()
    assert len(routes) == 1


def test_rules_with_different_conditions_share_a_path() -> None:
    routes = Routes()
    push = route(1, when={"headers": {"X-GitHub-Event": "push"}}, age=9)
    same = route(2, when={"headers": {"x-github-event": ["push"]}})
    rest = route(3)
    for each in (push, same, rest):
        routes.put(each)
    assert routes.find("/a") == (push, rest)
    assert routes.serving_instead(same) is push
    assert routes.serving_instead(rest) is None


def test_a_disabled_rule_yields_its_path() -> None:
    routes = Routes()
    disabled, young = route(1, age=9, enabled=False), route(2)
    routes.put(disabled)
    assert routes.find("/a") == (disabled,)
    routes.put(young)
    assert routes.find("/a") == (young,)


def test_literal_paths_go_before_templates_and_the_more_specific_template_first() -> None:
    routes = Routes()
    found = {
        path: route(number, path) for number, path in enumerate(("/a/{x}/c", "/a/{x}/{y}", "/{z}/b/c", "/a/b/c"), 1)
    }
    for each in found.values():
        routes.put(each)
    assert routes.find("/a/b/c") == (found["/a/b/c"],)
    assert routes.find("/a/q/c") == (found["/a/{x}/c"],)
    assert routes.find("/a/q/r") == (found["/a/{x}/{y}"],)
    assert routes.find("/q/b/c") == (found["/{z}/b/c"],)
    assert routes.find("/a/b") == routes.find("/a/b/c/") == routes.find("/a//c") == ()
    routes.remove(found["/a/{x}/c"].rule.uid)
    assert routes.find("/a/q/c") == (found["/a/{x}/{y}"],)


def test_ids_of_several_parts_count_together() -> None:
    one = occurrence({"ce-source": "/a", "ce-id": "1"})
    assert one == occurrence({"CE-Source": "/a", "ce-id": "1"}, idHeader=["ce-source", "ce-id"])
    assert one != occurrence({"ce-source": "/b", "ce-id": "1"})
    assert occurrence({"x-a": "1", "x-b": "2:3"}, idHeader=["x-a", "x-b"]) != occurrence(
        {"x-a": "1:2", "x-b": "3"}, idHeader=["x-a", "x-b"]
    )


def test_ids_are_found_in_the_body() -> None:
    body = b'{"source": "/a", "id": 7, "events": [{"id": "e"}]}'
    assert occurrence({}, body, idField="events.0.id") == "none:e"
    assert occurrence({}, body, idField=["source", "id"]) == occurrence({}, body, idField=["source", "id"])
    assert occurrence({"content-type": "application/cloudevents+json"}, body) == occurrence(
        {"content-type": "application/cloudevents+json; charset=utf-8"}, body, idField="nothing"
    )
    assert occurrence({}, b'{"event_id": "Ev1"}', "slack") == "slack:Ev1"


def test_long_ids_differ_at_their_ends() -> None:
    assert occurrence({"Idempotency-Key": "k" * 600 + "1"}) != occurrence({"Idempotency-Key": "k" * 600 + "2"})
    assert occurrence({"Idempotency-Key": "k" * 600}) == occurrence({"Idempotency-Key": "k" * 600})


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
