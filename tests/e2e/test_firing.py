"""A Rule applied with kubectl makes events, exactly on schedule, each once."""

from datetime import UTC, datetime, timedelta

import pytest
from support.system import Event, System, assert_unbroken

pytestmark = pytest.mark.both


def test_thirty_events_are_exactly_a_second_apart(system: System) -> None:
    rule = system.rule("every-second", parameters={"interval": 1, "unit": "seconds"})
    events = rule.wait_unbroken(timedelta(seconds=1), enough=lambda events: len(events) >= 30)
    assert {event.trigger_type for event in events} == {"core.intervaltimer"}


@pytest.mark.parametrize("name", ["core.timer", "core.intervaltimer"])
def test_the_trigger_type_goes_by_its_name_and_by_its_alias(system: System, name: str) -> None:
    rule = system.rule("aliased", trigger=name)
    events = rule.wait_events(lambda events: len(events) >= 2, within=10)
    assert {event.trigger_type for event in events} == {"core.intervaltimer"}


def test_disable_enable_change_and_delete_take_effect(system: System) -> None:
    """How soon is measured by ``make bench BENCH=rule_latency``, where nothing else runs."""
    rule = system.rule("changing", parameters={"interval": 0.2})
    rule.wait_events(lambda events: len(events) >= 3, within=10)

    rule.patch({"enabled": False})
    rule.wait_condition("Active", "False", reason="Disabled")
    # Disabled is said before the sensor has stopped. It has when it serves a rule that came later, and what this one reported
    # is stored when an event of the later one is.
    witness = system.rule("witness", parameters={"interval": 0.2})
    seen = len(witness.wait_events(lambda events: len(events) >= 3, within=10))
    stopped = {event.id for event in rule.events()}
    witness.wait_events(lambda events: len(events) >= seen + 10, within=10)

    enabling = datetime.now(UTC)
    rule.patch({"enabled": True})
    resumed = rule.wait_events(lambda events: len({event.id for event in events} - stopped) >= 3, within=10)
    assert all(event.occurred_at >= enabling for event in resumed if event.id not in stopped)

    rule.patch({"trigger": {"type": "core.intervaltimer", "parameters": {"interval": 1}}})
    rule.wait_condition("Active", "True")
    changed_at = datetime.now(UTC)

    def after_change(events: list[Event]) -> list[Event]:
        return [event for event in events if event.occurred_at > changed_at]

    def slower(events: list[Event]) -> bool:
        if len(after_change(events)) < 3:
            return False
        assert_unbroken(after_change(events), timedelta(seconds=1))
        return True

    rule.wait_events(slower, within=10, what="events a second apart")


def test_a_deleted_rule_stays_deleted_after_a_restart(system: System) -> None:
    system.sensor("own")
    rule = system.rule("doomed", parameters={"interval": 0.5})
    rule.wait_events(lambda events: len(events) >= 2, within=10)
    uid = rule.uid
    rule.delete()

    pod = system.wait_ready_pod("own", system.namespace)
    system.kube.delete("pod", pod["metadata"]["name"], system.namespace)
    system.wait_ready_pod("own", system.namespace, other_than=pod["metadata"]["uid"])
    restarted_at = datetime.now(UTC)
    # A rule that is there shows that the restarted sensor serves its rules by now.
    witness = system.rule("witness", parameters={"interval": 0.5})
    witness.wait_events(lambda events: len(events) >= 4, within=10)
    assert system.api.events(uid)[-1].occurred_at <= restarted_at
