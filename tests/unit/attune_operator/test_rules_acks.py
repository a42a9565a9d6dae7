"""Whose word counts, and how many words are kept."""

from datetime import UTC, datetime
from typing import Any

import pytest

from attune_contract import subjects
from attune_contract.identity import SensorRef
from attune_contract.messages import Ack, AckState, InvalidMessage, encode
from attune_contract.names import AcceptedReason
from attune_operator.rules import acks
from attune_operator.rules.acks import AckBook, parse_ack, stale_acks
from attune_operator.rules.conditions import Acceptance
from attune_operator.rules.inventory import Inventory, Listing
from attune_operator.rules.records import parse_rule

A, B = SensorRef("default", "a"), SensorRef("default", "b.x")


def entry(
    uid: str = "u1", *, sensor: SensorRef = A, sequence: int = 1, seen: int = 1, **fields: Any
) -> tuple[str, acks.AckEntry]:
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


def put(book: AckBook, found: tuple[str, acks.AckEntry]) -> bool:
    return book.put(*found, known_rules=10)


def test_only_the_bound_sensors_word_is_heard() -> None:
    book = AckBook()
    put(book, entry(sensor=B, state=AckState.REJECTED, message="not mine"))
    assert book.word("u1", A) is None
    put(book, entry(sensor=A, sequence=2))
    word_of_a, word_of_b = book.word("u1", A), book.word("u1", B)
    assert word_of_a is not None
    assert word_of_b is not None
    assert (word_of_a.state, word_of_b.message) == (AckState.ACTIVE, "not mine")


def test_a_repeated_word_is_no_news_and_an_older_message_changes_nothing() -> None:
    book = AckBook()
    assert put(book, entry(sequence=5))
    assert not put(book, entry(sequence=6, instance="another-pod"))
    assert put(book, entry(sequence=7, generation=2))
    assert not put(book, entry(sequence=6))
    word = book.word("u1", A)
    assert word is not None
    assert word.generation == 2


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
    with pytest.raises(InvalidMessage):
        parse_ack(subject=subject, sequence=1, body=body, seen=1)


def test_a_word_on_another_rule_than_its_subject_names_is_refused() -> None:
    ack = Ack(rule_uid="victim", generation=1, state=AckState.ACTIVE, instance="x", at=datetime(2026, 1, 1, tzinfo=UTC))
    with pytest.raises(InvalidMessage, match="speaks of the rule 'victim'"):
        parse_ack(subject=subjects.ack_subject(A, "mine"), sequence=1, body=encode(ack), seen=1)


def test_a_long_message_is_cut() -> None:
    _, found = entry(message="x" * 10_000)
    assert len(found.message) == 1024


def test_a_sensor_cannot_fill_the_memory_with_rules_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acks, "_MAX_STRANGERS", 5)
    book = AckBook()
    for number in range(100):
        put(book, entry(f"u{number}", sequence=number + 1))
    assert len(book) == 15


def test_words_on_rules_that_are_gone_and_of_former_bindings_are_taken_away_after_lists() -> None:
    inventory = Inventory()
    seen = parse_rule(
        {"metadata": {"uid": "kept", "namespace": "n", "name": "x"}, "spec": {"trigger": {"type": "core.timer"}}}
    )
    listing = Listing(rules=[seen], sensors=[], namespaces={})
    book = AckBook()
    put(book, entry("kept", seen=inventory.tick))
    put(book, entry("kept", sensor=B, seen=inventory.tick))
    put(book, entry("gone", seen=inventory.tick))
    inventory.replace(listing, began=inventory.begin_list(), now=0)
    inventory.rules["kept"].acceptance = Acceptance(reason=AcceptedReason.ACCEPTED, message="", sensor=A)
    put(book, entry("just-made", seen=inventory.tick))

    assert stale_acks(book, inventory=inventory) == [("gone", A.token)]
    inventory.replace(listing, began=inventory.begin_list(), now=0)
    assert stale_acks(book, inventory=inventory) == [("kept", B.token), ("gone", A.token), ("just-made", A.token)]
    book.forget("kept", B.token)
    assert book.word("kept", A) is not None
