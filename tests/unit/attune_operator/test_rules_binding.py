"""Which Sensor serves a Rule."""

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from attune_contract.identity import SensorRef
from attune_operator.resources.canonical import canonical_json
from attune_operator.rules.binding import Bound, NotAllowed, UnknownTriggerType, bind
from attune_operator.rules.records import NamespacePolicy, SensorRecord, TriggerDeclaration
from attune_operator.rules.selectors import InvalidSelectorError, describe, matches

ALL = NamespacePolicy(source="All")
SAME = NamespacePolicy(source="Same")


def selector(**spec: object) -> NamespacePolicy:
    return NamespacePolicy(source="Selector", selector=canonical_json(spec))


def sensor(
    ref: str, *, day: int = 1, policy: NamespacePolicy = ALL, name: str = "core.timer", aliases: tuple[str, ...] = ()
) -> SensorRecord:
    return SensorRecord(
        ref=SensorRef.parse(ref),
        uid=ref,
        created_at=datetime(2026, 1, day, tzinfo=UTC),
        paused=False,
        triggers=(TriggerDeclaration(name=name, aliases=aliases, schema=b""),),
        namespaces=policy,
    )


def chosen(*sensors: SensorRecord, namespace: str = "default", trigger_type: str = "core.timer", **labels: str) -> str:
    result = bind(
        namespace=namespace,
        trigger_type=trigger_type,
        candidates=sensors,
        labels=labels or None,
        known_types=frozenset({"core.timer"}),
    )
    assert isinstance(result, Bound), result
    return str(result.sensor.ref)


def test_the_sensor_in_the_rules_own_namespace_wins_over_an_older_one() -> None:
    assert chosen(sensor("attune-system/old", day=1), sensor("default/young", day=9)) == "default/young"


def test_among_others_the_oldest_wins() -> None:
    assert chosen(sensor("a/young", day=9), sensor("b/old", day=1)) == "b/old"


def test_of_equally_old_ones_the_first_by_its_ref_wins_whatever_the_order() -> None:
    one, two = sensor("a/x"), sensor("b/x")
    assert chosen(one, two) == chosen(two, one) == "a/x"


def test_of_several_in_the_own_namespace_the_oldest_wins() -> None:
    assert chosen(sensor("default/b", day=2), sensor("default/a", day=3), sensor("x/y", day=1)) == "default/b"


def test_one_in_the_own_namespace_that_does_not_admit_it_does_not_win() -> None:
    picky = sensor("default/picky", policy=selector(matchLabels={"team": "x"}))
    assert chosen(picky, sensor("a/open", day=9)) == "a/open"


def test_an_alias_binds_to_the_canonical_type() -> None:
    result = bind(
        namespace="default",
        trigger_type="core.timer",
        candidates=[sensor("a/x", name="core.intervaltimer", aliases=("core.timer",))],
        labels={},
        known_types=frozenset(),
    )
    assert isinstance(result, Bound)
    assert result.trigger.name == "core.intervaltimer"


def test_an_unknown_type_names_the_closest_and_says_where_to_look() -> None:
    result = bind(
        namespace="default",
        trigger_type="core.intervaltimr",
        candidates=[],
        labels={},
        known_types=frozenset({"core.intervaltimer", "web.hook"}),
    )
    assert isinstance(result, UnknownTriggerType)
    assert "Did you mean core.intervaltimer?" in result.message
    assert "kubectl get sensors -A" in result.message
    assert "web.hook" not in result.message


def test_an_unknown_type_like_no_other_lists_some() -> None:
    result = bind(
        namespace="default", trigger_type="q.q", candidates=[], labels={}, known_types=frozenset({"web.hook"})
    )
    assert isinstance(result, UnknownTriggerType)
    assert "Known types: web.hook." in result.message


def test_not_allowed_names_the_sensor_what_it_admits_and_what_to_change() -> None:
    result = bind(
        namespace="default",
        trigger_type="core.timer",
        candidates=[sensor("attune-system/core.timer", policy=SAME)],
        labels={},
        known_types=frozenset(),
    )
    assert isinstance(result, NotAllowed)
    assert "attune-system/core.timer admits Rules from its own namespace attune-system only" in result.message
    assert "spec.rules.namespaces.from" in result.message


def test_not_allowed_by_a_selector_shows_the_selector() -> None:
    result = bind(
        namespace="default",
        trigger_type="core.timer",
        candidates=[sensor("a/x", policy=selector(matchLabels={"team": "x"}))],
        labels={"team": "y"},
        known_types=frozenset(),
    )
    assert isinstance(result, NotAllowed)
    assert "with team=x only" in result.message
    assert "Label the namespace default" in result.message


def test_a_sensor_that_does_not_run_gets_no_rules_not_even_of_its_own_namespace() -> None:
    def bound(*sensors: SensorRecord, run_in: Sequence[str]) -> Bound | NotAllowed:
        result = bind(
            namespace="team-a",
            trigger_type="core.timer",
            candidates=sensors,
            labels={},
            known_types=frozenset(),
            trusted=TRUSTED,
            run_in=run_in,
        )
        assert isinstance(result, Bound | NotAllowed)
        return result

    own, shared = sensor("team-a/core.timer"), sensor("attune-system/core.timer", day=9)
    chosen = bound(own, shared, run_in=("attune-system",))
    assert isinstance(chosen, Bound)
    assert chosen.sensor is shared
    chosen = bound(own, shared, run_in=())
    assert isinstance(chosen, Bound)
    assert chosen.sensor is own
    refused = bound(own, run_in=("sensors", "attune-system"))
    assert refused == NotAllowed(
        "No Sensor of core.timer runs: this installation runs no Sensors in the namespace of team-a/core.timer. Create the "
        "Sensor in one of: attune-system, sensors; or let an administrator add team-a to the chart value sensorNamespaces "
        "(docs/rbac.md)."
    )


def bound_with(
    *sensors: SensorRecord, trusted: frozenset[str] | None, labels: dict[str, str] | None = None
) -> Bound | NotAllowed:
    result = bind(
        namespace="team-a",
        trigger_type="core.timer",
        candidates=sensors,
        labels=labels,
        known_types=frozenset(),
        trusted=trusted,
    )
    assert isinstance(result, Bound | NotAllowed)
    return result


TRUSTED = frozenset({"attune-system"})


def test_a_sensor_of_another_tenant_gets_no_rules_by_its_own_word() -> None:
    result = bound_with(sensor("team-b/squatter"), trusted=TRUSTED, labels={})
    assert isinstance(result, NotAllowed)
    assert "kubectl label namespace team-a sensors.attune.dev/team-b=allowed" in result.message


@pytest.mark.parametrize(
    ("labels", "allowed"),
    [
        ({"sensors.attune.dev/team-b": "allowed"}, True),
        ({"sensors.attune.dev/team-b": ""}, False),
        ({"sensors.attune.dev/team-b": "false"}, False),
        ({"sensors.attune.dev/team-c": "allowed"}, False),
        (None, False),  # not known
    ],
)
def test_the_rules_namespace_allows_another_by_a_label(labels: dict[str, str] | None, allowed: bool) -> None:
    result = bound_with(sensor("team-b/shared"), trusted=TRUSTED, labels=labels)
    assert isinstance(result, Bound) is allowed


def test_a_label_does_not_widen_what_the_sensor_admits() -> None:
    labels = {"sensors.attune.dev/team-b": "allowed"}
    assert isinstance(bound_with(sensor("team-b/own", policy=SAME), trusted=TRUSTED, labels=labels), NotAllowed)


def test_a_sensor_in_a_trusted_namespace_gets_its_rules_back_from_an_older_one_that_is_only_allowed() -> None:
    labels = {"sensors.attune.dev/team-b": "allowed"}
    result = bound_with(
        sensor("team-b/squatter", day=1), sensor("attune-system/core.timer", day=9), trusted=TRUSTED, labels=labels
    )
    assert isinstance(result, Bound)
    assert str(result.sensor.ref) == "attune-system/core.timer"


def test_sensors_of_the_rules_own_namespace_need_no_trust() -> None:
    result = bound_with(sensor("team-a/own", day=9, policy=SAME), sensor("attune-system/x"), trusted=TRUSTED, labels={})
    assert isinstance(result, Bound)
    assert str(result.sensor.ref) == "team-a/own"


@pytest.mark.parametrize(
    ("spec", "labels", "expected"),
    [
        ({}, {}, True),
        ({"matchLabels": {"a": "1"}}, {"a": "1", "b": "2"}, True),
        ({"matchLabels": {"a": "1"}}, {"a": "2"}, False),
        ({"matchLabels": {"a": "1", "b": "1"}}, {"a": "1"}, False),
        ({"matchExpressions": [{"key": "a", "operator": "In", "values": ["1", "2"]}]}, {"a": "2"}, True),
        ({"matchExpressions": [{"key": "a", "operator": "In", "values": ["1", "2"]}]}, {}, False),
        ({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["1"]}]}, {}, True),
        ({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["1"]}]}, {"a": "1"}, False),
        ({"matchExpressions": [{"key": "a", "operator": "Exists"}]}, {"a": ""}, True),
        ({"matchExpressions": [{"key": "a", "operator": "Exists"}]}, {}, False),
        ({"matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]}, {}, True),
        ({"matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]}, {"a": "1"}, False),
        ({"matchLabels": {"a": "1"}, "matchExpressions": [{"key": "b", "operator": "Exists"}]}, {"a": "1"}, False),
    ],
)
def test_selectors_match_as_in_kubernetes(spec: object, labels: dict[str, str], expected: bool) -> None:
    assert matches(canonical_json(spec), labels) is expected


@pytest.mark.parametrize(
    "spec",
    [
        {"matchExpressions": [{"key": "a", "operator": "Gt", "values": ["1"]}]},
        {"matchExpressions": [{"key": "a", "operator": "In", "values": []}]},
        {"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["1"]}]},
        {"matchExpressions": [{"operator": "Exists"}]},
        {"matchlabels": {"a": "1"}},
        [],
    ],
)
def test_a_selector_that_is_none_takes_nothing_and_says_so(spec: object) -> None:
    text = canonical_json(spec)
    with pytest.raises(InvalidSelectorError):
        matches(text, {"a": "1"})
    assert "invalid selector" in describe(text)
    result = bind(
        namespace="default",
        trigger_type="core.timer",
        candidates=[sensor("a/x", policy=NamespacePolicy(source="Selector", selector=text))],
        labels={"a": "1"},
        known_types=frozenset(),
    )
    assert isinstance(result, NotAllowed)


def test_the_label_that_every_namespace_has_is_known_before_the_namespace_was_seen() -> None:
    policy = selector(matchLabels={"kubernetes.io/metadata.name": "default"})
    assert chosen(sensor("a/x", policy=policy)) == "a/x"


def test_a_selector_is_shown_as_kubectl_takes_it() -> None:
    spec = {
        "matchLabels": {"a": "1"},
        "matchExpressions": [
            {"key": "b", "operator": "In", "values": ["2", "1"]},
            {"key": "c", "operator": "NotIn", "values": ["3"]},
            {"key": "d", "operator": "Exists"},
            {"key": "e", "operator": "DoesNotExist"},
        ],
    }
    assert describe(canonical_json(spec)) == "a=1,b in (1,2),c notin (3),d,!e"
