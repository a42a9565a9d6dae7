"""What the webhook sensor makes of requests: targets, methods, bodies, batches, and several rules on one path."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from support.webhook_hooks import OPEN, Hooks, running
from support.webhook_senders import hex_hmac

from attune_sensor import AckState


@pytest.fixture
async def hooks(tmp_path: Path) -> AsyncIterator[Hooks]:
    async with running(tmp_path) as made:
        yield made


def payloads(hooks: Hooks) -> list[dict[str, Any]]:
    return [event.payload for event in hooks.harness.api.events]


# -- targets and methods -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"http://hooks.example.org/a", "/a"),
        (b"HTTPS://hooks.example.org:443/a?x=1", "/a"),
        (b"/%61", "/a"),
        (b"/a?x=http://y/z", "/a"),
        (b"/", "/"),
        (b"http://hooks.example.org", "/"),
        (b"/slash/", "/slash/"),
        (b"/.well-known/x", "/.well-known/x"),
    ],
)
async def test_target(hooks: Hooks, target: bytes, path: str) -> None:
    for number, each in enumerate(("/a", "/", "/slash/", "/.well-known/x")):
        await hooks.rule(each, name=f"rule-{number}")
    head = b"POST " + target + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"
    assert (await hooks.raw(head)).startswith(b"HTTP/1.1 202")
    [payload] = payloads(hooks)
    assert payload["path"] == path


async def test_named_segments_are_in_the_event(hooks: Hooks) -> None:
    await hooks.rule("/teams/{team}/hooks/{hook}", name="templated")
    await hooks.rule("/teams/red/hooks/ci", name="literal")
    assert [await hooks.status(path) for path in ("/teams/blue/hooks/x%20y", "/teams/red/hooks/ci", "/teams/red")] == [
        202,
        202,
        404,
    ]
    templated, literal = payloads(hooks)
    assert templated["pathParameters"] == {"team": "blue", "hook": "x y"}
    assert templated["path"] == "/teams/blue/hooks/x y"
    assert "pathParameters" not in literal


async def test_head_says_whether_a_path_is_served(hooks: Hooks) -> None:
    await hooks.rule("/a")
    async with hooks.session.head(hooks.url + "/a") as answer:
        assert (answer.status, await answer.read()) == (200, b"")
    async with hooks.session.head(hooks.url + "/b") as answer:
        assert (answer.status, await answer.read()) == (404, b"")
    assert hooks.harness.api.events == []


async def test_health_path(tmp_path: Path) -> None:
    async with running(tmp_path, healthPath="/") as hooks:
        await hooks.rule("/a")
        async with hooks.session.get(hooks.url + "/") as answer:
            assert (answer.status, await answer.json()) == (200, {"status": "ok"})
        rule = await hooks.rule("/", name="root", state=AckState.REJECTED)
        assert "is the health path of this sensor" in hooks.harness.message(rule)


async def test_answers_name_no_version_of_the_server(hooks: Hooks) -> None:
    await hooks.rule("/a")
    _, _, headers = await hooks.send("/a")
    assert "Server" not in headers
    assert "Date" in headers


@pytest.mark.parametrize(
    "head",
    [
        b"GET /a\x00b HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /a HTTP/1.1\r\nHost: x\r\nHost: y\r\nContent-Length: 0\r\n\r\n",
        b"POST /a HTTP/1.1\r\nHost: x\r\nBad Header: y\r\nContent-Length: 0\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"nonsense\r\n\r\n",
    ],
)
async def test_malformed_requests_get_a_problem_document_that_quotes_nothing(hooks: Hooks, head: bytes) -> None:
    await hooks.rule("/a")
    answer = await hooks.raw(head)
    first, _, rest = answer.partition(b"\r\n")
    assert first == b"HTTP/1.1 400 Bad Request"
    assert b"Content-Type: application/problem+json" in rest
    problem = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert problem["status"] == 400
    assert hooks.harness.api.events == []


@pytest.mark.parametrize(
    "extra", [b"X-Long: " + b"a" * 20_000 + b"\r\n", b"X-A: b\r\n" * 200, b"X-Long: " + b"a" * 20_000]
)
async def test_a_head_that_is_too_large(hooks: Hooks, extra: bytes) -> None:
    await hooks.rule("/a")
    answer = await hooks.raw(b"POST /a HTTP/1.1\r\nHost: x\r\n" + extra + b"\r\n")
    assert answer.startswith(b"HTTP/1.1 431 ")


async def test_an_empty_content_encoding_is_none(hooks: Hooks) -> None:
    await hooks.rule("/a")
    assert await hooks.status("/a", Content_Encoding="") == 202
    assert await hooks.status("/a", Content_Encoding="identity") == 202


async def test_an_offer_of_another_protocol_is_declined(hooks: Hooks) -> None:
    """As Java's HttpClient asks for HTTP/2."""
    await hooks.rule("/a")
    upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABk\r\n"
    answer = await hooks.raw(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n" + upgrade + b"\r\n{}")
    assert answer.startswith(b"HTTP/1.1 202")
    assert len(hooks.harness.api.events) == 1


async def test_requests_that_are_sent_ahead_are_answered_in_order(hooks: Hooks) -> None:
    await hooks.rule("/a")
    requests = b"".join(
        b"POST /a HTTP/1.1\r\nHost: x\r\nIdempotency-Key: k-%d\r\nContent-Length: 2\r\n\r\n{}" % number
        for number in range(50)
    )
    answer = await hooks.raw(requests + b"GET /none HTTP/1.1\r\nHost: x\r\n\r\n")
    ids = [json.loads(part.partition(b"\r\n\r\n")[2])["id"] for part in answer.split(b"HTTP/1.1 202 ")[1:50]]
    assert ids == [str(event.id) for event in hooks.harness.api.events][:49]
    assert b"HTTP/1.1 404" in answer


async def test_http_1_0(hooks: Hooks) -> None:
    await hooks.rule("/a")
    answer = await hooks.raw(b"POST /a HTTP/1.0\r\nContent-Length: 2\r\n\r\n{}")
    assert answer.startswith(b"HTTP/1.1 202")
    assert b"Connection: close" in answer


async def test_repeated_headers_are_joined_so_that_no_second_token_counts(hooks: Hooks) -> None:
    hooks.secret("hooks/key", "s3cret-key")
    await hooks.rule("/a", auth={"type": "bearer", "secrets": ["hooks/key"]})
    head = b"POST /a HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer s3cret-key\r\nAuthorization: Bearer other\r\n"
    assert (await hooks.raw(head + b"Content-Length: 0\r\n\r\n")).startswith(b"HTTP/1.1 401")


# -- bodies --------------------------------------------------------------------------------------------------------------


async def test_form_is_carried_as_fields(hooks: Hooks) -> None:
    await hooks.rule("/a")
    await hooks.send("/a", b"command=%2Fdeploy&text=a+b", Content_Type="application/x-www-form-urlencoded")
    [payload] = payloads(hooks)
    assert (payload["encoding"], payload["body"]) == ("form", {"command": "/deploy", "text": "a b"})


async def test_text_is_read_as_json_where_the_rule_asks_for_it(hooks: Hooks) -> None:
    await hooks.rule("/a", parseJson=True)
    await hooks.send("/a", b'{"a": 1}', Content_Type="text/plain")
    await hooks.send("/a", b"not JSON", Content_Type="text/plain")
    assert [payload["encoding"] for payload in payloads(hooks)] == ["json", "text"]


async def test_each_event_of_a_batch_is_one_event(hooks: Hooks) -> None:
    await hooks.rule("/a")
    batch = json.dumps([{"specversion": "1.0", "source": "/s", "id": str(number), "type": "t"} for number in range(3)])
    for _ in range(2):
        status, answer, _ = await hooks.send(
            "/a", batch.encode(), Content_Type="application/cloudevents-batch+json; charset=utf-8"
        )
        assert status == 202
        assert len(answer["events"]) == 3
    assert {each["status"] for each in answer["events"]} == {"duplicate"}
    assert [payload["body"]["id"] for payload in payloads(hooks)] == ["0", "1", "2"]


async def test_a_batch_without_events_is_accepted_and_one_with_too_many_is_not(hooks: Hooks) -> None:
    await hooks.rule("/a", batch=True)
    assert (await hooks.send("/a", b"[]"))[:2] == (202, {"status": "ignored"})
    assert await hooks.status("/a", json.dumps([{}] * 1001).encode()) == 413
    assert hooks.harness.api.events == []


async def test_query_parameters_that_hold_secrets_are_not_stored(hooks: Hooks) -> None:
    await hooks.rule("/a")
    await hooks.send("/a?access_token=s3cret&page=1")
    assert payloads(hooks)[0]["query"] == {"page": ["1"]}


# -- several rules on one path -------------------------------------------------------------------------------------------


async def test_rules_on_one_path_are_told_apart_by_their_conditions(hooks: Hooks) -> None:
    await hooks.rule("/a", name="push", when={"headers": {"X-GitHub-Event": "push"}})
    await hooks.rule("/a", name="main", when={"headers": {"X-GitHub-Event": "push"}, "fields": {"ref": ["main", 1]}})
    await hooks.rule("/a", name="private", when={"fields": {"repo.private": True}})

    async def served(body: bytes, **headers: str) -> list[str]:
        before = len(hooks.harness.api.events)
        status, answer, _ = await hooks.send("/a", body, **headers)
        assert status == 202
        names = [event.rule_name for event in hooks.harness.api.events[before:]]
        assert names or answer == {"status": "ignored"}
        return sorted(names)

    assert await served(b"{}", X_GitHub_Event="push") == ["push"]
    assert await served(b'{"ref": "main"}', X_GitHub_Event="push") == ["main", "push"]
    assert await served(b'{"ref": true, "repo": {"private": true}}', X_GitHub_Event="ping") == ["private"]
    assert await served(b'{"repo": {"private": 1}}') == []


async def test_a_rule_without_a_condition_gets_every_request(hooks: Hooks) -> None:
    await hooks.rule("/a", name="some", when={"fields": {"x": 1}})
    await hooks.rule("/a", name="all")
    status, answer, _ = await hooks.send("/a", b'{"x": 1}', Idempotency_Key="k")
    assert status == 202
    assert len(answer["events"]) == 2
    assert {event.rule_name for event in hooks.harness.api.events} == {"some", "all"}


async def test_a_rule_with_the_same_condition_is_rejected(hooks: Hooks) -> None:
    when = {"headers": {"X-A": ["1", "2"]}}
    await hooks.rule("/a", name="first", when=when)
    second = await hooks.rule("/a", name="second", state=AckState.REJECTED, when={"headers": {"x-a": ["2", "1"]}})
    assert (
        "parameters.when: the rule default/first, which is older, has the same condition on /a"
        in hooks.harness.message(second)
    )


async def test_each_rule_of_a_path_has_its_own_senders(hooks: Hooks) -> None:
    """A request goes to the rules whose sender it comes from."""
    hooks.secret("hooks/red", "red-secret")
    hooks.secret("hooks/blue", "blue-secret")
    for name in ("red", "blue"):
        auth = {"type": "github", "secrets": [f"hooks/{name}"]}
        await hooks.rule("/a", name=name, auth=auth, when={"fields": {"to": [name, "both"]}})
    for secret, to, expected in (
        (b"red-secret", "red", ["red"]),
        (b"red-secret", "both", ["red"]),
        (b"red-secret", "blue", []),
        (b"blue-secret", "blue", ["blue"]),
    ):
        body = json.dumps({"to": to, "by": secret.decode()[:3]}).encode()
        before = len(hooks.harness.api.events)
        status = await hooks.status("/a", body, X_Hub_Signature_256=f"sha256={hex_hmac(secret, body)}")
        assert status == 202
        assert [event.rule_name for event in hooks.harness.api.events[before:]] == expected
    assert await hooks.status("/a", b"{}", X_Hub_Signature_256=f"sha256={hex_hmac(b'other-secret', b'{}')}") == 401


async def test_answer_is_what_the_rule_says(hooks: Hooks) -> None:
    for number, answer in enumerate((200, 201, 202, 204)):
        await hooks.rule(f"/a{number}", answer=answer, auth=OPEN)
        async with hooks.session.post(hooks.url + f"/a{number}", data=b"{}") as found:
            assert found.status == answer
            assert bool(await found.read()) is (answer != 204)
