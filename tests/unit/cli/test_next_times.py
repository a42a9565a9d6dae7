"""``attune lint --next``: when timer Rules would fire, by the timer's own code."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from support.cli import attune

from attune_cli.next_times import NextTimes, next_times

NOW = datetime(2027, 3, 20, 12, 0, 0, 400_000, tzinfo=UTC)
INTERVAL, CRON, DATE = "core.intervaltimer", "core.crontimer", "core.datetimetimer"


def coming(trigger_type: str, *, number: int = 3, now: datetime = NOW, **parameters: Any) -> NextTimes:
    body = {
        "metadata": {"namespace": "default", "name": "r"},
        "spec": {"trigger": {"type": trigger_type, "parameters": parameters}},
    }
    return next_times(body, trigger_type=trigger_type, file="r.yaml", line=1, number=number, now=now)


def lines(found: NextTimes) -> list[str]:
    return [line.strip() for line in list(found.lines())[1:]]


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (
            coming(CRON, cron="30 2 * * SUN", timezone="Europe/Berlin"),
            [
                "2027-03-21 02:30:00+01:00  2027-03-21T01:30:00Z",
                "2027-03-28 03:00:00+02:00  2027-03-28T01:00:00Z  (clocks change from +01:00 to +02:00 before it; "
                "the clock skips its local time, so it comes at the end of the gap)",
                "2027-04-04 02:30:00+02:00  2027-04-04T00:30:00Z",
            ],
        ),
        (
            coming(CRON, cron="*/30 2 * * *", timezone="Europe/Berlin", start="2027-10-31T00:30:00Z"),
            [
                "2027-10-31 02:30:00+02:00  2027-10-31T00:30:00Z  (this local time comes twice, it is the first)",
                "2027-10-31 02:00:00+01:00  2027-10-31T01:00:00Z  (clocks change from +02:00 to +01:00 before it; "
                "this local time comes twice, it is the second)",
                "2027-10-31 02:30:00+01:00  2027-10-31T01:30:00Z  (this local time comes twice, it is the second)",
            ],
        ),
        (
            coming(CRON, cron="0 12 29 2 *"),
            [f"{year}-02-29 12:00:00+00:00  {year}-02-29T12:00:00Z" for year in (2028, 2032, 2036)],
        ),
        (
            coming(CRON, number=2, cron="@daily", exclude={"dates": ["2027-03-21"], "cron": ["* * * * MON"]}),
            [f"2027-03-{day} 00:00:00+00:00  2027-03-{day}T00:00:00Z" for day in (23, 24)],
        ),
        (
            coming(INTERVAL, number=2, interval=1, unit="hours", jitter=90),
            [
                "2027-03-20 13:00:00+00:00  2027-03-20T13:00:00Z to 2027-03-20T13:01:30Z",
                "2027-03-20 14:00:00+00:00  2027-03-20T14:00:00Z to 2027-03-20T14:01:30Z",
            ],
        ),
        (
            coming(INTERVAL, number=1, interval=1, start="2099-01-01T00:00:00Z", anchor="2000-01-01T00:00:00Z"),
            ["2099-01-01 00:00:00+00:00  2099-01-01T00:00:00Z"],
        ),
        (
            coming(DATE, at="2027-03-20T14:00:00+01:00"),
            ["2027-03-20 13:00:00+00:00  2027-03-20T13:00:00Z", "and then not any more"],
        ),
        (coming(DATE, at="2027-03-20T12:00:00Z"), ["It never fires: its time is over."]),
        (coming(CRON, cron="@daily", end="2027-03-20T13:00:00Z"), ["It never fires: its time is over."]),
        (
            coming(INTERVAL, interval=5, jitter=6),
            ["It is refused: parameters.jitter is longer than the interval, so events would overtake each other."],
        ),
    ],
)
def test_what_is_said(found: NextTimes, said: list[str]) -> None:
    assert lines(found) == said


def test_lint_says_it_of_timer_rules_without_mistakes(tmp_path: Path) -> None:
    rules = [
        ("good", "core.timer", '{interval: 1, unit: hours, start: "2099-01-01T00:00:00Z"}'),
        ("wrong", "core.timer", "{interval: -1}"),
        ("over", DATE, '{at: "2020-01-01T00:00:00Z"}'),
    ]
    (tmp_path / "rules.yaml").write_text(
        "\n---\n".join(
            f"apiVersion: attune.dev/v1alpha1\nkind: Rule\nmetadata: {{name: {name}}}\n"
            f"spec: {{trigger: {{type: {kind}, parameters: {parameters}}}}}"
            for name, kind, parameters in rules
        )
    )
    done = attune("lint", "--next", "2", "-o", "json", tmp_path, code=1)
    good, over = json.loads(done.stdout)["next"]
    assert (good["rule"], good["type"], good["zone"]) == ("default/good", INTERVAL, "UTC")
    assert [time["utc"][:13] for time in good["times"]] == ["2099-01-01T00", "2099-01-01T01"]
    assert (over["rule"], over["times"], over["problem"]) == ("default/over", [], "It never fires: its time is over.")
    assert "next" not in json.loads(attune("lint", "-o", "json", tmp_path, code=1).stdout)
    assert "Rule default/good (core.intervaltimer, UTC):" in attune("lint", "--next", "2", tmp_path, code=1).stdout
