"""Refs, subjects and the messages on them."""

import uuid
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attune_contract import subjects
from attune_contract.claims import SensorClaims
from attune_contract.events import event_id, scheduled
from attune_contract.identity import SensorRef
from attune_contract.messages import (
    Ack,
    AckState,
    InvalidMessageError,
    RuleEventType,
    RuleState,
    decode_ack,
    decode_rule,
    encode,
    is_tombstone,
    rule_event_headers,
)

TIMER = SensorRef("attune-system", "core.timer")
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
RULE = RuleState(
    uid="7d0c3a39-55a6-4d6a-a6c4-2f6b7f4b3a11",
    namespace="default",
    name="echo",
    generation=3,
    enabled=True,
    trigger_type="core.intervaltimer",
    parameters={"interval": 1},
    created_at=NOW,
)

labels = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,10}[a-z0-9])?", fullmatch=True)
subdomains = st.lists(labels, min_size=1, max_size=3).map(".".join)
refs = st.builds(SensorRef, labels, subdomains)


def test_a_ref_is_namespace_slash_name() -> None:
    assert SensorRef.parse("attune-system/core.timer") == TIMER
    assert str(TIMER) == "attune-system/core.timer"
    assert TIMER.login == "sensor:attune-system/core.timer"


@pytest.mark.parametrize(
    "text", ["", "core.timer", "/x", "x/", "a/b/c", "A/b", "a.b/c", "a/_b", "a/b ", "a/b.", "a/" + "b" * 64]
)
def test_what_is_no_ref_is_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(ValueError, match="sensor's"):
        SensorRef.parse(text)


def test_subjects_are_those_of_the_design() -> None:
    assert subjects.rule_subject(TIMER, "u-1") == "attune.rules.attune-system.core_timer.u-1"
    assert subjects.rules_filter(TIMER) == "attune.rules.attune-system.core_timer.>"
    assert subjects.ack_subject(TIMER, "u-1") == "attune.acks.attune-system.core_timer.u-1"
    assert subjects.event_subject("default", "u-1") == "attune.events.default.u-1"


@given(refs, refs)
def test_no_two_sensors_share_a_subject(one: SensorRef, other: SensorRef) -> None:
    assert (one.token == other.token) == (one == other)
    assert (one.inbox_prefix == other.inbox_prefix) == (one == other)


@given(refs, st.uuids())
def test_a_binding_is_read_back_from_its_subject(ref: SensorRef, uid: uuid.UUID) -> None:
    assert subjects.split_binding(subjects.rule_subject(ref, str(uid))) == (ref.token, str(uid))
    assert subjects.split_binding(subjects.ack_subject(ref, str(uid))) == (ref.token, str(uid))


@pytest.mark.parametrize(
    "subject", ["attune.rules.a.b", "attune.events.a.b.c", "x.rules.a.b.c", "attune.rules.a.b.c.d"]
)
def test_other_subjects_are_no_binding(subject: str) -> None:
    with pytest.raises(ValueError, match="is not attune"):
        subjects.split_binding(subject)


def test_a_rules_state_survives_the_wire_and_equal_states_have_equal_bytes() -> None:
    assert decode_rule(encode(RULE)) == RULE
    reordered = RuleState(
        uid=RULE.uid,
        namespace=RULE.namespace,
        name=RULE.name,
        generation=RULE.generation,
        enabled=True,
        trigger_type=RULE.trigger_type,
        parameters=dict(reversed(RULE.parameters.items())),
        created_at=RULE.created_at,
    )
    assert encode(reordered) == encode(RULE)


def test_an_ack_survives_the_wire_and_unknown_fields_are_ignored() -> None:
    ack = Ack(
        rule_uid=RULE.uid, generation=3, state=AckState.REJECTED, instance="pod-1", at=NOW, message="no such queue"
    )
    assert decode_ack(encode(ack)) == ack
    assert decode_ack(encode(ack).replace(b"{", b'{"later":1,', 1)) == ack


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"\xff", b'{"uid": 1}', b"{" * 5000])
def test_a_malformed_message_is_refused_with_a_reason(body: bytes) -> None:
    with pytest.raises(InvalidMessageError, match="not a rule's state"):
        decode_rule(body)
    with pytest.raises(InvalidMessageError, match="not an ack"):
        decode_ack(body)


def test_rule_events_are_cloud_events() -> None:
    headers = rule_event_headers(RuleEventType.DELETED, RULE, time=NOW, event_id=uuid.UUID(int=7))
    assert headers["ce-type"] == "dev.attune.rule.deleted"
    assert headers["ce-time"] == "2026-11-23T12:00:00Z"
    assert headers["ce-specversion"] == "1.0"
    assert is_tombstone(headers)
    assert not is_tombstone(None)
    assert not is_tombstone({"ce-type": RuleEventType.CREATED})


def test_an_events_id_depends_on_the_rule_and_the_occurrence_alone() -> None:
    berlin = timezone(timedelta(hours=1))
    same = NOW.astimezone(berlin)
    assert event_id(RULE.uid, scheduled(NOW)) == event_id(RULE.uid, scheduled(same))
    assert event_id(RULE.uid, scheduled(NOW)) != event_id(RULE.uid, scheduled(NOW + timedelta(microseconds=1)))
    assert event_id("other", scheduled(NOW)) != event_id(RULE.uid, scheduled(NOW))
    # Pinned: a change would make old occurrences new events.
    assert scheduled(NOW) == "2026-11-23T12:00:00.000000Z"
    assert str(event_id(RULE.uid, scheduled(NOW))) == "9f0f752c-047c-5993-b108-f1608bbb26bf"


CLAIMS = SensorClaims(
    issuer="attune-operator",
    subject="uid-1",
    sensor=TIMER,
    trigger_types=("core.intervaltimer",),
    issued_at=NOW,
    expires_at=NOW + timedelta(hours=24),
    token_id="jti-1",
)


def test_claims_are_those_of_the_design() -> None:
    payload = CLAIMS.to_payload()
    assert payload["aud"] == "attune-api"
    assert payload["login"] == "sensor:attune-system/core.timer"
    assert payload["token_type"] == payload["scope"] == "sensor"
    assert payload["metadata"] == {"trigger_types": ["core.intervaltimer"]}
    assert payload["exp"] - payload["iat"] == 86400
    assert SensorClaims.from_payload(payload) == CLAIMS


@pytest.mark.parametrize(
    "change",
    [
        {"token_type": "service"},
        {"login": "service:x"},
        {"login": "sensor:nonsense"},
        {"metadata": {}},
        {"metadata": {"trigger_types": [1]}},
        {"metadata": None},
        {"sub": None},
        {"jti": 5},
        {"iat": "yesterday"},
        {"exp": None},
    ],
)
def test_other_claims_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        SensorClaims.from_payload({**CLAIMS.to_payload(), **change})


def test_a_rules_history_is_found_by_name_and_by_uid() -> None:
    assert subjects.history_subject("default", "echo.daily", "u-1") == "attune.history.default.echo_daily.u-1"
    assert subjects.history_filter(namespace="default", name="echo.daily") == "attune.history.default.echo_daily.*"
    assert subjects.history_filter(rule_uid="u-1") == "attune.history.*.*.u-1"
