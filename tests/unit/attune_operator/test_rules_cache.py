"""What is believed about Kubernetes when watch events are late, repeated, or never come."""

from typing import Any

import pytest

from attune_contract.identity import SensorRef
from attune_operator.rules.cache import Listing, RuleCache
from attune_operator.rules.decisions import decide
from attune_operator.rules.records import InvalidObjectError, NamespaceRecord, parse_namespace, parse_rule, parse_sensor


def rule(
    uid: str = "u1",
    *,
    generation: int = 1,
    namespace: str = "default",
    kind: str = "core.timer",
    version: str = "",
    **status: Any,
) -> Any:
    identity = {"uid": uid, "namespace": namespace, "name": uid}
    return parse_rule(
        {
            "metadata": {**identity, "generation": generation, "resourceVersion": version},
            "spec": {"trigger": {"type": kind, "parameters": {"generation": generation}}},
            "status": status,
        }
    )


def sensor(name: str = "timer", *types: str, uid: str = "s1", **spec: Any) -> Any:
    return parse_sensor(
        {
            "metadata": {"uid": uid, "namespace": "attune-system", "name": name},
            "spec": {"triggerTypes": [{"name": each} for each in types or ("core.timer",)], **spec},
        }
    )


def namespace(name: str, **labels: str) -> NamespaceRecord:
    return NamespaceRecord(name=name, uid=name, labels=labels)


def listing(*rules: Any, sensors: list[Any] | None = None, namespaces: Any = None) -> Listing:
    return Listing(rules=list(rules), sensors=sensors or [], namespaces=namespaces or [])


def listed(cache: RuleCache, *rules: Any, **others: Any) -> set[str]:
    return cache.replace(listing(*rules, **others), began=cache.begin_list(), now=0)


@pytest.fixture
def cache() -> RuleCache:
    return RuleCache()


class TestLists:
    def test_nothing_is_complete_before_the_first(self, cache: RuleCache) -> None:
        cache.put_rule(rule(), now=0)
        assert not cache.complete
        listed(cache)
        assert cache.complete

    def test_a_list_brings_what_events_did_not(self, cache: RuleCache) -> None:
        assert listed(cache, rule("u1"), rule("u2")) == {"u1", "u2"}
        assert listed(cache, rule("u1", generation=2), rule("u2")) == {"u1"}
        assert listed(cache, rule("u2")) == {"u1"}
        assert set(cache.rules) == {"u2"}

    def test_what_an_event_told_since_the_list_began_stays(self, cache: RuleCache) -> None:
        began = cache.begin_list()
        cache.put_rule(rule("new"), now=0)
        cache.put_rule(rule("changed", generation=2), now=0)
        cache.replace(listing(rule("changed", generation=1)), began=began, now=0)
        assert set(cache.rules) == {"new", "changed"}
        assert cache.rules["changed"].generation == 2

    def test_a_rule_that_was_deleted_while_the_list_came_stays_deleted(self, cache: RuleCache) -> None:
        listed(cache, rule("u1"))
        began = cache.begin_list()
        cache.delete_rule("u1")
        cache.replace(listing(rule("u1")), began=began, now=0)
        assert not cache.rules

    def test_a_list_is_newer_than_an_event_that_was_late_during_it(self, cache: RuleCache) -> None:
        began = cache.begin_list()
        cache.put_rule(rule("u1", generation=1), now=0)
        cache.replace(listing(rule("u1", generation=2)), began=began, now=0)
        assert cache.rules["u1"].generation == 2

    def test_a_list_wins_over_events_before_it_even_with_a_lower_generation(self, cache: RuleCache) -> None:
        cache.put_rule(rule("u1", generation=5), now=0)
        listed(cache, rule("u1", generation=3))  # a restored etcd
        assert cache.rules["u1"].generation == 3

    def test_sensors_and_namespaces_are_replaced_too(self, cache: RuleCache) -> None:
        listed(cache, rule(), sensors=[sensor()], namespaces=[namespace("default", a="1")])
        assert listed(cache, rule(), sensors=[], namespaces=[namespace("default", a="1")]) == {"u1"}
        assert not list(cache.candidates("core.timer"))
        assert listed(cache, rule(), namespaces=[namespace("default", a="2")]) == {"u1"}
        assert listed(cache, rule()) == {"u1"}
        assert cache.labels("default") is None

    def test_a_sensor_that_an_event_told_of_meanwhile_stays(self, cache: RuleCache) -> None:
        began = cache.begin_list()
        cache.put_sensor(sensor())
        cache.replace(listing(), began=began, now=0)
        assert list(cache.sensors) == [SensorRef("attune-system", "timer")]


class TestWhatNeedNotBeReadAgain:
    """Of the next list only what is not known as it stands there is read; the rest is only said to be there."""

    def unchanged(self, cache: RuleCache, *uids: str, **others: Any) -> set[str]:
        listing = Listing(rules=[], sensors=[], namespaces=[], unchanged=uids)
        return cache.replace(listing, began=cache.begin_list(), now=0, **others)

    def test_a_rule_that_was_listed_or_seen_in_that_version(self, cache: RuleCache) -> None:
        assert not cache.knows("u1", "5")
        listed(cache, rule(version="5"))
        assert cache.knows("u1", "5")
        assert not cache.knows("u1", "6")
        cache.put_rule(rule(version="6", generation=2), now=0)
        assert cache.knows("u1", "6")

    def test_it_is_there_all_the_same_and_not_looked_at(self, cache: RuleCache) -> None:
        listed(cache, rule("u1", version="5"), rule("u2", version="6"))
        assert self.unchanged(cache, "u1") == {"u2"}
        assert list(cache.rules) == ["u1"]

    def test_one_that_was_deleted_while_the_list_came_stays_deleted(self, cache: RuleCache) -> None:
        listed(cache, rule(version="5"))
        began = cache.begin_list()
        cache.delete_rule("u1")
        cache.replace(Listing(rules=[], sensors=[], namespaces=[], unchanged=["u1"]), began=began, now=0)
        assert not cache.rules

    def test_after_our_own_write_it_is_read_again(self, cache: RuleCache) -> None:
        listed(cache, rule(version="5"))
        cache.rules["u1"].wrote(rule(observedGeneration=1).status, now=100.0)
        assert not cache.knows("u1", "5")

    def test_unless_the_watch_shows_what_we_wrote(self, cache: RuleCache) -> None:
        listed(cache, rule(version="5"))
        cache.rules["u1"].wrote(rule(observedGeneration=1).status, now=100.0)
        cache.put_rule(rule(version="6", observedGeneration=1), now=100.1)
        assert cache.knows("u1", "6")

    @pytest.mark.parametrize("event_time", [None, "2026-11-24T10:00:00Z"])
    def test_until_what_stands_there_is_believed(self, cache: RuleCache, event_time: str | None) -> None:
        listed(cache, rule(version="5"))
        cache.rules["u1"].wrote(rule(observedGeneration=1).status, now=100.0)
        if event_time is not None:
            cache.rules["u1"].wrote_times(event_time=event_time, next_time=None, now=100.0)
        cache.put_rule(rule(version="6", observedGeneration=7), now=101.0)
        assert not cache.knows("u1", "6"), "its status was not taken"
        cache.put_rule(rule(version="6", observedGeneration=7), now=200.0)
        assert cache.knows("u1", "6")

    def test_one_without_a_version_is_always_read(self, cache: RuleCache) -> None:
        listed(cache, rule())
        assert not cache.knows("u1", "")


class TestEvents:
    def test_an_old_event_changes_nothing(self, cache: RuleCache) -> None:
        cache.put_rule(rule(generation=2), now=0)
        assert cache.put_rule(rule(generation=1), now=0) == set()
        assert cache.rules["u1"].generation == 2

    def test_a_repeated_event_marks_nothing(self, cache: RuleCache) -> None:
        assert cache.put_rule(rule(), now=0) == {"u1"}
        assert cache.put_rule(rule(), now=0) == set()

    def test_a_late_event_does_not_bring_a_deleted_rule_back(self, cache: RuleCache) -> None:
        cache.put_rule(rule(), now=0)
        cache.delete_rule("u1")
        assert cache.put_rule(rule(), now=0) == set()
        assert cache.was_deleted("u1")
        assert not cache.rules

    def test_a_deletion_is_remembered_for_some_lists_only(self, cache: RuleCache) -> None:
        listed(cache, rule("u1"))
        cache.delete_rule("u1")
        for _ in range(5):
            listed(cache)
            assert cache.was_deleted("u1")
        cache.begin_list()  # one that fails says nothing
        assert cache.was_deleted("u1")
        listed(cache)
        assert not cache.was_deleted("u1")

    def test_a_sensor_of_the_same_name_that_was_made_since_stays(self, cache: RuleCache) -> None:
        cache.put_sensor(sensor(uid="new"))
        cache.delete_sensor(SensorRef("attune-system", "timer"), "old")
        assert len(cache.sensors) == 1

    def test_only_rules_that_ask_for_a_changed_sensors_types_are_looked_at(self, cache: RuleCache) -> None:
        for seen in (rule("t"), rule("w", kind="web.hook"), rule("x", kind="x.y")):
            cache.put_rule(seen, now=0)
        assert cache.put_sensor(sensor("s", "core.timer")) == {"t"}
        assert cache.put_sensor(sensor("s", "web.hook")) == {"t", "w"}
        assert cache.put_sensor(sensor("s", "web.hook")) == set()
        assert cache.put_sensor(sensor("s", "web.hook", paused=True)) == {"w"}
        assert cache.known_types == {"web.hook"}

    def test_only_rules_of_a_relabelled_namespace_are_looked_at(self, cache: RuleCache) -> None:
        cache.put_rule(rule("a", namespace="one"), now=0)
        cache.put_rule(rule("b", namespace="two"), now=0)
        assert cache.put_namespace(namespace("one", x="1")) == {"a"}
        assert cache.put_namespace(namespace("one", x="1")) == set()
        assert cache.delete_namespace("one", "one") == {"a"}

    def test_a_changed_type_moves_a_rule_in_the_index(self, cache: RuleCache) -> None:
        cache.put_rule(rule(kind="core.timer"), now=0)
        cache.put_rule(rule(kind="web.hook", generation=2), now=0)
        assert cache.put_sensor(sensor("s", "core.timer")) == set()
        assert cache.put_sensor(sensor("s", "web.hook")) == {"u1"}

    def test_a_status_that_somebody_edited_is_noticed(self, cache: RuleCache) -> None:
        cache.put_rule(rule(observedGeneration=1), now=0)
        assert cache.put_rule(rule(observedGeneration=7), now=0) == {"u1"}

    def test_an_echo_that_is_older_than_our_own_write_is_not_believed(self, cache: RuleCache) -> None:
        cache.put_rule(rule(), now=0)
        entry = cache.rules["u1"]
        entry.status = entry.desired = rule(observedGeneration=1).status
        entry.written_at = 100.0
        assert cache.put_rule(rule(), now=101) == set()
        assert entry.status.observed_generation == 1
        assert cache.put_rule(rule(), now=200) == {"u1"}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"metadata": {}, "spec": {}},
        {"metadata": {"uid": "u", "namespace": "n", "name": "x"}, "spec": {"trigger": {"type": 7}}},
        {
            "metadata": {"uid": "u", "namespace": "n", "name": "x"},
            "spec": {"trigger": {"type": "a.b", "parameters": [1]}},
        },
        {"metadata": {"uid": "u", "namespace": "n", "name": "x"}, "spec": {"trigger": None}},
    ],
)
def test_an_object_of_the_wrong_shape_is_refused_and_not_half_read(body: Any) -> None:
    with pytest.raises(InvalidObjectError):
        parse_rule(body)
    with pytest.raises(InvalidObjectError):
        parse_sensor(body)
    if not body.get("metadata", {}).get("name"):
        with pytest.raises(InvalidObjectError):
            parse_namespace(body)


def test_who_changed_the_spec_last_is_read_from_the_managed_fields() -> None:
    body = {
        "metadata": {
            "uid": "u",
            "namespace": "n",
            "name": "x",
            "managedFields": [
                {"manager": "kubectl", "time": "2026-01-01T00:00:00Z", "fieldsV1": {"f:spec": {}}},
                {"manager": "argocd", "time": "2026-01-03T00:00:00Z", "fieldsV1": {"f:spec": {"f:enabled": {}}}},
                {"manager": "labeller", "time": "2026-01-04T00:00:00Z", "fieldsV1": {"f:metadata": {}}},
                {
                    "manager": "attune-operator",
                    "time": "2026-01-05T00:00:00Z",
                    "subresource": "status",
                    "fieldsV1": {"f:spec": {}},
                },
            ],
        },
        "spec": {"trigger": {"type": "core.timer"}},
    }
    seen = parse_rule(body)
    assert (seen.rule.changed_by, seen.rule.changed_at) == ("argocd", "2026-01-03T00:00:00Z")


@pytest.mark.parametrize("backwards", [False, True])
def test_of_two_changes_within_a_second_the_one_that_took_over_the_fewest_fields_was_the_last(backwards: bool) -> None:
    """Managed fields have whole seconds, and the API server sorts equal ones by the manager's name."""
    made: dict[str, Any] = {"f:description": {}, "f:trigger": {"f:type": {}, "f:parameters": {"f:interval": {}}}}
    managers = [
        {"manager": "kubectl-client-side-apply", "time": "2026-01-03T00:00:00Z", "fieldsV1": {"f:spec": made}},
        {"manager": "attune-cli", "time": "2026-01-03T00:00:00Z", "fieldsV1": {"f:spec": {"f:enabled": {}}}},
    ]
    body = {
        "metadata": {
            "uid": "u",
            "namespace": "n",
            "name": "x",
            "managedFields": managers[::-1] if backwards else managers,
        },
        "spec": {"trigger": {"type": "core.timer"}},
    }
    assert parse_rule(body).rule.changed_by == "attune-cli"


@pytest.mark.parametrize(
    ("run_in", "message"), [("attune-system", "The Sensor attune-system/timer"), ("b", "in one of: b;")]
)
def test_a_rule_is_decided_with_the_sensors_that_run(run_in: str, message: str) -> None:
    cache = RuleCache(sensor_namespaces=frozenset({run_in}))
    found = rule(namespace="attune-system")
    listed(cache, found, sensors=[sensor()])
    decision = decide(found.rule, cache)
    assert message in decision.acceptance.message
    assert (decision.desired is not None) is (run_in == "attune-system")
