"""Which Rules have a place at a Sensor that may serve a number of them only."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attune_contract.identity import SensorRef
from attune_contract.quotas import NamespaceQuotas, Quotas
from attune_operator.rules.places import Places, Seat

T0 = datetime(2026, 1, 1, tzinfo=UTC)
TIMER, STDIO = SensorRef("attune-system", "core.timer"), SensorRef("attune-system", "programs")


def seat(age: int, namespace: str = "shop", sensor: SensorRef = TIMER, *, process: bool = False) -> Seat:
    """A place of a Rule that was created ``age`` seconds after the first."""
    return Seat(sensor, namespace, T0 + timedelta(seconds=age), process=process)


def refused(places: Places, *uids: str) -> list[bool]:
    return [places.refusal(uid) is not None for uid in uids]


def test_older_rules_keep_their_places_and_a_free_one_goes_to_the_oldest_without() -> None:
    places = Places(Quotas(rules_per_sensor=2))
    assert places.put("a", seat(1)) == set()
    assert places.put("b", seat(2)) == set()
    assert places.put("d", seat(4)) == set(), "nobody loses a place to a newcomer"
    assert places.put("c", seat(3)) == set()
    assert places.put("other", seat(9, "bank")) == set()
    assert refused(places, "a", "b", "c", "d", "other") == [False, False, True, True, False]
    assert places.refused == 2
    assert places.put("a", None) == {"c"}
    assert refused(places, "b", "c", "d") == [False, False, True]
    assert places.put("c", None) == {"d"}
    assert places.refused == 0


def test_the_order_in_which_rules_become_known_makes_no_difference() -> None:
    places = Places(Quotas(rules_per_sensor=1))
    assert places.put("young", seat(5)) == set()
    assert places.put("old", seat(1)) == {"young"}
    assert refused(places, "old", "young") == [False, True]


def test_what_is_above_its_namespaces_limit_takes_no_place_from_others() -> None:
    places = Places(Quotas(rules_per_sensor=1, rules_per_sensor_total=2))
    for number in range(10):
        places.put(f"shop-{number}", seat(number))
    places.put("bank", seat(100, "bank"))
    places.put("late", seat(101, "mill"))
    assert refused(places, "shop-0", "shop-1", "bank", "late") == [False, True, False, True]
    assert "at most 1 Rule of the namespace shop" in (places.refusal("shop-1") or "")
    assert "quotas.rulesPerSensorTotal" in (places.refusal("late") or "")
    assert "shop-1" in places.put("shop-0", None)
    assert refused(places, "shop-1", "bank", "late") == [False, False, True], "the namespace keeps its place"


def test_processes_count_where_there_is_one_for_each_rule() -> None:
    quotas = Quotas(processes_per_sensor=1)
    places = Places(quotas)
    places.put("a", seat(1, sensor=STDIO, process=True))
    places.put("b", seat(2, sensor=STDIO, process=True))
    places.put("c", seat(3))
    places.put("d", seat(4))
    assert refused(places, "a", "b", "c", "d") == [False, True, False, False]
    assert "runs at most 1 processes, one for each Rule" in (places.refusal("b") or "")
    changed = places.put("a", seat(1, sensor=STDIO, process=False))
    assert changed == {"b"}, "the Sensor runs one process for all rules from now on"
    assert refused(places, "a", "b") == [False, False]


def test_single_namespaces_have_their_own_limit() -> None:
    places = Places(Quotas(rules_per_sensor=1, namespaces={"big": NamespaceQuotas(rules_per_sensor=0)}))
    for number in range(5):
        places.put(f"{number}", seat(number, "big"))
    assert places.refused == 0


def test_without_limits_nothing_is_remembered() -> None:
    places = Places(Quotas(events_per_second=5))
    assert places.put("a", seat(1)) == set()
    assert not places.active
    assert places.refused == 0
    assert not places._seats


_STEPS = st.lists(
    st.tuples(
        st.sampled_from("abcdefgh"),
        st.one_of(
            st.none(),
            st.builds(
                seat,
                st.integers(0, 3),
                st.sampled_from(["shop", "bank"]),
                st.sampled_from([TIMER, STDIO]),
            ),
        ),
    ),
    max_size=40,
)


@given(
    steps=_STEPS,
    per_namespace=st.integers(0, 3),
    total=st.integers(0, 4),
)
def test_it_is_as_if_all_were_sorted_each_time(
    steps: list[tuple[str, Seat | None]], per_namespace: int, total: int
) -> None:
    places = Places(Quotas(rules_per_sensor=per_namespace, rules_per_sensor_total=total))
    seats: dict[str, Seat] = {}
    before: set[str] = set()
    for uid, wanted in steps:
        changed = places.put(uid, wanted)
        if wanted is None:
            seats.pop(uid, None)
        else:
            seats[uid] = wanted
        now = _without_a_place(seats, per_namespace, total)
        assert {each for each in seats if places.refusal(each)} == now
        assert places.refused == len(now) or not places.active
        assert (before ^ now) - {uid} <= changed, "whoever is concerned is named"
        before = now


def _without_a_place(seats: dict[str, Seat], per_namespace: int, total: int) -> set[str]:
    out: set[str] = set()
    for sensor in {each.sensor for each in seats.values()}:
        uids = sorted(
            (uid for uid in seats if seats[uid].sensor == sensor), key=lambda uid: (seats[uid].created_at, uid)
        )
        counts: dict[str, int] = {}
        within: list[str] = []
        for uid in uids:
            namespace = seats[uid].namespace
            counts[namespace] = counts.get(namespace, 0) + 1
            if per_namespace and counts[namespace] > per_namespace:
                out.add(uid)
            else:
                within.append(uid)
        out.update(within[total:] if total else [])
    return out


@pytest.mark.parametrize("number", [20_000])
def test_many_rules_at_once_are_no_matter(number: int) -> None:
    places = Places(Quotas(rules_per_sensor=number // 2))
    for age in range(number):
        assert places.put(f"{age}", seat(age)) == set()
    assert places.refused == number // 2
    assert places.put("0", None) == {str(number // 2)}
