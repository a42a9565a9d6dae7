"""What the console's pages show, as values."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from attune_api.console.rows import Line, rule_line, sensor_line
from attune_api.console.views import chart as charts
from attune_api.console.views.events import glance, newest_rate
from attune_api.console.views.next_times import next_times
from attune_api.console.views.overview import Filter, shown
from attune_api.console.views.search import moment, payload_filters
from attune_api.console.views.way import way
from attune_api.web.problems import ProblemError
from attune_contract.events import Event

NOW = datetime(2026, 11, 28, 3, 0, tzinfo=UTC)


def rule(*conditions: tuple[str, str, str, str], enabled: bool = True, **status: Any) -> dict[str, Any]:
    told = [
        {
            "type": kind,
            "status": value,
            "reason": reason,
            "message": message,
            "lastTransitionTime": "2026-11-28T02:00:00Z",
        }
        for kind, value, reason, message in conditions
    ]
    return {
        "metadata": {"namespace": "team-a", "name": "echo", "uid": "u-1", "generation": 1},
        "spec": {"enabled": enabled, "trigger": {"type": "core.intervaltimer", "parameters": {"interval": 5}}},
        "status": {"conditions": told, "sensor": "attune-system/core.timer", **status},
    }


ACCEPTED = ("Accepted", "True", "Accepted", "A Sensor serves it.")
ACTIVE = ("Active", "True", "Active", "The Sensor attune-system/core.timer runs the rule.")
READY = ("Ready", "True", "Active", "The Sensor attune-system/core.timer runs the rule.")


@pytest.mark.parametrize(
    ("body", "tone", "word", "sentence"),
    [
        (rule(ACCEPTED, ACTIVE, READY), "good", "Active", ""),
        (rule(ACCEPTED, ("Active", "False", "Disabled", "Off."), enabled=False), "off", "Disabled", "Off."),
        (rule(ACCEPTED, ("Active", "False", "AwaitingSensor", "No pod.")), "wait", "Waiting", "No pod."),
        (rule(ACCEPTED, ("Active", "False", "Rejected", "No such path.")), "bad", "Rejected", "No such path."),
        (rule(("Accepted", "False", "UnknownTriggerType", "No Sensor.")), "bad", "Not accepted", "No Sensor."),
        (rule(ACCEPTED, ACTIVE, ("Ready", "False", "InvalidExpression", "Col 3.")), "bad", "Actions fail", "Col 3."),
        (rule(), "wait", "Not seen yet", "the operator has not reconciled it yet; is the operator running?"),
    ],
)
def test_a_rule_s_line_says_how_it_is(body: dict[str, Any], tone: str, word: str, sentence: str) -> None:
    line = rule_line(body)
    assert (line.tone, line.word, line.sentence) == (tone, word, sentence)
    # What is wrong comes with what to do about it.
    assert bool(line.advice) is (tone in ("bad", "wait"))


def test_a_line_has_its_times_to_the_second() -> None:
    body = rule(ACCEPTED, ACTIVE, READY)
    assert (rule_line(body).last_event, rule_line(body).next_time, rule_line(body).since) == ("", "", "")
    body["status"] |= {"lastEventTime": "2026-11-28T05:00:00Z", "nextTime": "2026-11-28T05:00:05.250000Z"}
    assert rule_line(body).last_event == "2026-11-28T05:00:00Z"
    assert rule_line(body).next_time == "2026-11-28T05:00:05Z"


def test_a_sensor_s_line_says_how_it_is() -> None:
    body = {
        "metadata": {"namespace": "attune-system", "name": "core.timer"},
        "spec": {"image": "attune/sensor-timer:0.1.0"},
        "status": {
            "conditions": [{"type": "Ready", "status": "False", "reason": "PodsNotReady", "message": "It has no pod."}],
            "rules": {"bound": 3, "active": 0},
            "token": {"expiresAt": "2026-11-28T04:00:00Z"},
        },
    }
    line = sensor_line(body)
    assert (line.tone, line.sentence, line.bound, line.active) == ("bad", "Ready: It has no pod.", 3, 0)
    assert line.advice
    assert sensor_line({**body, "spec": {"paused": True}}).tone == "off"


def lines(number: int) -> list[Line]:
    return [
        Line(
            namespace="default",
            name=f"rule-{place}",
            tone="bad" if place < 3 else "good",
            word="Active",
            sentence="It broke." if place < 3 else "",
            advice="",
            kind="core.intervaltimer" if place % 2 else "core.webhook",
            sensor="attune-system/core.timer",
            since="",
        )
        for place in range(number)
    ]


def test_a_page_of_the_overview_has_so_many_lines_and_all_counts() -> None:
    page = shown(lines(120), Filter(), number=2, size=50)
    assert [line.name for line in page.lines] == [f"rule-{place}" for place in range(50, 100)]
    assert (page.total, page.found, page.pages, page.counts["bad"], page.counts["good"]) == (120, 120, 3, 3, 117)
    assert shown(lines(120), Filter(), number=99, size=50).number == 3
    assert shown([], Filter(), number=7).pages == 1


def test_filters_hold_together_and_counts_go_without_the_state() -> None:
    page = shown(lines(120), Filter(text="broke DEFAULT/", tone="bad", kind="core.webhook"))
    assert [line.name for line in page.lines] == ["rule-0", "rule-2"]
    assert (page.counts["bad"], page.total) == (2, 2)
    assert shown(lines(120), Filter(tone="bad")).counts["good"] == 117
    assert not shown(lines(120), Filter(sensor="other/one")).lines


def test_the_way_says_where_it_breaks() -> None:
    broken = rule(("Accepted", "False", "UnknownTriggerType", "No Sensor declares core.x."))
    del broken["status"]["sensor"]
    steps = way(broken, sensor=None, newest=None, rate="", runs=None, now=NOW)
    assert [step.part for step in steps] == ["trigger", "sensor", "events", "actions", "runs"]
    assert (steps[0].tone, steps[0].says) == ("bad", "No Sensor declares core.x.")
    assert steps[1].tone == "bad"


def test_the_way_of_a_rule_that_fires_and_whose_runs_fail() -> None:
    body = rule(ACCEPTED, ACTIVE, READY, ("ActionsHealthy", "False", "LastRunFailed", "The target answered 500."))
    body["spec"]["actions"] = [{"name": "tell", "http": {}}]
    runs = {
        "succeeded": 3,
        "failed": 1,
        "waiting": 0,
        "last_failure_at": NOW - timedelta(minutes=1),
        "last_success_at": NOW - timedelta(hours=1),
        "last_failure_message": "The target answered 500.",
        "last_run_at": NOW,
    }
    newest = (NOW - timedelta(seconds=3)).isoformat()
    steps = {
        step.part: step for step in way(body, sensor=None, newest=newest, rate="about 1 a second", runs=runs, now=NOW)
    }
    assert steps["events"].value == "last 3s ago"
    assert steps["events"].says == "about 1 a second"
    assert (steps["actions"].tone, steps["runs"].tone) == ("bad", "bad")
    assert steps["runs"].says == "The last one failed 60s ago: The target answered 500."
    runs["last_success_at"] = NOW
    steps = {step.part: step for step in way(body, sensor=None, newest=newest, rate="", runs=runs, now=NOW)}
    assert steps["runs"].tone == "good"


def test_a_chart_has_a_bar_for_each_interval_with_events_and_round_lines() -> None:
    after, before, interval = charts.bounds("1h", NOW)
    assert (before - after, interval) == (timedelta(hours=1), 60)
    drawn = charts.chart({after: 10, after + timedelta(minutes=59): 58}, after=after, before=before, interval=interval)
    assert (drawn.total, drawn.most, len(drawn.bars)) == (68, 58, 2)
    assert [line.text for line in drawn.lines] == ["20", "40", "60"]
    assert all(bar.x >= drawn.left and bar.x + bar.wide <= drawn.wide for bar in drawn.bars)
    assert all(bar.y >= 0 and round(bar.y + bar.high) == drawn.floor for bar in drawn.bars)
    assert not charts.chart({}, after=after, before=before, interval=interval).bars


@pytest.mark.parametrize(
    ("most", "top"), [(0, 3), (3, 3), (4, 6), (7, 15), (16, 30), (58, 60), (61, 150), (1501, 3000)]
)
def test_the_scale_of_a_chart_ends_at_a_round_number(most: int, top: int) -> None:
    assert charts.ceiling(most) == top


def test_next_times_are_carried_on_from_the_sensor_s_own() -> None:
    trigger = {"type": "core.intervaltimer", "parameters": {"interval": 10, "unit": "minutes"}}
    first = "2026-11-28T03:05:00Z"
    assert [time.minute for time in next_times(trigger, first=first, most=3)] == [5, 15, 25]
    assert next_times(trigger, first=None) == []
    cron = {"type": "core.crontimer", "parameters": {"cron": "0 6 * * *", "timezone": "Europe/Berlin"}}
    found = next_times(cron, first="2026-11-28T05:00:00Z", most=2)
    assert [time.isoformat() for time in found] == ["2026-11-28T05:00:00+00:00", "2026-11-29T05:00:00+00:00"]
    # What cannot be carried on is what the sensor said, and no error.
    assert len(next_times({"type": "core.crontimer", "parameters": {"cron": "what"}}, first=first)) == 1
    assert len(next_times({"type": "core.webhook", "parameters": {}}, first=first)) == 1
    ends = {**trigger, "parameters": {**trigger["parameters"], "end": "2026-11-28T03:20:00Z"}}  # type: ignore[dict-item]
    assert [time.minute for time in next_times(ends, first=first)] == [5, 15]


def event(second: int) -> Event:
    time = f"2026-11-28T02:59:{second:02}.000000Z"
    return Event(
        id=uuid.uuid4(),
        seq=second,
        trigger_type="core.intervaltimer",
        rule_uid="u-1",
        rule_namespace="team-a",
        rule_name="echo",
        sensor_ref="attune-system/core.timer",
        occurred_at=time,
        received_at=time,
        payload=msgspec.Raw(b"{}"),
    )


def test_the_rate_is_said_in_the_largest_unit_that_gives_a_number() -> None:
    assert newest_rate([event(second) for second in (59, 58, 57)], now=NOW) == "about 1 a second"
    assert newest_rate([event(second) for second in (55, 45, 35)], now=NOW) == "about 6 a minute"
    assert newest_rate([event(59)], now=NOW) == ""
    assert newest_rate([event(second) for second in (59, 58, 57)], now=NOW + timedelta(hours=1)) == ""


def test_a_payload_is_read_at_a_glance() -> None:
    assert glance(b'{"user":{"name":"ann"},"n":7,"text":"a b"}') == 'user={"name":"ann"}  n=7  text=a b'
    assert glance(b"[1,2]") == "[1,2]"
    assert glance(b'"' + b"x" * 500 + b'"').endswith("x…")
    assert glance(b'"' + b"x" * 70_000 + b'"') == "70,002 bytes"


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("", None),
        ("15m", NOW - timedelta(minutes=15)),
        (" 2h ago ", NOW - timedelta(hours=2)),
        ("2026-11-24T06:00", datetime(2026, 11, 24, 6, tzinfo=UTC)),
        ("2026-11-24T06:00+01:00", datetime(2026, 11, 24, 5, tzinfo=UTC)),
    ],
)
def test_times_are_read_as_people_write_them(text: str, time: datetime | None) -> None:
    assert moment(text, NOW) == time


def test_what_cannot_be_meant_is_said() -> None:
    for text in ("yesterday", "15 parsecs"):
        with pytest.raises(ProblemError, match="is no time"):
            moment(text, NOW)
    assert payload_filters("user.name=ann n=7")[1].path == ("n",)
    with pytest.raises(ProblemError, match="is no filter"):
        payload_filters("ann")
    with pytest.raises(ProblemError, match="more than"):
        payload_filters("a=1 b=1 c=1 d=1 e=1")
