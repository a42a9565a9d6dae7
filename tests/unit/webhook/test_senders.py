"""Every sender of docs/webhook.md: its requests are accepted, its retries are one event, others' requests are not accepted."""

import asyncio
import random
from dataclasses import replace

import pytest
from support import webhook_sns, webhook_table
from support.webhook_cases import CASES
from support.webhook_requests import Sender
from support.webhook_senders import Case, Delivery, Signed

from attune_webhook import handshakes
from attune_webhook.http.answers import Answer
from attune_webhook.http.writer import written
from attune_webhook.identity import occurrence_of
from attune_webhook.schemes.presets import PRESETS
from attune_webhook.server import items_of
from attune_webhook.sns import SnsMessages

NOW = 1_800_000_000
EACH = pytest.mark.parametrize("case", CASES, ids=lambda case: case.sender)


def sender_of(case: Case, secret: bytes) -> Sender:
    secrets = [secret] if secret else []
    return Sender({"type": case.type, **case.auth}, secrets, sns=SnsMessages(fetch=webhook_sns.fetch))


def refusal(case: Case, secret: bytes, signed: Signed, *, now: float = NOW) -> str | None:
    sender = sender_of(case, secret)
    return asyncio.run(sender.refusal(signed.request(parse_json=sender.hook().parse_json), now=now))


def a_secret(case: Case, seed: int = 1) -> bytes:
    return case.secret(random.Random(seed))


def test_every_preset_has_a_case() -> None:
    assert {case.type for case in CASES} >= set(PRESETS) - {"none"}


@EACH
def test_a_request_of_the_sender_is_accepted(case: Case) -> None:
    assert refusal(case, a_secret(case), case.sign(a_secret(case), Delivery("d-1", NOW))) is None


@EACH
def test_another_secret_another_body_or_no_signature_is_refused(case: Case) -> None:
    secret = a_secret(case)
    signed = case.sign(secret, Delivery("d-1", NOW))
    if case.type not in ("sns", "discord") and not secret.startswith(b"whpk_"):
        assert refusal(case, a_secret(case, 2), signed) == "signature"
    if case.body_signed:
        assert refusal(case, secret, replace(signed, body=signed.body.replace(b"x", b"y"))) is not None
        assert refusal(case, secret, replace(signed, body=b"")) is not None
    bare = Signed({}, b"{}")
    assert refusal(case, secret, bare) == "unsigned"


@EACH
def test_an_old_request_is_refused_where_its_time_is_signed(case: Case) -> None:
    secret = a_secret(case)
    signed = case.sign(secret, Delivery("d-1", NOW))
    found = {refusal(case, secret, signed, now=NOW + age) for age in (-3600, 3600)}
    assert found in ({None}, {"expired"})


@EACH
def test_a_delivery_that_is_sent_again_is_one_event_where_it_has_a_name(case: Case) -> None:
    secret = a_secret(case)
    hook = sender_of(case, secret).hook()
    first, again, other = (
        occurrence_of(hook, items_of(case.sign(secret, delivery).request(parse_json=hook.parse_json), hook)[0])
        for delivery in (Delivery("d-1", NOW), Delivery("d-1", NOW + 60), Delivery("d-2", NOW))
    )
    assert (first == again) is case.named
    assert first != other


def test_the_table_in_the_documentation_is_what_the_tests_show() -> None:
    """Write it with ``PYTHONPATH=tests .venv/bin/python -m support.webhook_table``."""
    page = webhook_table.PAGE.read_text()
    shown = page.partition(webhook_table.BEGIN)[2].partition(webhook_table.END)[0].strip()
    assert shown == webhook_table.table().strip()
    assert shown.count("\n") > 25
    assert "**no**" not in shown


def test_discord_pings_in_two_ways_and_its_events_are_no_pings() -> None:
    """Interactions ping with type 1, which is also the type of a webhook event; webhook events ping with type 0."""

    def answered(body: bytes) -> Answer | None:
        return handshakes.with_body("discord", Signed({"Content-Type": "application/json"}, body).request(), keys=[])

    interaction, events = answered(b'{"type": 1}'), answered(b'{"version": 1, "type": 0}')
    assert interaction is not None
    assert (interaction.status, interaction.body) == (200, b'{"type":1}')
    assert events is not None
    assert events.status == 204
    assert b"Content-Type: application/json\r\n" in written(events, head_only=False, keep_alive=True), "it asks for one"
    assert answered(b'{"version": 1, "type": 1, "event": {"type": "ENTITLEMENT_CREATE"}}') is None
