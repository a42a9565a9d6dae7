"""The rules that a sensor knows: pure state."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st
from support.rule_stream import changed, rule_state

from attune_contract.messages import RuleState
from attune_sensor._rule_table import RuleChange, RuleTable
from attune_sensor._rules import Rule


def rule(state: RuleState, since_us: int = 0) -> Rule:
    return Rule(state=state, since_us=since_us)


def swap(
    table: RuleTable, *rules: Rule, now: float = 0.0, tombstones: Sequence[str] = (), unreadable: Sequence[str] = ()
) -> list[RuleChange]:
    snapshot = {known.uid: known for known in rules}
    return table.replace(
        snapshot, now=now, patience=15.0, tombstones=dict.fromkeys(tombstones), unreadable=set(unreadable)
    )


FIRST = rule(rule_state(1))
SECOND = rule(rule_state(2))
RAISED = rule(changed(FIRST.state))


def test_new_rule_is_a_change() -> None:
    table = RuleTable()
    assert table.put(FIRST) == RuleChange(FIRST.uid, None, FIRST)
    assert list(table) == [FIRST]


def test_same_state_again_changes_nothing_and_keeps_its_time() -> None:
    table = RuleTable()
    table.put(FIRST)
    assert table.put(rule(FIRST.state, since_us=9)) is None
    assert table.get(FIRST.uid) is FIRST


def test_lower_generation_is_dropped() -> None:
    table = RuleTable()
    table.put(RAISED)
    assert table.put(FIRST) is None
    assert table.get(FIRST.uid) == RAISED


def test_same_generation_with_other_content_is_taken() -> None:
    table = RuleTable()
    table.put(FIRST)
    other = rule(rule_state(1, parameters={"interval": 2}))
    assert table.put(other) == RuleChange(FIRST.uid, FIRST, other)


def test_tombstone_deletes() -> None:
    table = RuleTable()
    table.put(FIRST)
    assert table.remove(FIRST.uid, FIRST.state) == RuleChange(FIRST.uid, FIRST, None)
    assert len(table) == 0


def test_tombstone_without_a_body_deletes() -> None:
    table = RuleTable()
    table.put(FIRST)
    assert table.remove(FIRST.uid, None) == RuleChange(FIRST.uid, FIRST, None)


def test_tombstone_of_a_lower_generation_is_dropped() -> None:
    table = RuleTable()
    table.put(RAISED)
    assert table.remove(FIRST.uid, FIRST.state) is None
    assert table.get(FIRST.uid) == RAISED


def test_overtaken_state_does_not_bring_a_deleted_rule_back() -> None:
    table = RuleTable()
    table.put(RAISED)
    table.remove(RAISED.uid, RAISED.state)
    assert table.put(FIRST) is None


def test_nor_does_it_after_an_older_tombstone_came_again() -> None:
    table = RuleTable()
    table.put(RAISED)
    table.remove(RAISED.uid, RAISED.state)
    table.remove(FIRST.uid, FIRST.state)
    assert table.put(FIRST) is None


def test_after_a_snapshot_a_lower_generation_is_news_again() -> None:
    """A Kubernetes that was restored from a backup counts from where it was then."""
    table = RuleTable()
    table.put(RAISED)
    table.remove(RAISED.uid, RAISED.state)
    swap(table)
    assert table.put(FIRST) == RuleChange(FIRST.uid, None, FIRST)


def test_rule_whose_binding_came_back_returns_with_the_same_generation() -> None:
    table = RuleTable()
    table.put(FIRST)
    table.remove(FIRST.uid, FIRST.state)
    assert table.put(FIRST) == RuleChange(FIRST.uid, None, FIRST)


def test_snapshot_deletes_what_has_a_tombstone() -> None:
    table = RuleTable()
    table.put(FIRST)
    table.put(SECOND)
    assert swap(table, SECOND, tombstones=[FIRST.uid]) == [RuleChange(FIRST.uid, FIRST, None)]
    assert list(table) == [SECOND]


def test_snapshot_with_an_older_tombstone_deletes_only_after_a_while() -> None:
    table = RuleTable()
    table.put(RAISED)
    older = {FIRST.uid: FIRST.generation}
    assert table.replace({}, now=0.0, patience=15.0, tombstones=older) == []
    assert table.missing == 1
    assert table.replace({}, now=15.0, patience=15.0, tombstones=older) == [RuleChange(FIRST.uid, RAISED, None)]


def test_what_is_absent_for_long_is_deleted() -> None:
    table = RuleTable()
    table.put(FIRST)
    table.put(SECOND)
    assert swap(table, SECOND, now=100.0) == []
    assert table.missing == 1
    assert swap(table, SECOND, now=114.9) == [], "a stream that was wiped is still being filled"
    assert swap(table, SECOND, now=115.0) == [RuleChange(FIRST.uid, FIRST, None)]
    assert table.missing == 0


def test_absence_that_ended_begins_anew() -> None:
    table = RuleTable()
    table.put(FIRST)
    swap(table, now=100.0)
    swap(table, FIRST, now=110.0)
    assert swap(table, now=120.0) == []
    table.put(FIRST)
    assert table.missing == 0
    assert swap(table, now=136.0) == []


def test_snapshot_that_says_nothing_new_changes_nothing() -> None:
    table = RuleTable()
    table.put(FIRST)
    assert swap(table, rule(FIRST.state, since_us=9)) == []
    assert table.get(FIRST.uid) is FIRST


def test_snapshot_of_a_restored_stream_does_not_take_a_rule_back() -> None:
    table = RuleTable()
    table.put(RAISED)
    assert swap(table, FIRST) == []
    assert table.get(FIRST.uid) == RAISED


def test_rule_that_a_snapshot_holds_unreadably_stays_as_it_was() -> None:
    table = RuleTable()
    table.put(FIRST)
    table.put(SECOND)
    assert swap(table, SECOND, unreadable=[FIRST.uid]) == []
    assert swap(table, SECOND, unreadable=[FIRST.uid], now=1000.0) == []
    assert {known.uid for known in table} == {FIRST.uid, SECOND.uid}


STATES = st.builds(
    rule_state,
    st.integers(1, 4),
    generation=st.integers(1, 4),
    enabled=st.booleans(),
    parameters=st.sampled_from([{"interval": 1}, {"interval": 2}]),
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), STATES),
        st.tuples(st.just("remove"), STATES),
        st.tuples(st.just("replace"), st.lists(STATES, max_size=4)),
    ),
    max_size=30,
)


@given(STEPS)
def test_changes_told_are_the_changes_made(steps: list[tuple[str, RuleState | list[RuleState]]]) -> None:
    """Whoever applies the changes to a dictionary has the table."""
    table = RuleTable()
    mirror: dict[str, Rule] = {}
    now = 0.0
    for kind, argument in steps:
        if isinstance(argument, list):
            now += 10.0
            changes = swap(table, *(rule(state) for state in argument), now=now)
        elif kind == "put":
            changes = [change for change in [table.put(rule(argument))] if change]
        else:
            changes = [change for change in [table.remove(argument.uid, argument)] if change]
        for change in changes:
            assert mirror.get(change.uid) == change.old
            assert change.old != change.new
            if change.new is None:
                del mirror[change.uid]
            else:
                if change.old is not None:
                    assert change.new.generation >= change.old.generation
                mirror[change.uid] = change.new
        assert mirror == {known.uid: known for known in table}
