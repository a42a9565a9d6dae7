"""Whose acks count, and how many are kept."""

from datetime import UTC, datetime
from typing import Any

import pytest

from attune_contract import subjects
from attune_contract.identity import SensorRef
from attune_contract.messages import Ack, AckState, InvalidMessageError, encode
from attune_contract.names import AcceptedReason
from attune_operator.rules import cache as caches
from attune_operator.rules.acks import UnwantedAcks, parse_ack, stale_acks
from attune_operator.rules.cache import Listing, RuleCache
from attune_operator.rules.conditions import Acceptance, LatestAck
from attune_operator.rules.entry import AckEntry
from attune_operator.rules.records import ObservedRule, parse_rule

A, B = SensorRef("default", "a"), SensorRef("default", "b.x")


def entry(
    uid: str = "u1", *, sensor: SensorRef = A, sequence: int = 1, seen: int = 1, **fields: Any
) -> tuple[str, AckEntry]:
    ack = Ack(
        **{
            "rule_uid": uid,
            "generation": 1,
            "state": AckState.ACTIVE,
            "instance": "pod",
            "at": datetime(2026, 1, 1, tzinfo=UTC),
            **fields,
        }
    )
    return parse_ack(subject=subjects.ack_subject(sensor, uid), sequence=sequence, body=encode(ack), seen=seen)


def put(cache: RuleCache, found: tuple[str, AckEntry]) -> bool:
    return cache.put_ack(*found)


def latest(cache: RuleCache, sensor: SensorRef) -> LatestAck | None:
    entry = cache.get("u1")
    return None if entry is None else entry.latest_ack(sensor)


def test_only_the_bound_sensors_ack_counts() -> None:
    cache = RuleCache()
    put(cache, entry(sensor=B, state=AckState.REJECTED, message="not mine"))
    assert latest(cache, A) is None
    put(cache, entry(sensor=A, sequence=2))
    ack_of_a, ack_of_b = latest(cache, A), latest(cache, B)
    assert ack_of_a is not None
    assert ack_of_b is not None
    assert (ack_of_a.state, ack_of_b.message) == (AckState.ACTIVE, "not mine")


def test_a_repeated_ack_is_no_change_and_an_older_message_changes_nothing() -> None:
    cache = RuleCache()
    assert put(cache, entry(sequence=5))
    assert not put(cache, entry(sequence=6, instance="another-pod"))
    assert put(cache, entry(sequence=7, generation=2))
    assert not put(cache, entry(sequence=6))
    found = latest(cache, A)
    assert found is not None
    assert found.generation == 2


@pytest.mark.parametrize(
    ("subject", "body"),
    [
        ("attune.acks.default.a", b"{}"),
        ("attune.acks.default.a.u1", b"not json"),
        ("attune.acks.default.a.u1", b'{"rule_uid":"u1"}'),
        ("attune.acks.default.a.u1", b"\xff\xfe"),
    ],
)
def test_what_is_no_ack_is_refused(subject: str, body: bytes) -> None:
    with pytest.raises(InvalidMessageError):
        parse_ack(subject=subject, sequence=1, body=body, seen=1)


def test_an_ack_of_another_rule_than_its_subject_names_is_refused() -> None:
    ack = Ack(rule_uid="victim", generation=1, state=AckState.ACTIVE, instance="x", at=datetime(2026, 1, 1, tzinfo=UTC))
    with pytest.raises(InvalidMessageError, match="is about the rule 'victim'"):
        parse_ack(subject=subjects.ack_subject(A, "mine"), sequence=1, body=encode(ack), seen=1)


def test_a_long_message_is_cut() -> None:
    _, found = entry(message="x" * 10_000)
    assert len(found.message) == 1024


def test_a_sensor_cannot_fill_the_memory_with_rules_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caches, "_MAX_ORPHANS", 5)
    cache = RuleCache()
    rules = [known_rule(f"u{number}") for number in range(10)]
    cache.replace(Listing(rules=rules, sensors=[], namespaces=[]), began=cache.begin_list(), now=0)
    for number in range(100):
        put(cache, entry(f"u{number}", sequence=number + 1))
    assert sum(bool(each.acks) for each in cache.entries()) == 15


def test_before_the_first_list_every_rule_may_be_unknown() -> None:
    cache = RuleCache()
    for number in range(20_000):
        put(cache, entry(f"u{number}", sequence=number + 1))
    assert len(cache.orphans) == 20_000


def known_rule(uid: str) -> ObservedRule:
    return parse_rule(
        {"metadata": {"uid": uid, "namespace": "n", "name": "x"}, "spec": {"trigger": {"type": "core.timer"}}}
    )


def test_acks_of_rules_that_are_gone_and_of_former_bindings_are_purged_after_lists() -> None:
    cache = RuleCache()
    listing = Listing(rules=[known_rule("kept")], sensors=[], namespaces=[])
    put(cache, entry("kept", seen=cache.tick))
    put(cache, entry("kept", sensor=B, seen=cache.tick))
    put(cache, entry("gone", seen=cache.tick))
    cache.replace(listing, began=cache.begin_list(), now=0)
    kept = cache.rules["kept"]
    kept.acceptance = Acceptance(reason=AcceptedReason.ACCEPTED, message="", sensor=A)
    put(cache, entry("just-made", seen=cache.tick))

    assert stale_acks(cache) == [("gone", A.token)]
    cache.replace(listing, began=cache.begin_list(), now=0)
    assert stale_acks(cache) == [("kept", B.token), ("gone", A.token), ("just-made", A.token)]
    kept.forget_ack(B.token)
    assert kept.latest_ack(A) is not None


class TestUnwantedAcks:
    def test_a_few_are_purged_one_by_one(self) -> None:
        unwanted = UnwantedAcks()
        for subject in (
            "attune.acks.ns.one.u2",
            "attune.acks.ns.one.u1",
            "attune.acks.ns.two.a.b.c",
            "attune.rules.ns.one.u",
        ):
            unwanted.add(subject)
        assert unwanted.take() == ["attune.acks.ns.one.u1", "attune.acks.ns.one.u2", "attune.acks.ns.two.a.b.c"]
        assert unwanted.take() == []

    def test_of_a_sensor_with_many_everything_is_purged(self) -> None:
        unwanted = UnwantedAcks()
        for number in range(50_000):
            unwanted.add(f"attune.acks.ns.one.{number}")
        unwanted.add("attune.acks.ns.two.u")
        assert unwanted.take() == ["attune.acks.ns.one.>", "attune.acks.ns.two.u"]
