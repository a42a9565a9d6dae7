"""What is believed about Kubernetes when watch events are late, repeated, or never come."""

from typing import Any

import pytest

from attune_contract.identity import SensorRef
from attune_operator.rules.inventory import Inventory, Listing
from attune_operator.rules.records import InvalidObjectError, parse_namespace, parse_rule, parse_sensor


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


def listing(*rules: Any, sensors: list[Any] | None = None, namespaces: Any = None) -> Listing:
    return Listing(rules=list(rules), sensors=sensors or [], namespaces=namespaces or {})


def listed(inventory: Inventory, *rules: Any, **others: Any) -> set[str]:
    return inventory.replace(listing(*rules, **others), began=inventory.begin_list(), now=0)


@pytest.fixture
def inventory() -> Inventory:
    return Inventory()


class TestLists:
    def test_nothing_is_complete_before_the_first(self, inventory: Inventory) -> None:
        inventory.see_rule(rule(), now=0)
        assert not inventory.complete
        listed(inventory)
        assert inventory.complete

    def test_a_list_brings_what_events_did_not(self, inventory: Inventory) -> None:
        assert listed(inventory, rule("u1"), rule("u2")) == {"u1", "u2"}
        assert listed(inventory, rule("u1", generation=2), rule("u2")) == {"u1"}
        assert listed(inventory, rule("u2")) == {"u1"}
        assert set(inventory.rules) == {"u2"}

    def test_what_an_event_told_since_the_list_began_stays(self, inventory: Inventory) -> None:
        began = inventory.begin_list()
        inventory.see_rule(rule("new"), now=0)
        inventory.see_rule(rule("changed", generation=2), now=0)
        inventory.replace(listing(rule("changed", generation=1)), began=began, now=0)
        assert set(inventory.rules) == {"new", "changed"}
        assert inventory.rules["changed"].rule.generation == 2

    def test_a_rule_that_was_deleted_while_the_list_came_stays_deleted(self, inventory: Inventory) -> None:
        listed(inventory, rule("u1"))
        began = inventory.begin_list()
        inventory.drop_rule("u1")
        inventory.replace(listing(rule("u1")), began=began, now=0)
        assert not inventory.rules

    def test_a_list_is_newer_than_an_event_that_was_late_during_it(self, inventory: Inventory) -> None:
        began = inventory.begin_list()
        inventory.see_rule(rule("u1", generation=1), now=0)
        inventory.replace(listing(rule("u1", generation=2)), began=began, now=0)
        assert inventory.rules["u1"].rule.generation == 2

    def test_a_list_wins_over_events_before_it_even_with_a_lower_generation(self, inventory: Inventory) -> None:
        inventory.see_rule(rule("u1", generation=5), now=0)
        listed(inventory, rule("u1", generation=3))  # a restored etcd
        assert inventory.rules["u1"].rule.generation == 3

    def test_sensors_and_namespaces_are_replaced_too(self, inventory: Inventory) -> None:
        listed(inventory, rule(), sensors=[sensor()], namespaces={"default": {"a": "1"}})
        assert listed(inventory, rule(), sensors=[], namespaces={"default": {"a": "1"}}) == {"u1"}
        assert not list(inventory.candidates("core.timer"))
        assert listed(inventory, rule(), namespaces={"default": {"a": "2"}}) == {"u1"}
        assert listed(inventory, rule()) == {"u1"}
        assert inventory.namespaces == {}

    def test_a_sensor_that_an_event_told_of_meanwhile_stays(self, inventory: Inventory) -> None:
        began = inventory.begin_list()
        inventory.see_sensor(sensor())
        inventory.replace(listing(), began=began, now=0)
        assert list(inventory.sensors) == [SensorRef("attune-system", "timer")]


class TestWhatNeedNotBeReadAgain:
    """Of the next list only what is not known as it stands there is read; the rest is only said to be there."""

    def unchanged(self, inventory: Inventory, *uids: str, **others: Any) -> set[str]:
        listing = Listing(rules=[], sensors=[], namespaces={}, unchanged=uids)
        return inventory.replace(listing, began=inventory.begin_list(), now=0, **others)

    def test_a_rule_that_was_listed_or_seen_in_that_version(self, inventory: Inventory) -> None:
        assert not inventory.knows("u1", "5")
        listed(inventory, rule(version="5"))
        assert inventory.knows("u1", "5")
        assert not inventory.knows("u1", "6")
        inventory.see_rule(rule(version="6", generation=2), now=0)
        assert inventory.knows("u1", "6")

    def test_it_is_there_all_the_same_and_not_looked_at(self, inventory: Inventory) -> None:
        listed(inventory, rule("u1", version="5"), rule("u2", version="6"))
        assert self.unchanged(inventory, "u1") == {"u2"}
        assert list(inventory.rules) == ["u1"]

    def test_one_that_was_deleted_while_the_list_came_stays_deleted(self, inventory: Inventory) -> None:
        listed(inventory, rule(version="5"))
        began = inventory.begin_list()
        inventory.drop_rule("u1")
        inventory.replace(Listing(rules=[], sensors=[], namespaces={}, unchanged=["u1"]), began=began, now=0)
        assert not inventory.rules

    def test_after_our_own_write_it_is_read_again(self, inventory: Inventory) -> None:
        listed(inventory, rule(version="5"))
        inventory.rules["u1"].wrote(rule(observedGeneration=1).status, event_time=None, now=100.0)
        assert not inventory.knows("u1", "5")

    def test_unless_the_watch_shows_what_we_wrote(self, inventory: Inventory) -> None:
        listed(inventory, rule(version="5"))
        inventory.rules["u1"].wrote(rule(observedGeneration=1).status, event_time=None, now=100.0)
        inventory.see_rule(rule(version="6", observedGeneration=1), now=100.1)
        assert inventory.knows("u1", "6")

    @pytest.mark.parametrize("event_time", [None, "2026-11-24T10:00:00Z"])
    def test_until_what_stands_there_is_believed(self, inventory: Inventory, event_time: str | None) -> None:
        listed(inventory, rule(version="5"))
        inventory.rules["u1"].wrote(rule(observedGeneration=1).status, event_time=event_time, now=100.0)
        inventory.see_rule(rule(version="6", observedGeneration=7), now=101.0)
        assert not inventory.knows("u1", "6"), "its status was not taken"
        inventory.see_rule(rule(version="6", observedGeneration=7), now=200.0)
        assert inventory.knows("u1", "6")

    def test_one_without_a_version_is_always_read(self, inventory: Inventory) -> None:
        listed(inventory, rule())
        assert not inventory.knows("u1", "")


class TestEvents:
    def test_an_old_event_changes_nothing(self, inventory: Inventory) -> None:
        inventory.see_rule(rule(generation=2), now=0)
        assert inventory.see_rule(rule(generation=1), now=0) == set()
        assert inventory.rules["u1"].rule.generation == 2

    def test_a_repeated_event_marks_nothing(self, inventory: Inventory) -> None:
        assert inventory.see_rule(rule(), now=0) == {"u1"}
        assert inventory.see_rule(rule(), now=0) == set()

    def test_a_late_event_does_not_bring_a_deleted_rule_back(self, inventory: Inventory) -> None:
        inventory.see_rule(rule(), now=0)
        inventory.drop_rule("u1")
        assert inventory.see_rule(rule(), now=0) == set()
        assert inventory.was_deleted("u1")
        assert not inventory.rules

    def test_a_deletion_is_remembered_for_some_lists_only(self, inventory: Inventory) -> None:
        listed(inventory, rule("u1"))
        inventory.drop_rule("u1")
        for _ in range(5):
            listed(inventory)
            assert inventory.was_deleted("u1")
        inventory.begin_list()  # one that fails says nothing
        assert inventory.was_deleted("u1")
        listed(inventory)
        assert not inventory.was_deleted("u1")

    def test_a_sensor_of_the_same_name_that_was_made_since_stays(self, inventory: Inventory) -> None:
        inventory.see_sensor(sensor(uid="new"))
        inventory.drop_sensor(SensorRef("attune-system", "timer"), "old")
        assert len(inventory.sensors) == 1

    def test_only_rules_that_ask_for_a_changed_sensors_types_are_looked_at(self, inventory: Inventory) -> None:
        for seen in (rule("t"), rule("w", kind="web.hook"), rule("x", kind="x.y")):
            inventory.see_rule(seen, now=0)
        assert inventory.see_sensor(sensor("s", "core.timer")) == {"t"}
        assert inventory.see_sensor(sensor("s", "web.hook")) == {"t", "w"}
        assert inventory.see_sensor(sensor("s", "web.hook")) == set()
        assert inventory.see_sensor(sensor("s", "web.hook", paused=True)) == {"w"}
        assert inventory.known_types == {"web.hook"}

    def test_only_rules_of_a_relabelled_namespace_are_looked_at(self, inventory: Inventory) -> None:
        inventory.see_rule(rule("a", namespace="one"), now=0)
        inventory.see_rule(rule("b", namespace="two"), now=0)
        assert inventory.see_namespace("one", {"x": "1"}) == {"a"}
        assert inventory.see_namespace("one", {"x": "1"}) == set()
        assert inventory.drop_namespace("one") == {"a"}

    def test_a_changed_type_moves_a_rule_in_the_index(self, inventory: Inventory) -> None:
        inventory.see_rule(rule(kind="core.timer"), now=0)
        inventory.see_rule(rule(kind="web.hook", generation=2), now=0)
        assert inventory.see_sensor(sensor("s", "core.timer")) == set()
        assert inventory.see_sensor(sensor("s", "web.hook")) == {"u1"}

    def test_a_status_that_somebody_edited_is_noticed(self, inventory: Inventory) -> None:
        inventory.see_rule(rule(observedGeneration=1), now=0)
        assert inventory.see_rule(rule(observedGeneration=7), now=0) == {"u1"}

    def test_an_echo_that_is_older_than_our_own_write_is_not_believed(self, inventory: Inventory) -> None:
        inventory.see_rule(rule(), now=0)
        tracked = inventory.rules["u1"]
        tracked.status = tracked.wanted = rule(observedGeneration=1).status
        tracked.written_at = 100.0
        assert inventory.see_rule(rule(), now=101) == set()
        assert tracked.status.observed_generation == 1
        assert inventory.see_rule(rule(), now=200) == {"u1"}


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
