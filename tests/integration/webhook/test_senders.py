"""Every sender of docs/webhook.md over real HTTP: its handshake, its answer, one event for a delivery, none for a forgery."""

import random
import time
from pathlib import Path

import pytest
from support import webhook_sns
from support.webhook_cases import CASES, answer_of
from support.webhook_hooks import Hooks, running
from support.webhook_requests import HOST
from support.webhook_senders import Case, Delivery, Signed

from attune_sensor import AckState


async def send(hooks: Hooks, signed: Signed) -> tuple[int, bytes]:
    async with hooks.session.request(
        signed.method, hooks.url + signed.target, data=signed.body, headers={"Host": HOST, **signed.headers}
    ) as answer:
        return answer.status, await answer.read()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.sender)
async def test_sender(tmp_path: Path, case: Case) -> None:
    secret = case.secret(random.Random(3))
    now = int(time.time())
    async with running(tmp_path, fetch_url=webhook_sns.fetch) as hooks:
        auth = {"type": case.type, **case.auth}
        if secret:
            hooks.secret("hooks/key", secret.decode())
            auth["secrets"] = ["hooks/key"]
        await hooks.rule("/a", auth=auth, **case.parameters)

        if case.handshake is not None:
            asked, expected = case.handshake(secret, now)
            status, body = await send(hooks, asked)
            assert status == 200
            assert expected in body
            assert hooks.harness.api.events == [], "a handshake is no event"

        delivery = Delivery("d-1", now)
        status, _ = await send(hooks, case.sign(secret, delivery))
        own_answer = case.type == "discord"  # an interaction is deferred by a body
        assert status == (200 if own_answer else answer_of(case))
        assert len(hooks.harness.api.events) == 1
        payload = hooks.harness.api.events[0].payload
        if secret and not secret.startswith(b"whpk_") and case.type != "discord":
            assert secret.decode() not in str(payload), "no event holds a secret"

        status, _ = await send(hooks, case.sign(secret, Delivery("d-1", now + 1)))
        assert status < 300
        assert len(hooks.harness.api.events) == (1 if case.named else 2)

        before = len(hooks.harness.api.events)
        status, body = await send(hooks, Signed({"Content-Type": "application/json"}, b'{"forged": true}'))
        assert status == 401
        assert b"not signed" in body
        assert len(hooks.harness.api.events) == before


async def test_a_subscription_to_another_topic_is_not_confirmed(tmp_path: Path) -> None:
    fetched: list[str] = []

    async def fetch(url: str) -> bytes:
        fetched.append(url)
        return await webhook_sns.fetch(url)

    async with running(tmp_path, fetch_url=fetch) as hooks:
        await hooks.rule("/a", auth={"type": "sns", "topics": [webhook_sns.TOPIC]})
        other = webhook_sns.TOPIC.replace("builds", "others")
        signed = Signed(
            {"Content-Type": "text/plain"}, webhook_sns.sns_message("m", "x", confirmation=True, topic=other)
        )
        assert (await send(hooks, signed))[0] == 401
        assert fetched == []
        ours = Signed({"Content-Type": "text/plain"}, webhook_sns.sns_message("m", "x", confirmation=True))
        assert (await send(hooks, ours))[0] == 200
        assert fetched == [webhook_sns.CERTIFICATE_URL, webhook_sns.SUBSCRIBE_URL]


async def test_a_certificate_of_another_host_is_not_fetched(tmp_path: Path) -> None:
    async def fetch(url: str) -> bytes:
        raise AssertionError(url)

    async with running(tmp_path, fetch_url=fetch) as hooks:
        await hooks.rule("/a", auth={"type": "sns", "topics": [webhook_sns.TOPIC]})
        genuine = webhook_sns.sns_message("m", "x").decode()
        for url in (
            "https://sns.eu-west-1.amazonaws.com.example.org/a.pem",
            "https://user@sns.eu-west-1.amazonaws.com/a.pem",
            "https://sns.eu-west-1.amazonaws.com:444/a.pem",
            "https://sns.us-east-1.amazonaws.com/a.pem",
            "http://sns.eu-west-1.amazonaws.com/a.pem",
            "https://sns.eu-west-1.amazonaws.com/a",
        ):
            body = genuine.replace(webhook_sns.CERTIFICATE_URL, url).encode()
            assert (await send(hooks, Signed({"Content-Type": "text/plain"}, body)))[0] == 401


async def test_a_meta_challenge_with_a_wrong_token_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path) as hooks:
        hooks.secret("hooks/app", "app-secret")
        hooks.secret("hooks/verify", "verify-token")
        auth = {"type": "meta", "secrets": ["hooks/app"], "verifyToken": "hooks/verify"}
        await hooks.rule("/a", auth=auth)
        query = "/a?hub.mode=subscribe&hub.challenge=42&hub.verify_token="
        assert await send(hooks, Signed({}, b"", f"{query}verify-token", "GET")) == (200, b"42")
        assert (await send(hooks, Signed({}, b"", f"{query}app-secret", "GET")))[0] == 405


async def test_a_verify_token_that_is_missing_is_reported(tmp_path: Path) -> None:
    async with running(tmp_path) as hooks:
        hooks.secret("hooks/app", "app-secret")
        auth = {"type": "meta", "secrets": ["hooks/app"], "verifyToken": "hooks/verify"}
        rule = await hooks.rule("/a", state=AckState.FAILING, auth=auth)
        assert "hooks/verify is not mounted" in hooks.harness.message(rule)
