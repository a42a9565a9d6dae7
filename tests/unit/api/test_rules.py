"""The rules in the API's memory."""

import tracemalloc
import uuid
from datetime import UTC, datetime

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from attune_api.rules.bindings import Binding
from attune_api.rules.cache import KnownRule, RuleCache
from attune_contract.identity import SensorRef
from attune_contract.messages import RuleHead

TIMER = SensorRef("attune-system", "core.timer")
OTHER = SensorRef("default", "my.timer")


def known(number: int = 1, *, sensor: SensorRef = TIMER, namespace: str = "default", **changes: int) -> KnownRule:
    state = RuleHead(
        uid=str(uuid.UUID(int=number)),
        namespace=namespace,
        name=f"rule-{number:06}",
        generation=changes.get("generation", 1),
        enabled=True,
        trigger_type="core.intervaltimer",
        created_at=datetime(2026, 1, 1, 12, tzinfo=UTC),
    )
    return KnownRule.of(state, sensor_key=sensor.token)


def filled(*rules: KnownRule) -> RuleCache:
    cache = RuleCache(patience=60)
    cache.begin_snapshot()
    for each in rules:
        cache.put(each)
    cache.complete_snapshot(now=0)
    return cache


def test_a_rule_comes_out_as_it_went_in_and_names_its_sensor() -> None:
    cache = filled(known(1), known(2, sensor=OTHER))
    assert cache.get(known(1).uid) == known(1)
    assert [each.sensor for each in cache.after()] == [TIMER, OTHER]
    assert cache.get("another") is None
    assert (cache.count(TIMER.token), cache.count("default.nobody")) == (1, 0)


def test_a_tombstone_of_the_old_binding_leaves_the_new_one_alone() -> None:
    cache = filled(known(1))
    cache.put(known(1, sensor=OTHER))
    cache.end_binding(known(1).uid, sensor_key=TIMER.token, at=5)
    assert cache.get(known(1).uid) == known(1, sensor=OTHER)
    assert cache.binding(known(1).uid, TIMER.token) == Binding("default", "rule-000001", 5)
    assert cache.binding(known(1).uid, OTHER.token) == Binding("default", "rule-000001")
    cache.put(known(1))  # and back
    assert cache.binding(known(1).uid, TIMER.token) == Binding("default", "rule-000001")


def test_a_rule_that_is_absent_from_a_wiped_stream_stays_until_patience_ends() -> None:
    cache = filled(known(1), known(2))
    cache.begin_snapshot()
    assert cache.complete_snapshot(now=100) == 2
    assert len(cache) == 2
    cache.put(known(2))  # the operator fills it again
    assert cache.expire(now=159) == 1
    assert cache.get(known(1).uid) is not None
    assert cache.expire(now=160) == 0
    assert cache.get(known(1).uid) is None
    assert cache.get(known(2).uid) is not None
    assert cache.binding(known(1).uid, TIMER.token) == Binding("default", "rule-000001", 160)


def test_before_the_stream_was_read_to_its_end_nothing_was_heard() -> None:
    cache = RuleCache()
    cache.begin_snapshot()
    cache.put(known(1))
    assert not cache.heard
    cache.complete_snapshot(now=0)
    assert cache.heard


def test_a_list_goes_on_behind_a_key_even_if_that_rule_is_gone() -> None:
    cache = filled(*(known(n, namespace=namespace) for n, namespace in enumerate(["b", "a", "c", "b", "a"])))
    keys = [each.key for each in cache.after()]
    assert keys == sorted(keys)
    assert [each.key for each in cache.after(keys[1])] == keys[2:]
    assert [each.key for each in cache.after(namespace="b")] == keys[2:4]
    assert [each.key for each in cache.after(keys[2], namespace="b")] == keys[3:4]
    assert list(cache.after(keys[4], namespace="b")) == []
    cache.end_binding(keys[1][2], sensor_key=TIMER.token, at=1)
    assert [each.key for each in cache.after(keys[1])] == keys[2:]


def test_only_so_many_ended_bindings_are_remembered() -> None:
    cache = RuleCache(most_ended=2)
    for number in range(3):
        cache.end_binding(str(number), sensor_key=TIMER.token, at=number)
    assert [cache.binding(str(number), TIMER.token) for number in range(3)] == [
        None,
        Binding("", "", 1),
        Binding("", "", 2),
    ]


def test_a_rule_takes_less_than_300_bytes_so_100_000_fit() -> None:
    tracemalloc.start()
    try:
        cache = RuleCache()
        cache.begin_snapshot()
        for number in range(10_000):
            cache.put(known(number, namespace=f"team-{number % 50}"))
        cache.complete_snapshot(now=0)
        next(cache.after())
        used = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert len(cache) == 10_000
    assert used / 10_000 < 300


class BookMachine(RuleBasedStateMachine):
    """Whatever the stream says in whatever order, the cache is what a plain dictionary would be."""

    def __init__(self) -> None:
        super().__init__()
        self.cache = RuleCache(patience=10)
        self.model: dict[str, KnownRule] = {}
        self.absent: dict[str, float] = {}
        self.seen: set[str] | None = None
        self.now = 0.0

    numbers = st.integers(1, 6)
    sensors = st.sampled_from([TIMER, OTHER])

    @rule(number=numbers, sensor=sensors, generation=st.integers(1, 3), namespace=st.sampled_from("ab"))
    def put(self, number: int, sensor: SensorRef, generation: int, namespace: str) -> None:
        each = known(number, sensor=sensor, generation=generation, namespace=namespace)
        self.cache.put(each)
        self.model[each.uid] = each
        self.absent.pop(each.uid, None)
        if self.seen is not None:
            self.seen.add(each.uid)

    @rule(number=numbers, sensor=sensors)
    def end_binding(self, number: int, sensor: SensorRef) -> None:
        uid = known(number).uid
        self.cache.end_binding(uid, sensor_key=sensor.token, at=self.now)
        if uid in self.model and self.model[uid].sensor_key == sensor.token:
            del self.model[uid]
            self.absent.pop(uid, None)

    @rule()
    def begin(self) -> None:
        self.cache.begin_snapshot()
        self.seen = set()

    @precondition(lambda self: self.seen is not None)
    @rule()
    def complete(self) -> None:
        assert self.seen is not None
        for uid in self.model.keys() - self.seen:
            self.absent.setdefault(uid, self.now)
        self.seen = None
        self.cache.complete_snapshot(now=self.now)
        self._expire()

    @rule(seconds=st.sampled_from([1, 9, 10]))
    def wait(self, seconds: int) -> None:
        self.now += seconds
        self.cache.expire(now=self.now)
        self._expire()

    def _expire(self) -> None:
        for uid in [uid for uid, since in self.absent.items() if self.now - since >= 10]:
            del self.absent[uid]
            del self.model[uid]

    @invariant()
    def agrees(self) -> None:
        assert list(self.cache.after()) == sorted(self.model.values(), key=lambda each: each.key)
        assert len(self.cache) == len(self.model)
        for sensor in (TIMER, OTHER):
            assert self.cache.count(sensor.token) == sum(
                each.sensor_key == sensor.token for each in self.model.values()
            )


TestBook = BookMachine.TestCase
TestBook.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
