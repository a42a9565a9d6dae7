"""What ``attune top`` computes from two readings, and how it draws it."""

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attune_cli.metrics import Sample, samples
from attune_cli.output import width
from attune_cli.targets.pages import Part
from attune_cli.top.picture import MIN_HEIGHT, MIN_WIDTH, cut, picture, seconds
from attune_cli.top.reading import WrongRules
from attune_cli.top.view import Reading, View, compare, quantile

AT = datetime(2026, 11, 28, 7, tzinfo=UTC)
API = Part(role="api", name="attune-system/api-1")
OPERATOR = Part(role="operator", name="attune-system/operator-1")
RUNNER = Part(role="actions", name="attune-system/actions-1")
POD = Part(role="sensor", name="team/sensor-a-1", sensor="team/a")
OTHER_POD = Part(role="sensor", name="team/sensor-a-2", sensor="team/a")


def sensor(name: str = "a", ready: str = "True", message: str = "") -> dict[str, Any]:
    conditions = [{"type": "Ready", "status": ready, "message": message}]
    return {
        "metadata": {"name": name, "namespace": "team"},
        "spec": {},
        "status": {"conditions": conditions, "rules": {"bound": 3}},
    }


def failing(name: str) -> dict[str, Any]:
    conditions = [{"type": "Active", "status": "False", "reason": "Failing", "message": "Nothing gets through."}]
    return {"metadata": {"name": name, "namespace": "team"}, "spec": {}, "status": {"conditions": conditions}}


def reading(after: float, pages: dict[Part, str], **more: Any) -> Reading:
    metrics: dict[Part, list[Sample]] = {part: samples(page) for part, page in pages.items()}
    return Reading(at=AT + timedelta(seconds=after), metrics=metrics, **more)


def stored(number: float) -> str:
    return f'attune_api_events_total{{status="stored"}} {number}\n'


def lateness(quick: float, slow: float) -> str:
    return (
        f'attune_timer_lateness_seconds_bucket{{le="0.001"}} {quick}\n'
        f'attune_timer_lateness_seconds_bucket{{le="5.0"}} {quick + slow}\n'
        f'attune_timer_lateness_seconds_bucket{{le="+Inf"}} {quick + slow}\n'
    )


# -- what is computed


def test_a_rate_is_what_was_counted_in_between() -> None:
    view = compare(reading(0, {API: stored(100)}), reading(2, {API: stored(130)}))
    assert (view.stored_per_second, view.seconds) == (15, 2)


def test_a_part_that_was_started_again_counts_from_zero_and_a_new_one_not_yet() -> None:
    other = Part(role="api", name="attune-system/api-2")
    view = compare(reading(0, {API: stored(1000)}), reading(2, {API: stored(10), other: stored(5000)}))
    assert view.stored_per_second == 5


def test_what_nobody_says_is_unknown_and_not_zero() -> None:
    view = compare(reading(0, {}), reading(2, {}))
    assert (view.stored_per_second, view.outbox_lag, view.spooled, view.lateness_p99_seconds) == (
        None,
        None,
        None,
        None,
    )
    assert view.rules == {}


def test_lateness_is_of_what_was_due_in_between() -> None:
    before, late_before = lateness(1000, 0), lateness(1000, 50)
    view = compare(reading(0, {POD: late_before}), reading(2, {POD: lateness(1100, 50)}, sensors=[sensor()]))
    assert view.lateness_p99_seconds == pytest.approx(0.00099)
    assert view.sensors[0].lateness_p99_seconds == pytest.approx(0.00099)
    view = compare(reading(0, {POD: before}), reading(2, {POD: lateness(1010, 90)}))
    assert view.lateness_p99_seconds is not None
    assert view.lateness_p99_seconds > 4
    assert any("timers" in problem for problem in view.problems)
    assert compare(reading(0, {POD: before}), reading(2, {POD: before})).lateness_p99_seconds is None


@given(st.lists(st.integers(0, 50), min_size=2, max_size=6), st.floats(0.01, 0.99))
def test_a_quantile_lies_in_the_bucket_that_has_it(counts: list[int], share: float) -> None:
    bounds = [*(0.5 * 2**place for place in range(len(counts) - 1)), math.inf]
    cumulative = {bound: float(sum(counts[: place + 1])) for place, bound in enumerate(bounds)}
    found = quantile(cumulative, share)
    if not sum(counts):
        assert found is None
        return
    holder = next(place for place, bound in enumerate(bounds) if cumulative[bound] >= share * sum(counts))
    lower = bounds[holder - 1] if holder else 0.0
    assert found is not None
    assert lower <= found <= (bounds[holder] if math.isfinite(bounds[holder]) else lower)


def test_the_outbox_is_behind_by_the_newest_of_all_replicas() -> None:
    page = "attune_api_events_newest_seq {}\nattune_api_outbox_position {}\n"
    other = Part(role="api", name="attune-system/api-2")
    now = reading(2, {API: page.format(5000, 3000), other: page.format(4990, 0)})
    view = compare(now, now)
    assert view.outbox_lag == 2000
    assert view.problems == ["2000 stored events have not reached the stream"]


def test_a_sensor_is_the_sum_of_its_pods() -> None:
    page = 'attune_sensor_events_total{{result="emitted"}} {}\nattune_sensor_spool_events {}\nattune_sensor_queued_events 2\n'
    before = reading(0, {POD: page.format(10, 0), OTHER_POD: page.format(10, 0)})
    now = reading(2, {POD: page.format(20, 3), OTHER_POD: page.format(14, 4)}, sensors=[sensor()])
    [row] = compare(before, now).sensors
    assert (row.pods, row.rules, row.events_per_second, row.queued, row.spooled) == (2, 3, 7, 4, 7)


def test_rules_are_counted_as_the_operator_does() -> None:
    page = 'attune_rules{reason="Active"} 7\nattune_rules{reason="Failing"} 1\nattune_rules{reason="Rejected"} 0\n'
    now = reading(2, {OPERATOR: page})
    assert compare(now, now).rules == {"Active": 7, "Failing": 1}


def test_what_is_wrong_comes_the_worst_first() -> None:
    dropped = 'attune_sensor_events_total{{result="dropped"}} {}\nattune_sensor_spool_events 9\nattune_sensor_nats_connected {}\n'
    runs = 'attune_actions_runs_total{{kind="http",state="Failed"}} {}\nattune_actions_open_circuits 1\n'
    gone = Part(role="api", name="attune-system/api-2")
    before = reading(0, {POD: dropped.format(0, 1), RUNNER: runs.format(0)})
    now = reading(
        2,
        {POD: dropped.format(10, 0), RUNNER: runs.format(1), API: "attune_api_storage_writable 0\n"},
        silent={gone: "connection refused"},
        sensors=[sensor("b", "False", "no pod")],
        rules=[failing("r")],
    )
    assert compare(before, now).problems == [
        "api attune-system/api-2 gives no metrics: connection refused",
        "sensors drop 5.0 events a second: they are lost",
        "sensor team/a has no connection to NATS",
        "the API attune-system/api-1 cannot write to its database; its /ready says why",
        "Sensor team/b: Ready: no pod",
        "Rule team/r: Nothing gets through.",
        "9 events wait on sensors' disks for the API",
        "runs fail for good: attune runs list --state Failed",
        "1 targets of actions get no requests, since they failed again and again",
    ]


@pytest.mark.parametrize(
    ("part", "gauge"),
    [
        (OPERATOR, "attune_rule_stream_connected"),
        (API, "attune_api_nats_connected"),
        (RUNNER, "attune_actions_nats_connected"),
        (POD, "attune_sensor_nats_connected"),
    ],
)
def test_a_part_without_nats_is_named(part: Part, gauge: str) -> None:
    connected, alone = reading(2, {part: f"{gauge} 1\n"}), reading(2, {part: f"{gauge} 0\n"})
    assert compare(connected, connected).problems == []
    assert compare(alone, alone).problems == [f"{part.role} {part.sensor or part.name} has no connection to NATS"]


def invalid(name: str) -> dict[str, Any]:
    """It fires, and its action can never work: the operator counts it as Active."""
    conditions = [
        {"type": "Active", "status": "True", "reason": "Active", "message": "A sensor runs the rule."},
        {"type": "Ready", "status": "False", "reason": "InvalidExpression", "message": "actions[0] is wrong."},
    ]
    return {"metadata": {"name": name, "namespace": "team"}, "spec": {}, "status": {"conditions": conditions}}


def counts(**reasons: int) -> dict[Part, list[Sample]]:
    page = "".join(f'attune_rules{{reason="{reason}"}} {number}\n' for reason, number in reasons.items())
    return {OPERATOR: samples(page)}


def test_rules_whose_problem_the_operator_does_not_count_are_found() -> None:
    found = [invalid("a")]
    assert WrongRules(lambda: found).read(0, counts(Active=1)) == found


def test_what_has_been_mended_is_shown_no_more() -> None:
    found = [failing("r")]
    rules = WrongRules(lambda: found)
    assert rules.read(0, counts(Failing=1, Active=6)) == found
    found = []
    assert rules.read(6, counts(Failing=0, Active=7)) == []  # at once: a count has changed
    found = [invalid("a")]
    assert rules.read(12, counts(Active=7)) == []
    assert rules.read(37, counts(Active=7)) == found
    found = []
    assert rules.read(68, {}) == []


def test_rules_are_not_read_at_each_look_however_much_changes() -> None:
    looks: list[int] = []

    def find() -> list[dict[str, Any]]:
        looks.append(1)
        return []

    rules = WrongRules(find)
    for second in range(60):
        rules.read(second, counts(Failing=second, Disabled=second % 7))
    assert len(looks) <= 12
    looks.clear()
    for second in range(100, 160):
        rules.read(second, counts(Failing=1, Disabled=second % 7))
    assert 2 <= len(looks) <= 3


# -- how it is drawn


def view(*, sensors: int = 1, problems: int = 0, message: str = "is wrong") -> View:
    now = reading(
        2,
        {POD: lateness(1, 0)},
        sensors=[sensor(f"sensor-{number}", "False" if number == sensors - 1 else "True") for number in range(sensors)],
        silent={Part(role="api", name=f"attune-system/api-{number}"): message for number in range(problems)},
    )
    return compare(now, now)


@given(
    columns=st.integers(20, 200), lines=st.integers(5, 60), sensors=st.integers(0, 40), problems=st.integers(0, 40),
    message=st.text(max_size=150),
)  # fmt: skip
def test_a_picture_fits_the_terminal(columns: int, lines: int, sensors: int, problems: int, message: str) -> None:
    drawn = picture(
        view(sensors=sensors, problems=problems, message=message), asked="https://cluster", columns=columns, lines=lines
    )
    assert len(drawn) <= lines
    assert all(width(line.text) <= max(columns, MIN_WIDTH) for line in drawn)
    assert all(line.text.isprintable() for line in drawn)


def test_at_80_columns_everything_has_its_place_and_what_is_not_ready_comes_first() -> None:
    drawn = [line.text for line in picture(view(sensors=3), asked="attune up", columns=80, lines=24)]
    assert drawn[0] == "07:00:02  attune up"
    [head] = [number for number, line in enumerate(drawn) if line.startswith("SENSOR")]
    assert width(drawn[head]) == 80
    assert [line.split()[0] for line in drawn[head + 1 :]] == ["team/sensor-2", "team/sensor-0", "team/sensor-1"]


def test_of_many_problems_and_sensors_the_rest_is_counted() -> None:
    drawn = [line.text for line in picture(view(sensors=40, problems=40), asked="x", columns=80, lines=MIN_HEIGHT + 12)]
    assert any(line.startswith("! ") and line.endswith("more: attune status") for line in drawn)
    assert drawn[-1].endswith("more: attune sensors list -A")
    whole = picture(view(sensors=40, problems=40), asked="x", columns=80, lines=None)
    assert sum(line.text.startswith("! ") for line in whole) == len(view(sensors=40, problems=40).problems)


def test_long_names_are_cut_by_columns() -> None:
    assert cut("sensor", 6) == "sensor"
    assert cut("sensors", 6) == "senso…"
    assert cut("日本語テスト", 5) == "日本…"
    assert cut("a\x1b[31mb", 20) == "a\\x1b[31mb"


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), (0.0004, "0.4 ms"), (0.25, "250 ms"), (2.5, "2.5 s"), (300.0, "300 s")]
)
def test_durations_are_short(value: float | None, text: str) -> None:
    assert seconds(value) == text
