"""Parts of the command line that decide something by themselves."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from attune_cli import checks, times, views
from attune_cli.errors import UsageError
from attune_cli.sse import Message, messages
from attune_contract import telling
from attune_contract.messages import NEVER_FIRES

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def pieces(text: str, size: int) -> Iterator[bytes]:
    data = text.encode()
    for start in range(0, len(data), size):
        yield data[start : start + size]


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_server_sent_events_are_read_however_they_are_cut(size: int) -> None:
    text = (
        'retry: 2000\n\nid: 7\ndata: {"text":"a\u2028b\x0b"}\n\nid: 8\n\n: ping\n\r\n'
        "event: problem\r\ndata: x\r\ndata: y\r\n\r\nid: 9\n"
    )
    assert list(messages(pieces(text, size))) == [
        Message(retry=2000),
        Message(id="7", data='{"text":"a\u2028b\x0b"}'),
        Message(id="8"),
        Message(event="problem", data="x\ny"),
    ]


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("15m", NOW - timedelta(minutes=15)),
        ("1h30m", NOW - timedelta(minutes=90)),
        ("7d", NOW - timedelta(days=7)),
        ("2026-11-24T06:00:00Z", NOW - timedelta(hours=6)),
        ("2026-11-24T07:00:00+01:00", NOW - timedelta(hours=6)),
    ],
)
def test_times_are_read_as_they_are_or_as_how_long_ago(text: str, moment: datetime) -> None:
    assert times.moment(text, NOW) == moment


@pytest.mark.parametrize("text", ["", "m", "5", "5 m", "-5m", "yesterday", "999999999w"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        times.moment(text, NOW)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (119, "119s"), (120, "2m"), (7199, "119m"), (7200, "2h"), (200_000, "2d")]
)
def test_ages_are_short(seconds: int, text: str) -> None:
    assert telling.span(timedelta(seconds=seconds)) == text
    assert telling.age((NOW - timedelta(seconds=seconds)).isoformat(), NOW) == text


def rule(*conditions: tuple[str, str, str], enabled: bool = True, generation: int = 2, of: int = 2) -> dict[str, Any]:
    return {
        "metadata": {"namespace": "n", "name": "r", "generation": generation},
        "spec": {"enabled": enabled, "trigger": {"type": "a.b"}},
        "status": {
            "conditions": [
                {
                    "type": kind,
                    "status": status,
                    "reason": reason,
                    "message": f"because {reason}",
                    "observedGeneration": of,
                }
                for kind, status, reason in conditions
            ]
        },
    }


def never_fires() -> dict[str, Any]:
    body = rule(("Active", "False", "NeverFires"))
    body["status"]["conditions"][0]["message"] = f"{NEVER_FIRES}: its time was over when the Rule came into force."
    return body


def test_when_a_rule_is_due_next_is_shown() -> None:
    body = rule(("Active", "True", "Active"))
    assert views.rule_row(body, NOW)[views.RULE_COLUMNS.index("next")] == "-"
    assert "Next:        -" in views.rule_page(body, NOW)
    body["status"]["nextTime"] = "2028-02-29T12:00:00Z"
    assert views.rule_row(body, NOW)[views.RULE_COLUMNS.index("next")] == "2028-02-29T12:00:00Z"
    assert "2028-02-29T12:00:00Z (in 462d)" in views.rule_page(body, NOW)


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (rule(("Accepted", "True", "Accepted"), ("Active", "True", "Active")), None),
        (rule(("Accepted", "True", "Accepted"), ("Active", "True", "Active"), of=1), "its last change"),
        (rule(("Accepted", "False", "InvalidParameters"), ("Active", "False", "NotAccepted")), "InvalidParameters"),
        (rule(("Accepted", "False", "NotAllowed"), enabled=False), "NotAllowed"),
        (rule(("Accepted", "True", "Accepted"), ("Active", "False", "Disabled"), enabled=False), None),
        (rule(("Accepted", "True", "Accepted"), ("Active", "False", "Completed")), None),
        (never_fires(), "It never fires: its time was over"),
        (rule(("Accepted", "True", "Accepted"), ("Active", "False", "AwaitingSensor")), "AwaitingSensor"),
        (rule(), "is the operator running?"),
    ],
)
def test_what_is_wrong_with_a_rule(body: dict[str, Any], problem: str | None) -> None:
    found = telling.rule_problem(body)
    assert found is None if problem is None else found is not None and problem in found


def test_many_that_are_wrong_do_not_fill_the_screen() -> None:
    found = list(checks.rules([rule() for _ in range(20)]))
    assert len(found) == 6
    assert found[-1].message == "15 more have a problem"
    assert found[-1].advice == "attune rules list -A --problems"


def test_the_charts_pods_are_looked_at_by_part() -> None:
    def pod(part: str, ready: str) -> dict[str, Any]:
        waiting = {"state": {"waiting": {"reason": "ErrImagePull", "message": "no such image"}}}
        return {
            "metadata": {"name": f"{part}-1", "labels": {"app.kubernetes.io/name": f"attune-{part}"}},
            "status": {"conditions": [{"type": "Ready", "status": ready}], "containerStatuses": [waiting]},
        }

    states = {check.name: check for check in checks.pods([pod("operator", "True"), pod("api", "False")], "x")}
    assert [check.state for check in states.values()] == ["ok", "problem", "unknown"]
    assert "ErrImagePull no such image" in states["API"].message
    assert "kubectl -n x describe pod api-1" in states["API"].advice
    missing = {check.name: check.state for check in checks.pods([], "x")}
    assert missing == {"operator": "problem", "API": "problem", "NATS": "unknown"}


def named(
    name: str, *, namespace: str = "n", since: str = "", message: str = "why", status: str = "False"
) -> dict[str, Any]:
    active = {
        "type": "Active", "status": status, "reason": "Failing", "message": message, "observedGeneration": 1,
        "lastTransitionTime": since,
    }  # fmt: skip
    return {
        "metadata": {"namespace": namespace, "name": name, "generation": 1},
        "spec": {"trigger": {"type": "a.b"}},
        "status": {"conditions": [active]},
    }


def test_the_newest_and_worst_problems_come_first() -> None:
    partly = named("partly", since="2026-01-09", message="Not everything gets through: 1 event", status="True")
    found = checks.rules([partly, named("old", since="2026-01-01"), named("new", since="2026-01-02")])
    assert [check.name for check in found] == ["Rule n/new", "Rule n/old", "Rule n/partly"]


def test_all_problems_of_ones_own_namespace_are_named() -> None:
    others = [named(f"o{n}", since="2026-02") for n in range(9)]
    mine = [named(f"m{n}", namespace="mine", since="2026-01") for n in range(7)]
    found = list(checks.rules([*others, *mine], own="mine"))
    assert [check.name for check in found if check.name.startswith("Rule mine/")] == [
        f"Rule mine/m{n}" for n in range(7)
    ]
    assert found[-1].message == "9 more have a problem"


def test_what_does_not_fire_as_asked_and_remarks_are_notes_of_ones_own_namespace() -> None:
    def one(name: str, status: str, reason: str, message: str, *, namespace: str = "mine") -> dict[str, Any]:
        body = named(name, namespace=namespace, message=message, status=status)
        body["status"]["conditions"][0]["reason"] = reason
        body["spec"]["enabled"] = reason != "Disabled"
        return body

    plain = one("plain", "True", "Active", "The Sensor n/s runs the rule.")
    late = one("late", "True", "Active", "The Sensor n/s runs the rule. No event is due before 2099-01-01T00:00:00Z.")
    off = one("off", "False", "Disabled", "The rule is disabled (spec.enabled is false).")
    paused = one("paused", "False", "SensorPaused", "The Sensor n/s is paused (its spec.paused is true).")
    other = one("off", "False", "Disabled", "The rule is disabled (spec.enabled is false).", namespace="other")
    found = list(checks.rules([plain, late, off, paused, other], own="mine"))
    assert [(check.name, check.state) for check in found] == [
        ("Rules", "ok"),
        ("Rule mine/late", "note"),
        ("Rule mine/off", "note"),
        ("Rule mine/paused", "note"),
    ]
    assert "2099" in found[1].message
    sensor = {"metadata": {"namespace": "mine", "name": "s"}, "spec": {"paused": True}, "status": {"conditions": [
        {"type": "Ready", "status": "True", "reason": "Paused", "message": "The Sensor is paused."}]}}  # fmt: skip
    assert [(check.state, check.message) for check in checks.sensors([sensor], own="mine")][1:] == [
        ("note", "The Sensor is paused.")
    ]
    many = list(checks.rules([off] * 12, own="mine"))
    assert many[-1].message == "2 more: attune rules list -n mine"


def test_a_sensor_that_reports_no_health_is_no_problem() -> None:
    conditions = [
        {"type": "Ready", "status": "True", "reason": "Available", "message": "1 pod is ready."},
        {
            "type": "Healthy",
            "status": "Unknown",
            "reason": "NotReported",
            "message": "Its pods send no health reports.",
        },
    ]
    body = {"metadata": {"namespace": "n", "name": "s"}, "spec": {}, "status": {"conditions": conditions}}
    assert telling.sensor_problem(body) is None


def test_what_is_wrong_with_a_sensor_elsewhere_that_serves_ones_rules_is_said_and_nothing_else() -> None:
    def sensor(name: str, **healthy: str) -> dict[str, Any]:
        conditions = [{"type": "Healthy", **healthy}]
        return {"metadata": {"namespace": "far", "name": name}, "spec": {}, "status": {"conditions": conditions}}

    well = sensor("well", status="True", reason="Healthy", message="It reaches the API and NATS.")
    ill = sensor("ill", status="False", reason="ApiUnavailable", message="cannot reach http://attune-api")
    (found,) = checks.serving([well, ill])
    assert (found.name, found.state) == ("Sensor far/ill", "problem")
    assert found.message == "it serves your Rules. Healthy: cannot reach http://attune-api"
