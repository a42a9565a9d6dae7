"""The webhook sensor over real HTTP. Each row of the table in docs/webhook.md ("What is refused, and how") is a test here."""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.eventually import until
from support.webhook_hooks import OPEN, Hooks, running

from attune_contract.events import event_id
from attune_sensor import AckState, SensorContext, SettingsError


@pytest.fixture
async def hooks(tmp_path: Path) -> AsyncIterator[Hooks]:
    async with running(tmp_path) as made:
        yield made


def github(secret: str, body: bytes) -> str:
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def stripe(secret: str, body: bytes, *, age: int = 0) -> str:
    signed = int(time.time()) - age
    return f"t={signed},v1=" + hmac.new(secret.encode(), f"{signed}.".encode() + body, hashlib.sha256).hexdigest()


# -- what is taken -----------------------------------------------------------------------------------------------------


async def test_request_becomes_an_event_and_the_answer_names_it(hooks: Hooks) -> None:
    rule = await hooks.rule("/a/b", headers=["X-Kind"])
    status, answer, _ = await hooks.send("/a/b?x=1&x=2&y=", b'{"n": [1, {"m": null}]}', X_Kind="k", X_Other="o")
    event = await hooks.harness.next_event()
    assert (status, answer) == (202, {"id": str(event.id), "status": "stored"})
    assert event.rule_uid == rule.uid
    assert event.payload == {
        "method": "POST",
        "path": "/a/b",
        "query": {"x": ["1", "2"], "y": [""]},
        "headers": {"x-kind": "k"},
        "contentType": "application/json",
        "encoding": "json",
        "body": {"n": [1, {"m": None}]},
        "rule": rule.ref,
    }


async def test_delivery_that_is_repeated_is_one_event(hooks: Hooks) -> None:
    rule = await hooks.rule("/a")
    first = await hooks.send("/a", b"{}", Idempotency_Key="k-1")
    again = await hooks.send("/a", b"{}", Idempotency_Key="k-1")
    other = await hooks.send("/a", b"{}", Idempotency_Key="k-2")
    assert [answer["status"] for _, answer, _ in (first, again, other)] == ["stored", "duplicate", "stored"]
    assert first[1]["id"] == again[1]["id"] == str(event_id(rule.uid, "idempotency-key:k-1"))
    assert len(hooks.harness.api.events) == 2


async def test_connection_is_used_again(hooks: Hooks) -> None:
    await hooks.rule("/a")
    request = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
    answer = await hooks.raw(request * 2 + b"GET /none HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer.count(b"HTTP/1.1 202") == 2
    assert answer.count(b"HTTP/1.1 404") == 1


async def test_sender_that_asks_before_it_sends_is_told_to(hooks: Hooks) -> None:
    await hooks.rule("/a")
    answer = await hooks.raw(
        b"POST /a HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nConnection: close\r\nContent-Length: 2\r\n\r\n",
        then=b"{}",
        pause=0.1,
    )
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 202")


async def test_get_without_a_body_is_taken_where_the_rule_says_so(hooks: Hooks) -> None:
    await hooks.rule("/a", methods=["GET"])
    async with hooks.session.get(hooks.url + "/a?ping=1") as answer:
        assert answer.status == 202
    event = await hooks.harness.next_event()
    assert (event.payload["method"], event.payload["encoding"]) == ("GET", "none")


async def test_signed_requests_are_taken(hooks: Hooks) -> None:
    hooks.secret("hooks/key", "s3cret-key")
    for scheme, headers in (
        ("bearer", {"Authorization": "Bearer s3cret-key"}),
        ("github", {"X-Hub-Signature-256": github("s3cret-key", b"{}")}),
        ("stripe", {"Stripe-Signature": stripe("s3cret-key", b"{}")}),
    ):
        await hooks.rule(f"/{scheme}", auth={"type": scheme, "secrets": ["hooks/key"]})
        assert (await hooks.send(f"/{scheme}", b"{}", **headers))[0] == 202, scheme


async def test_several_secrets_are_valid_while_one_replaces_another_and_changes_are_picked_up(hooks: Hooks) -> None:
    hooks.secret("hooks/old", "token-one")
    hooks.secret("hooks/new", "token-two")
    await hooks.rule("/a", auth={"type": "bearer", "secrets": ["hooks/old", "hooks/new"]})

    async def status(token: str) -> int:
        return (await hooks.send("/a", Authorization=f"Bearer {token}"))[0]

    assert [await status(token) for token in ("token-one", "token-two", "token-three")] == [202, 202, 401]
    hooks.secret("hooks/old", "token-three")

    async def picked_up() -> bool:
        return await status("token-three") == 202

    await until(picked_up)
    assert [await status(token) for token in ("token-one", "token-two")] == [401, 202]


async def test_rule_that_changes_or_stops_changes_what_is_served_at_once(hooks: Hooks) -> None:
    rule = await hooks.rule("/a", name="one")
    await hooks.rule("/b", name="one")
    assert [(await hooks.send(path))[0] for path in ("/a", "/b")] == [404, 202]
    hooks.harness.delete(rule)

    await hooks.answers("/b", 404)


async def test_disabled_rule_makes_no_events_and_does_not_have_its_sender_switched_off(hooks: Hooks) -> None:
    hooks.secret("hooks/key", "s3cret-key")
    auth = {"type": "bearer", "secrets": ["hooks/key"]}
    await hooks.rule("/a", auth=auth)
    for _ in range(2):  # also when the sensor has not served it before
        rule = hooks.harness.apply("core.webhook", {"path": "/a", "auth": auth}, name="a", enabled=False)
        await hooks.harness.wait_for(rule, AckState.STOPPED)
        status, answer, _ = await hooks.send("/a", Authorization="Bearer s3cret-key")
        assert (status, answer) == (202, {"status": "disabled"})
        assert (await hooks.send("/a", Authorization="Bearer wrong"))[0] == 401
        hooks.harness.delete(rule)
        await hooks.answers("/a", 404)
    assert hooks.harness.api.events == []


async def test_second_rule_with_a_path_is_rejected_naming_the_first_and_takes_over_after_it(hooks: Hooks) -> None:
    now = datetime.now(UTC)
    young = await hooks.rule("/a", name="young", created_at=now)
    old = await hooks.rule("/a", name="old", created_at=now - timedelta(hours=1))
    message = await hooks.harness.wait_for(young, AckState.REJECTED)
    assert message == "parameters.path /a is served for the rule default/old, which is older; choose another path"
    await hooks.send("/a")
    assert (await hooks.harness.next_event()).rule_uid == old.uid
    hooks.harness.delete(old)
    await hooks.harness.wait_for(young, AckState.ACTIVE)
    await hooks.send("/a")
    assert (await hooks.harness.next_event()).rule_uid == young.uid


async def test_of_rules_of_the_same_second_the_first_by_name_serves_whatever_order_they_come_in(hooks: Hooks) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    rules = {
        name: hooks.harness.apply("core.webhook", {"path": "/a", "auth": OPEN}, name=name, created_at=now)
        for name in ("d", "b", "e", "a", "c")
    }
    why = (
        "parameters.path /a is served for the rule default/a, which is of the same second and comes first by name; "
        "choose another path"
    )
    await until(lambda: all(hooks.harness.message(rules[name]) == why for name in "bcde"), within=10)
    await hooks.harness.wait_for(rules["a"], AckState.ACTIVE)
    await hooks.send("/a")
    assert (await hooks.harness.next_event()).rule_uid == rules["a"].uid


# -- what is refused: the rows of the table ----------------------------------------------------------------------------


async def test_unknown_path(hooks: Hooks) -> None:
    await hooks.rule("/a")
    status, answer, headers = await hooks.send("/b")
    assert (status, answer["detail"]) == (404, "No rule serves this path.")
    assert headers["Content-Type"] == "application/problem+json"


async def test_wrong_method(hooks: Hooks) -> None:
    await hooks.rule("/a", methods=["POST", "PUT"])
    status, _, headers = await hooks.send("/a", method="DELETE")
    assert (status, headers["Allow"]) == (405, "POST, PUT")


async def test_compressed_body(hooks: Hooks) -> None:
    await hooks.rule("/a")
    assert (await hooks.send("/a", Content_Encoding="gzip"))[0] == 415


@pytest.mark.parametrize(
    ("scheme", "headers"),
    [
        ("bearer", {}),
        ("bearer", {"Authorization": "Bearer wrong"}),
        ("github", {}),
        ("github", {"X-Hub-Signature-256": github("wrong", b"{}")}),
        ("github", {"X-Hub-Signature-256": github("s3cret-key", b"{ }")}),
        ("stripe", {}),
        ("stripe", {"Stripe-Signature": stripe("wrong", b"{}")}),
        ("standard", {"webhook-id": "1", "webhook-timestamp": "1", "webhook-signature": "v1,AAAA"}),
    ],
)
async def test_wrong_signature(hooks: Hooks, scheme: str, headers: dict[str, str]) -> None:
    hooks.secret("hooks/key", "s3cret-key" if scheme != "standard" else "whsec_" + "k" * 32)
    await hooks.rule("/a", auth={"type": scheme, "secrets": ["hooks/key"]})
    status, answer, got = await hooks.send("/a", b"{}", **headers)
    assert (status, answer["detail"]) == (401, "The request is not signed as this path asks for, or too old.")
    assert got.get("WWW-Authenticate") == ("Bearer" if scheme == "bearer" else None)
    assert hooks.harness.api.events == []


async def test_replayed_request_that_is_too_old(hooks: Hooks) -> None:
    hooks.secret("hooks/key", "s3cret-key")
    await hooks.rule("/a", auth={"type": "stripe", "secrets": ["hooks/key"], "toleranceSeconds": 60})
    assert (await hooks.send("/a", Stripe_Signature=stripe("s3cret-key", b"{}", age=61)))[0] == 401
    assert hooks.harness.api.events == []


async def test_replayed_request_that_is_recent_is_no_second_event(hooks: Hooks) -> None:
    hooks.secret("hooks/key", "s3cret-key")
    await hooks.rule("/a", auth={"type": "stripe", "secrets": ["hooks/key"]})
    body = b'{"id": "evt_1"}'
    signature = stripe("s3cret-key", body)
    for key in ("one", "two"):
        assert (await hooks.send("/a", body, Stripe_Signature=signature, Idempotency_Key=key))[0] == 202
    assert len(hooks.harness.api.events) == 1


async def test_oversized_body_by_its_length(hooks: Hooks) -> None:
    await hooks.rule("/a", maxBodyBytes=10)
    answer = await hooks.raw(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413"), "at once, without waiting for the body"


async def test_oversized_body_in_chunks(hooks: Hooks) -> None:
    await hooks.rule("/a", maxBodyBytes=10)
    chunks = b"6\r\nabcdef\r\n6\r\nghijkl\r\n"
    answer = await hooks.raw(b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks)
    assert answer.startswith(b"HTTP/1.1 413")


async def test_oversized_event(hooks: Hooks) -> None:
    """A body that is within bounds, but of which JSON makes six times as much."""
    await hooks.rule("/a", maxBodyBytes=700_000)
    assert (await hooks.send("/a", b"\x01" * 600_000, Content_Type="text/plain"))[0] == 413


async def test_slow_body(tmp_path: Path) -> None:
    async with running(tmp_path, bodySeconds=0.3) as hooks:
        await hooks.rule("/a")
        answer = await hooks.raw(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
        assert answer.startswith(b"HTTP/1.1 408")
        assert b"Connection: close" in answer


async def test_slow_headers(tmp_path: Path) -> None:
    async with running(tmp_path, keepAliveSeconds=0.5) as hooks:
        await hooks.rule("/a")
        assert await hooks.raw(b"POST /a HTTP/1.1\r\nHost", then=b": x", pause=0.2) == b"", "closed without an answer"
        assert await hooks.raw(b"") == b""


async def test_body_that_is_cut_off(hooks: Hooks) -> None:
    await hooks.rule("/a")
    answer = await hooks.raw(b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
    assert b" 400 " in answer.partition(b"\r\n")[0]
    assert hooks.harness.api.events == []


async def test_too_many_requests_of_a_rule(hooks: Hooks) -> None:
    await hooks.rule("/a", rate={"perSecond": 0.1, "burst": 2})
    await hooks.rule("/b")
    assert [(await hooks.send("/a"))[0] for _ in range(2)] == [202, 202]
    status, _, headers = await hooks.send("/a")
    assert status == 429
    assert 1 <= int(headers["Retry-After"]) <= 10
    assert (await hooks.send("/b"))[0] == 202, "others are not held up"


async def test_who_cannot_sign_does_not_use_up_the_rate(hooks: Hooks) -> None:
    hooks.secret("hooks/key", "s3cret-key")
    await hooks.rule("/a", auth={"type": "bearer", "secrets": ["hooks/key"]}, rate={"perSecond": 0.1, "burst": 1})
    assert {(await hooks.send("/a", Authorization="Bearer x"))[0] for _ in range(5)} == {401}
    assert (await hooks.send("/a", Authorization="Bearer s3cret-key"))[0] == 202


async def test_a_rule_whose_condition_never_held_says_so_until_it_does(hooks: Hooks) -> None:
    rule = await hooks.rule("/a", when={"fields": {"x": 1}})
    for _ in range(3):
        assert (await hooks.send("/a", b'{"x": 2}'))[1] == {"status": "ignored"}
    said = "No event yet: 3 requests left out since "
    await until(lambda: hooks.harness.message(rule).startswith(said))
    assert "because parameters.when did not hold" in hooks.harness.message(rule)
    assert (await hooks.send("/a", b'{"x": 1}'))[0] == 202
    await until(lambda: hooks.harness.message(rule) == "")


async def test_a_scanner_makes_no_rule_failing(hooks: Hooks) -> None:
    hooks.secret("hooks/key", "s3cret-key")
    rule = await hooks.rule("/a", auth={"type": "bearer", "secrets": ["hooks/key"]})
    assert (await hooks.send("/a"))[0] == 401

    async def remark() -> bool:
        text = await hooks.harness.wait_for(rule, AckState.ACTIVE)
        return text.startswith("Not everything gets through: 1 request refused since ")

    await until(remark)


async def test_a_rule_that_gets_only_requests_with_a_wrong_key_is_failing_until_a_right_one_comes(hooks: Hooks) -> None:
    hooks.secret("hooks/key", "s3cret-key")
    rule = await hooks.rule("/a", auth={"type": "bearer", "secrets": ["hooks/key"]})
    for _ in range(3):
        assert (await hooks.send("/a", Authorization="Bearer x"))[0] == 401
    text = await hooks.harness.wait_for(rule, AckState.FAILING)
    assert text.startswith("Nothing gets through: ")
    assert "the last reason: 401 " in text
    assert "s3cret" not in text
    assert (await hooks.send("/a", Authorization="Bearer s3cret-key"))[0] == 202
    assert "Not everything gets through" in await hooks.harness.wait_for(rule, AckState.ACTIVE)


async def test_secret_that_is_not_there_and_comes_later(hooks: Hooks) -> None:
    rule = await hooks.rule("/a", state=AckState.FAILING, auth={"type": "bearer", "secrets": ["hooks/key"]})
    message = await hooks.harness.wait_for(rule, AckState.FAILING)
    assert "hooks/key is not mounted, so requests are answered 503" in message
    status, _, headers = await hooks.send("/a", Authorization="Bearer s3cret-key")
    assert (status, headers["Retry-After"]) == (503, "5")
    hooks.secret("hooks/key", "s3cret-key")
    await hooks.harness.wait_for(rule, AckState.ACTIVE, within=60)
    assert (await hooks.send("/a", Authorization="Bearer s3cret-key"))[0] == 202


@pytest.mark.parametrize("secret", ["whsec_my-secret!", "whsec_", "whpk_" + "a2tr" * 8, "whsec_a2tr"])
async def test_secret_that_cannot_be_a_key(hooks: Hooks, secret: str) -> None:
    """A sender that signs with the empty key, or with the secret's text, is not let in."""
    hooks.secret("hooks/key", secret)
    auth = {"type": "standard", "secrets": ["hooks/key"]}
    rule = await hooks.rule("/a", state=AckState.FAILING, auth=auth)
    message = await hooks.harness.wait_for(rule, AckState.FAILING)
    assert "parameters.auth.secrets: hooks/key cannot be used: it" in message
    assert secret not in message
    now = str(int(time.time()))
    for key in (b"", secret.encode()):
        signature = base64.b64encode(hmac.digest(key, f"evil.{now}.{{}}".encode(), "sha256")).decode()
        headers = {"webhook-id": "evil", "webhook-timestamp": now, "webhook-signature": f"v1,{signature}"}
        assert (await hooks.send("/a", b"{}", **headers))[0] == 503
        hooks.secret("hooks/good", "whsec_" + "a2tr" * 8)
        await hooks.rule("/b", state=AckState.FAILING, auth={**auth, "secrets": ["hooks/key", "hooks/good"]})
        assert (await hooks.send("/b", b"{}", **headers))[0] == 401
    assert hooks.harness.api.events == []


async def test_event_that_cannot_be_made_safe(tmp_path: Path) -> None:
    async with running(tmp_path, confirmSeconds=0.3) as hooks:
        await hooks.rule("/a")
        hooks.harness.api.available = False
        status, _, headers = await hooks.send("/a", Idempotency_Key="k")
        assert (status, headers["Retry-After"]) == (503, "5")
        hooks.harness.api.available = True

        async def taken() -> bool:
            return (await hooks.send("/a", Idempotency_Key="k"))[0] == 202

        await until(taken, what="the sender tries again, and it is taken")
        assert len(hooks.harness.api.events) == 1


async def test_event_that_the_api_refuses(hooks: Hooks) -> None:
    await hooks.rule("/a")
    hooks.harness.api.refuse = lambda _event: "the rule is not yours"
    status, answer, _ = await hooks.send("/a")
    assert (status, answer["detail"]) == (422, "The event service does not take this event.")


async def test_too_many_requests_at_once(tmp_path: Path) -> None:
    async with running(tmp_path, maxPending=2) as hooks:
        await hooks.rule("/a")
        hooks.harness.api.available = False
        waiting = [asyncio.create_task(hooks.send("/a")) for _ in range(2)]
        await until(lambda: hooks.harness.undelivered == 2)
        status, _, headers = await hooks.send("/a")
        assert (status, headers["Retry-After"]) == (503, "1")
        hooks.harness.api.available = True
        assert [(await each)[0] for each in waiting] == [202, 202]


async def test_too_many_connections(tmp_path: Path) -> None:
    async with running(tmp_path, maxConnections=2) as hooks:
        await hooks.rule("/a")
        idle = [await asyncio.open_connection("127.0.0.1", hooks.handler.listener.port) for _ in range(2)]
        with contextlib.suppress(ConnectionError):
            assert await hooks.raw(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n") == b""
        for _, writer in idle:
            writer.close()
            await writer.wait_closed()
        await hooks.answers("/a", 202)


async def test_rules_that_are_not_read_yet(hooks: Hooks, monkeypatch: pytest.MonkeyPatch) -> None:
    await hooks.rule("/a")
    monkeypatch.setattr(SensorContext, "rules_read", False)
    status, _, headers = await hooks.send("/b")
    assert (status, headers["Retry-After"]) == (503, "5")
    assert (await hooks.send("/a"))[0] == 202


async def test_what_is_under_way_is_finished_when_the_sensor_stops(tmp_path: Path) -> None:
    async with running(tmp_path) as hooks:
        await hooks.rule("/a")
        hooks.harness.api.available = False
        waiting = asyncio.create_task(hooks.send("/a"))
        await until(lambda: hooks.harness.undelivered == 1)
        closing = asyncio.create_task(hooks.handler.close())
        await until(lambda: hooks.handler.listener.port == 0, what="it takes no new connections")
        hooks.harness.api.available = True
        status, _, headers = await waiting
        await closing
        assert status == 202
        assert headers["Connection"] == "close"


async def test_configuration_that_cannot_be_used_is_said(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"spec.config of the Sensor cannot be used: .*bodySeconds"):
        async with running(tmp_path, bodySeconds=0):
            pass


async def test_log_has_no_secret_and_each_refusal_once(hooks: Hooks, capsys: pytest.CaptureFixture[str]) -> None:
    hooks.secret("hooks/key", "s3cret-key")
    await hooks.rule("/a", auth={"type": "bearer", "secrets": ["hooks/key"]})
    for _ in range(3):
        await hooks.send("/a", Authorization="Bearer t0ken")
    said = capsys.readouterr().out
    assert said.count("webhook_refused") == 1
    assert "s3cret-key" not in said
    assert "t0ken" not in said
