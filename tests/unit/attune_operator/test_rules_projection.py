"""What is written to the rule stream, in which order, and what a stale operator leaves alone."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from attune_contract.messages import RuleEventType, RuleState, encode
from attune_operator.rules.cache import Listing, RuleCache
from attune_operator.rules.entry import StreamEntry
from attune_operator.rules.projection import Desired, plan
from attune_operator.rules.stream_view import StreamView, entry_of

HERE, THERE = "attune.rules.default.a.uid-1", "attune.rules.default.b.uid-1"
LISTED = 10


def state(**changes: Any) -> RuleState:
    base = RuleState(
        uid="uid-1",
        namespace="default",
        name="echo",
        generation=1,
        enabled=True,
        trigger_type="core.intervaltimer",
        parameters={"interval": 1},
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    return msgspec.structs.replace(base, **changes)


def desired(subject: str = HERE, **changes: Any) -> Desired:
    wanted = state(**changes)
    return Desired(subject=subject, state=wanted, body=encode(wanted))


def entry(
    subject: str = HERE, *, sequence: int = 7, tombstone: bool = False, seen: int = LISTED - 1, **changes: Any
) -> StreamEntry:
    return entry_of(subject=subject, sequence=sequence, tombstone=tombstone, body=encode(state(**changes)), seen=seen)


def writes(
    wanted: Desired | None, *present: StreamEntry, generation: int | None = 1, listed: int = LISTED, gone: bool = False
) -> list[tuple[str, str, int]]:
    planned = plan(desired=wanted, present=present, listed=listed, generation=generation, confirmed_gone=gone)
    return [(w.subject, w.event_type.name, w.expected_sequence) for w in planned.writes]


def test_a_rule_that_is_not_there_is_created_where_nothing_may_be() -> None:
    assert writes(desired()) == [(HERE, "CREATED", 0)]


def test_what_stands_as_it_should_is_left_alone() -> None:
    assert writes(desired(), entry()) == []


@pytest.mark.parametrize(
    ("before", "after", "event_type"),
    [
        ({}, {"generation": 2, "parameters": {"interval": 2}}, "UPDATED"),
        ({"enabled": False}, {"generation": 2}, "ENABLED"),
        ({}, {"generation": 2, "enabled": False}, "DISABLED"),
        ({}, {"trigger_type": "core.other"}, "UPDATED"),
    ],
)
def test_a_change_is_named_and_compared_with_what_was_seen(
    before: dict[str, Any], after: dict[str, Any], event_type: str
) -> None:
    assert writes(desired(**after), entry(**before)) == [(HERE, event_type, 7)]


def test_what_should_not_be_there_is_buried_with_its_last_state() -> None:
    planned = plan(desired=None, present=[entry(generation=3)], listed=LISTED, generation=None)
    [write] = planned.writes
    assert (write.tombstone, write.expected_sequence, write.generation) == (True, 7, 3)
    assert write.body == encode(state(generation=3))


def test_a_tombstone_is_not_buried_again() -> None:
    assert writes(None, entry(tombstone=True), generation=None) == []


def test_a_rule_that_comes_back_to_its_tombstone_is_created_over_it() -> None:
    assert writes(desired(), entry(tombstone=True)) == [(HERE, "CREATED", 7)]


def test_a_binding_that_moves_is_set_before_it_is_written_anew() -> None:
    assert writes(desired(THERE), entry(HERE)) == [(HERE, "DELETED", 7), (THERE, "CREATED", 0)]


def test_several_left_over_places_are_all_buried() -> None:
    third = "attune.rules.x.y.uid-1"
    assert writes(desired(THERE), entry(HERE), entry(third, sequence=8), entry(THERE)) == [
        (HERE, "DELETED", 7),
        (third, "DELETED", 8),
    ]


def test_something_unreadable_is_overwritten() -> None:
    broken = entry_of(subject=HERE, sequence=7, tombstone=False, body=b"{", seen=LISTED - 1)
    assert writes(desired(), broken) == [(HERE, "UPDATED", 7)]


class TestWhatSomebodyElseWroteSinceTheLastList:
    def contested(self, wanted: Desired | None, *present: StreamEntry, generation: int | None = 1) -> bool:
        planned = plan(desired=wanted, present=present, listed=LISTED, generation=generation)
        assert not planned.writes
        return planned.contested

    def test_a_newer_generation_is_not_overwritten(self) -> None:
        assert self.contested(desired(), entry(generation=2, seen=LISTED))

    def test_the_same_generation_with_another_content_is_not_overwritten(self) -> None:
        assert self.contested(desired(), entry(parameters={"interval": 2}, seen=LISTED))

    def test_its_tombstone_is_not_overwritten(self) -> None:
        assert self.contested(desired(), entry(tombstone=True, seen=LISTED))

    def test_a_rule_that_we_do_not_know_is_not_buried(self) -> None:
        assert self.contested(None, entry(seen=LISTED), generation=None)

    def test_its_binding_is_not_buried_and_no_other_made_beside_it(self) -> None:
        assert self.contested(desired(THERE), entry(HERE, seen=LISTED))
        assert self.contested(desired(THERE), entry(HERE, seen=LISTED), entry(THERE, tombstone=True, seen=LISTED - 1))

    def test_where_it_stands_in_two_places_ours_is_kept_up_to_date(self) -> None:
        planned = plan(
            desired=desired(THERE, generation=2),
            present=[entry(HERE, seen=LISTED), entry(THERE, seen=LISTED - 1)],
            listed=LISTED,
            generation=1,
        )
        assert planned.contested
        assert [w.subject for w in planned.writes] == [THERE]

    def test_an_older_generation_than_ours_is_overwritten(self) -> None:
        assert writes(desired(generation=2), entry(seen=LISTED), generation=2) == [(HERE, "UPDATED", 7)]

    def test_a_rule_that_kubernetes_told_is_deleted_is_buried(self) -> None:
        assert writes(None, entry(seen=LISTED), generation=None, gone=True) == [(HERE, "DELETED", 7)]

    def test_after_another_list_all_of_it_is_ours_again(self) -> None:
        assert writes(desired(), entry(generation=2, seen=LISTED), listed=LISTED + 1) == [(HERE, "UPDATED", 7)]


def test_nothing_is_set_before_the_first_complete_list() -> None:
    planned = plan(desired=None, present=[entry(seen=1)], listed=0, generation=None)
    assert planned.writes == ()


@pytest.fixture
def cache() -> RuleCache:
    return RuleCache()


def test_the_view_keeps_the_newest_message_of_a_subject(cache: RuleCache) -> None:
    view = StreamView(cache)
    view.put("uid-1", entry(sequence=5))
    view.put("uid-1", entry(sequence=9, tombstone=True))
    view.put("uid-1", entry(sequence=7))
    [only] = cache.entry("uid-1").stream
    assert (only.sequence, only.tombstone, cache.stream.live, cache.stream.last_sequence) == (9, True, 0, 9)


def test_the_view_counts_what_is_live(cache: RuleCache) -> None:
    view = StreamView(cache)
    view.put("uid-1", entry(HERE))
    view.put("uid-1", entry(THERE))
    view.put("uid-2", entry("attune.rules.default.a.uid-2"))
    assert cache.stream.live == 3
    view.forget("uid-1", THERE)
    view.forget("uid-2", "attune.rules.default.a.uid-2")
    assert (cache.stream.live, list(cache.orphans)) == (1, ["uid-1"])
    view.clear()
    assert (cache.stream.live, list(cache.orphans)) == (0, [])


def test_tombstones_leave_the_view_when_they_left_the_stream(cache: RuleCache) -> None:
    view = StreamView(cache)
    for number, tombstone_at in enumerate((100.0, 200.0)):
        view.put(
            f"uid-{number}",
            entry_of(
                subject=f"attune.rules.default.a.uid-{number}",
                sequence=number + 1,
                tombstone=True,
                body=encode(state()),
                seen=1,
                tombstone_at=tombstone_at,
            ),
        )
    assert view.forget_tombstones(set_before=150.0) == 1
    assert list(cache.orphans) == ["uid-1"]
    cache.replace(Listing(rules=[], sensors=[], namespaces=[]), began=cache.begin_list(), now=0)
    assert view.forget_tombstones(set_before=150.0) == 1
    assert not list(cache.entries())


def test_event_types_are_those_of_the_contract() -> None:
    assert {member.value for member in RuleEventType} == {
        f"dev.attune.rule.{what}" for what in ("created", "enabled", "updated", "disabled", "deleted")
    }
