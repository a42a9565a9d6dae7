"""The formats ``cron`` and ``timezone``: what the operator refuses, the timer refuses too, and the other way round."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.rule_stream import rule_state

from attune_contract.calendar import cron
from attune_contract.identity import SensorRef
from attune_contract.schemas.json_schema import JsonSchema
from attune_operator.rules.records import TriggerDeclaration
from attune_operator.rules.validation import check_parameters
from attune_sensor import InvalidRuleError, Rule
from attune_timer.parameters import CRON_TIMER, timer_of

SCHEMA = JsonSchema(
    json.dumps(
        {"properties": {"cron": {"format": "cron"}, "timezone": {"format": "timezone"}, "other": {"format": "email"}}}
    ).encode()
)


def problem(**parameters: object) -> str | None:
    errors = SCHEMA.violations(json.dumps(parameters).encode(), limit=1)
    return errors[0].message if errors else None


@pytest.mark.parametrize(
    "expression",
    ["30 6 * * MON-FRI", "@daily", "@Hourly", "*/10 * * * * *", "0 0 L * *", "59 23 31 12 7", "0 0 29 2 *"],
)
def test_good_expressions(expression: str) -> None:
    assert problem(cron=expression) is None
    cron.parse(expression)


@pytest.mark.parametrize(
    ("expression", "complaint"),
    [
        ("61 * * * *", "'61 * * * *' is not a cron expression: the minute '61' is wrong; expected 0-59"),
        ("0 0 30 2 *", "is not a cron expression: it is never due: no month that it names has such a day"),
        ("* * *", "it has 3 fields; expected five (minute hour"),
        ("@reboot", "unknown nickname '@reboot'; expected one of @yearly"),
        ("1," * 300 + "1 * * * *", "it has 609 characters; at most 200 are allowed"),
    ],
)
def test_bad_expressions(expression: str, complaint: str) -> None:
    assert complaint in (problem(cron=expression) or "")
    with pytest.raises(cron.CronError) as error:
        cron.parse(expression)
    assert str(error.value) in (problem(cron=expression) or ""), "the timer gives the same reason"


@pytest.mark.parametrize("name", ["Europe/Berlin", "UTC", "America/Argentina/Buenos_Aires"])
def test_zones(name: str) -> None:
    assert problem(timezone=name) is None


@pytest.mark.parametrize("name", ["Mars/Olympus", "", "../../etc/passwd", "/etc/passwd", "Europe", "a\0b", "X" * 5000])
def test_unknown_zones(name: str) -> None:
    assert "is not a time zone: expected an IANA name like Europe/Berlin, or UTC" in (problem(timezone=name) or "")


def test_other_formats_and_other_types_are_not_checked() -> None:
    assert problem(other="not an address", cron=5, timezone=None) is None


def test_a_quick_yes_looks_at_formats_too() -> None:
    sensor = SensorRef("attune-system", "core.timer")
    trigger = TriggerDeclaration(
        name="acme.report",
        aliases=(),
        schema=b'{"type":"object","properties":{"at":{"type":"string","format":"cron"}}}',
    )
    for expression, good in (("@daily", True), ("61 * * * *", False)):
        parameters = {"at": expression}
        text = check_parameters(
            parameters=json.dumps(parameters).encode(), value=parameters, trigger=trigger, sensor=sensor
        )
        assert (text is None) == good
        assert good or "parameters.at: '61 * * * *' is not a cron expression: the minute '61' is wrong" in (text or "")


def _timers_problem(text: str) -> str | None:
    rule = Rule(state=rule_state(parameters={"cron": text}, trigger_type=CRON_TIMER), since_us=0)
    try:
        timer_of(rule)
    except InvalidRuleError as error:
        return str(error)
    return None


@settings(deadline=None)
@given(
    st.one_of(
        st.text(max_size=30),
        st.sampled_from([" @daily", "@daily\n", "0 0 * * *\n", "@every 5m ", "@EVERY 1h", "@Daily"]),
        st.from_regex(r"([0-9*]{1,2}[-/,]?[0-9L#]{0,2} ){4,5}[0-9*]", fullmatch=True),
    )
)
def test_operator_and_timer_agree(text: str) -> None:
    found = problem(cron=text)
    assert _timers_problem(text) == (None if found is None else f"parameters.cron: {found}")
