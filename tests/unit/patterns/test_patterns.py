"""Rules about events: parameters, what events carry, packed states; and that the manifest agrees with the program."""

import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
import yaml
from support.pattern_model import SECOND, START, Entry, live
from support.rule_stream import rule_state

from attune_contract.derived import DERIVED_TRIGGER_TYPES, MOST_STATE_BYTES
from attune_contract.resources import Sensor as SensorResource
from attune_patterns.calendar import Daily
from attune_patterns.decide import Decider, Outcome, Pattern, begin
from attune_patterns.events import UnusableKeyError, hops_behind, key_of, report_of, seen_of
from attune_patterns.operators import Absent, AbsentAt, Count, Debounce
from attune_patterns.parameters import listening_of
from attune_patterns.state import KeyState, Mark, PackedError, State, pack, unpack
from attune_sensor import InvalidRuleError, Rule, StoredEvent

PACK = Path(__file__).parents[3] / "packs" / "patterns" / "core.patterns.yaml"
SENSOR = SensorResource.from_object(yaml.safe_load(PACK.read_text()))


def declared(kind: str) -> Any:
    found = SENSOR.spec.canonical(kind)
    assert found is not None
    return found


def rule(kind: str, **parameters: Any) -> Rule:
    return Rule(state=rule_state(trigger_type=kind, parameters=parameters), since_us=0)


def test_the_manifest_has_the_types_that_may_read_events() -> None:
    assert {each.name for each in SENSOR.spec.trigger_types} == DERIVED_TRIGGER_TYPES


TWO = {"rules": ["a", "b"], "within": "1m"}


@pytest.mark.parametrize(
    ("kind", "parameters", "good"),
    [
        ("core.count", {"rules": ["a"], "count": 2, "within": "1m"}, True),
        ("core.count", {"rules": ["a"], "count": 1, "within": "1m"}, False),
        ("core.count", {"rules": ["a"], "count": 1001, "within": "1m"}, False),
        ("core.count", {"rules": [], "count": 2, "within": "1m"}, False),
        ("core.count", {"rules": ["a", "a"], "count": 2, "within": "1m"}, False),
        ("core.count", {"rules": ["A"], "count": 2, "within": "1m"}, False),
        ("core.count", {"rules": ["a"], "count": 2}, False),
        ("core.count", {"rules": ["a"], "count": 2, "within": "a minute"}, False),
        ("core.count", {"rules": ["a"], "count": 2, "within": "1m", "quiet": "1m"}, False),
        ("core.count", {"rules": ["a"], "count": 2, "within": "1m", "when": "true", "key": "1", "maxKeys": 3}, True),
        ("core.count", {"rules": ["a"], "count": 2, "within": "1m", "key": "1", "maxKeys": 10_001}, False),
        ("core.all", TWO, True),
        ("core.all", {**TWO, "rules": ["a"]}, False),
        ("core.sequence", {**TWO, "rules": ["a", "b", "a"]}, True),
        ("core.sequence", {**TWO, "rules": ["a"]}, False),
        ("core.debounce", {"rules": ["a"], "quiet": "30s"}, True),
        ("core.debounce", {"rules": ["a"]}, False),
        ("core.throttle", {"rules": ["a"], "every": "1h"}, True),
        ("core.throttle", {"rules": ["a"], "every": "1h", "within": "1h"}, False),
        ("core.absent", {"rules": ["a"], "within": "25h"}, True),
        (
            "core.absent",
            {"rules": ["a"], "within": "8h", "at": "06:00", "timezone": "Europe/Berlin", "days": ["mon"]},
            True,
        ),
        ("core.absent", {"rules": ["a"], "within": "8h", "at": "6:00"}, False),
        ("core.absent", {"rules": ["a"], "within": "8h", "at": "24:00"}, False),
        ("core.absent", {"rules": ["a"], "within": "8h", "days": ["mon"]}, False),
        ("core.absent", {"rules": ["a"], "within": "8h", "at": "06:00", "days": ["monday"]}, False),
        ("core.absent", {"rules": ["a"], "within": "8h", "key": "event.id", "keys": ["x"], "returns": True}, True),
        ("core.absent", {"rules": ["a"], "within": "8h", "keys": ["x"]}, False),
    ],
)
def test_the_manifest_and_the_program_agree(kind: str, parameters: dict[str, Any], good: bool) -> None:
    schema = jsonschema.Draft202012Validator(declared(kind).parameters_schema)
    assert schema.is_valid(parameters) == good
    if good:
        listening_of(rule(kind, **parameters))
    else:
        with pytest.raises(InvalidRuleError):
            listening_of(rule(kind, **parameters))


@pytest.mark.parametrize(
    ("kind", "parameters", "complaint"),
    [
        ("core.count", {"rules": ["rule-1"], "count": 2, "within": "1m"}, "names this rule itself"),
        ("core.count", {"rules": ["a"], "count": 2, "within": "10ms"}, "expected from 1s"),
        ("core.count", {"rules": ["a"], "count": 2, "within": "745h"}, "744h"),
        ("core.count", {"rules": ["a"], "count": 100, "within": "1m", "key": "1", "maxKeys": 501}, "at most 500"),
        ("core.absent", {"rules": ["a"], "within": "1m", "at": "06:00", "timezone": "Mars"}, "timezone"),
        ("core.absent", {"rules": ["a"], "within": "1m", "key": "1", "keys": ["a", "b"], "maxKeys": 1}, "2 keys"),
    ],
)
def test_what_the_schema_cannot_say_is_a_sentence(kind: str, parameters: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InvalidRuleError, match=complaint):
        listening_of(rule(kind, **parameters))


def test_only_what_decides_makes_a_rule_begin_again() -> None:
    one = listening_of(rule("core.count", rules=["a"], count=2, within="1m"))
    same = listening_of(rule("core.count", within="1m", count=2, rules=["a"]))
    other = listening_of(rule("core.count", rules=["a"], count=3, within="1m"))
    assert one.fingerprint == same.fingerprint != other.fingerprint


# -- events ----------------------------------------------------------------------------------------------------------------


def event(
    seq: int = 1, *, kind: str = "core.webhook", payload: Any = None, name: str = "a", **times: datetime
) -> StoredEvent:
    at = datetime(2026, 11, 28, 10, tzinfo=UTC)
    fields: dict[str, Any] = {"occurred_at": at, "received_at": at, **times}
    return StoredEvent(
        id=uuid.UUID(int=seq),
        seq=seq,
        trigger_type=kind,
        rule_uid="u",
        rule_namespace="default",
        rule_name=name,
        sensor_ref="default/x",
        payload=msgspec.Raw(msgspec.json.encode({} if payload is None else payload)),
        **fields,
    )


@pytest.mark.parametrize(
    ("kind", "payload", "hops"),
    [
        ("core.webhook", {"pattern": {"hops": 7}, "emitted": {"hops": 7}}, 0),
        ("core.count", {"pattern": {"hops": 3}, "emitted": {"hops": 7}}, 3),
        ("core.event", {"emitted": {"hops": 2}, "pattern": {"hops": 7}}, 2),
        ("core.count", {"pattern": "x"}, 0),
        ("core.count", {"pattern": {"hops": -1}}, 0),
        ("core.count", {}, 0),
    ],
)
def test_hops_are_believed_of_the_sensors_that_count_them(kind: str, payload: Any, hops: int) -> None:
    assert hops_behind(event(kind=kind, payload=payload)) == hops


def test_keys_are_texts_and_numbers() -> None:
    assert [key_of(value) for value in ("a", 3, 2.5, True, "x\0y")] == ["a", "3", "2.5", "true", "x\ufffdy"]
    unusable: list[Any] = [None, [], {}, "", "x" * 257]
    for value in unusable:
        with pytest.raises(UnusableKeyError):
            key_of(value)


@pytest.mark.parametrize("kind", sorted(DERIVED_TRIGGER_TYPES))
def test_payloads_are_as_the_manifest_says(kind: str) -> None:
    of_kind: dict[str, dict[str, Any]] = {
        "core.absent": {"within": "1m", "returns": True},
        "core.count": {"count": 2, "within": "1m"},
        "core.debounce": {"quiet": "1m"},
        "core.throttle": {"every": "1m"},
    }
    parameters = of_kind.get(kind, {"within": "1m"})
    of = rule(kind, rules=["a", "b"], key="event.payload.k", **parameters)
    listening = listening_of(of)
    decider = Decider(listening.pattern, begin(listening.pattern, fingerprint="", now=START, position=0))
    outcomes: list[tuple[Outcome, StoredEvent | None]] = []
    for seq, name in enumerate(("a", "b", "a"), 1):
        moment = datetime(2026, 11, 28, 10, 2 * (seq // 3), seq, tzinfo=UTC)
        source = event(
            seq, name=name, kind="core.event", payload={"emitted": {"hops": 2}}, occurred_at=moment, received_at=moment
        )
        found = decider.take(seen_of(source, listening, key="k", hops=hops_behind(source)))
        outcomes += [(each, source if each.fired.marks[-1].seq == seq else None) for each in found]
    outcomes += [(each, None) for each in decider.advance(decider.state.clock + 3600 * SECOND)]
    assert outcomes
    schema = jsonschema.Draft202012Validator(declared(kind).payload_schema)
    for outcome, last in outcomes:
        report = report_of(of, listening, outcome, last=last)
        schema.validate(msgspec.to_builtins(report.payload))
        assert report.payload["pattern"] == {"hops": 3}
        assert report.payload["key"] == "k"
        assert ("last" in report.payload) == (last is not None)


# -- states ----------------------------------------------------------------------------------------------------------------


def test_a_state_of_ten_thousand_keys_fits_and_comes_back() -> None:
    keys = {
        f"device-{number}": KeyState(
            touched=START + number * 7919,
            marks=[Mark(at=START + number * 7919, seq=number, member=0, hops=0, id=uuid.uuid4().bytes)] * 5,
        )
        for number in range(10_000)
    }
    state = State(fingerprint="f", began=START, position=9, clock=START, keys=keys, dropped=2)
    packed = pack(state)
    assert len(packed) < MOST_STATE_BYTES
    assert unpack(packed) == state
    assert list(unpack(packed).keys) == list(keys), "the one that was idle the longest stays the first"


@pytest.mark.parametrize("packed", [b"", b"x", pack(State(fingerprint="", began=0, position=0, clock=0))[:-9]])
def test_what_is_no_state_is_said(packed: bytes) -> None:
    with pytest.raises(PackedError):
        unpack(packed)


def test_the_keys_that_were_idle_the_longest_are_given_up() -> None:
    pattern = Pattern(
        operator=Absent(within=60 * SECOND, tells_return=False), most_keys=3, expected=frozenset({"always"})
    )
    log = [Entry(START + n * SECOND, START + n * SECOND, key) for n, key in enumerate(["a", "b", "a", "c", "d"])]
    found = live(pattern, log, until=START + 3600 * SECOND)
    assert {key for key, *_ in found.values()} == {"always", "c", "d"}


def test_an_absence_that_nobody_ever_heard_of_begins_with_the_rule() -> None:
    pattern = Pattern(operator=Absent(within=5 * SECOND, tells_return=True), most_keys=1, expected=frozenset({""}))
    found = live(pattern, [], until=START + 3600 * SECOND)
    assert list(found.values()) == [("", "missing", START + 5 * SECOND, ())]


def test_a_time_of_the_day_counts_when_all_of_its_time_before_lies_after_the_beginning() -> None:
    hour = 3600 * SECOND
    at = AbsentAt(within=2 * hour, next_time=lambda after: (after // hour + 1) * hour, tells_return=False)
    pattern = Pattern(operator=at, most_keys=1, expected=frozenset({""}))
    first = ((START + 2 * hour) // hour + 1) * hour
    found = live(pattern, [], until=first + hour)
    assert [when for _, _, when, _ in found.values()] == [first, first + hour]
    heard = [Entry(first - 10 * SECOND, first - 10 * SECOND, "")]
    assert live(pattern, heard, until=first + hour) == {}
    assert [when for _, _, when, _ in live(pattern, heard, until=first + 2 * hour).values()] == [first + 2 * hour]


def test_events_that_come_late_together_are_counted_by_when_they_occurred() -> None:
    """The API was away for half an hour, and a sensor delivers what it has on its disk."""
    back = START + 1800 * SECOND
    log = [Entry(back + n, START + n * SECOND, "a") for n in range(3)]
    pattern = Pattern(operator=Count(count=3, window=10 * SECOND), most_keys=1)
    assert [each[1:] for each in live(pattern, log, until=back + SECOND).values()] == [
        ("reached", START + 2 * SECOND, (1, 2, 3))
    ]
    heard = Pattern(operator=Absent(within=1000 * SECOND, tells_return=True), most_keys=1)
    assert live(heard, [*log, Entry(back + 9, back, "a")], until=back + SECOND) == {}


def test_a_burst_is_one_event() -> None:
    log = [Entry(START + n * SECOND, START + n * SECOND, "a") for n in (0, 1, 2, 30)]
    pattern = Pattern(operator=Debounce(quiet=10 * SECOND), most_keys=1)
    found = live(pattern, log, until=START + 3600 * SECOND)
    assert [(at - START) // SECOND for _, _, at, _ in found.values()] == [12, 40]


# -- times of the day ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("after", "wanted"),
    [
        ("2026-11-28T04:59:00+00:00", "2026-11-28T06:00:00+01:00"),
        ("2026-11-28T05:00:00+00:00", "2026-11-29T06:00:00+01:00"),
        ("2026-03-28T12:00:00+00:00", "2026-03-29T06:00:00+02:00"),  # clocks are put forward in between
    ],
)
def test_a_time_of_the_day_in_its_zone(after: str, wanted: str) -> None:
    daily = Daily.parse("06:00", zone="Europe/Berlin")
    found = daily.next(int(datetime.fromisoformat(after).timestamp() * 1e6))
    assert datetime.fromtimestamp(found / 1e6, UTC) == datetime.fromisoformat(wanted)


def test_on_some_days_only_and_where_it_does_not_exist() -> None:
    monday = Daily.parse("06:00", zone="UTC", days=["mon"])
    found = monday.next(int(datetime(2026, 11, 28, tzinfo=UTC).timestamp() * 1e6))
    assert datetime.fromtimestamp(found / 1e6, UTC) == datetime(2026, 11, 30, 6, tzinfo=UTC)
    left_out = Daily.parse("02:30", zone="Europe/Berlin")
    found = left_out.next(int(datetime(2026, 3, 28, 12, tzinfo=UTC).timestamp() * 1e6))
    assert datetime.fromtimestamp(found / 1e6, UTC) == datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
