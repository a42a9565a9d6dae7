"""The formats ``cron`` and ``timezone``: what the operator refuses, the timer refuses too, and the other way round."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attune_contract.identity import SensorRef
from attune_contract.schemas.bounded import BoundedSchema
from attune_operator.rules.records import TriggerDeclaration
from attune_operator.rules.validation import check_parameters
from attune_timer import cron

SCHEMA = BoundedSchema(
    json.dumps(
        {"properties": {"cron": {"format": "cron"}, "timezone": {"format": "timezone"}, "other": {"format": "email"}}}
    ).encode()
)


def problem(**parameters: object) -> str | None:
    errors = SCHEMA.errors(json.dumps(parameters).encode(), limit=1)
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
        ("61 * * * *", "'61 * * * *' is not a cron expression: bad minute"),
        ("0 0 30 2 *", "is not a cron expression: bad day-of-month"),
        ("* * *", "write minute, hour"),
        ("@reboot", "or one of @annually"),
        ("1," * 300 + "1 * * * *", "write minute, hour"),
    ],
)
def test_bad_expressions(expression: str, complaint: str) -> None:
    assert complaint in (problem(cron=expression) or "")
    with pytest.raises(ValueError, match=r"cron expression|is not one of"):
        cron.parse(expression)


@pytest.mark.parametrize("name", ["Europe/Berlin", "UTC", "America/Argentina/Buenos_Aires"])
def test_zones(name: str) -> None:
    assert problem(timezone=name) is None


@pytest.mark.parametrize("name", ["Mars/Olympus", "", "../../etc/passwd", "/etc/passwd", "Europe", "a\0b", "X" * 5000])
def test_unknown_zones(name: str) -> None:
    assert "is not a time zone: write an IANA name like Europe/Berlin, or UTC" in (problem(timezone=name) or "")


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
        assert good or "parameters.at: '61 * * * *' is not a cron expression: bad minute" in (text or "")


@settings(deadline=None)
@given(st.one_of(st.text(max_size=30), st.from_regex(r"([0-9*]{1,2}[-/,]?[0-9L#]{0,2} ){4,5}[0-9*]", fullmatch=True)))
def test_operator_and_timer_agree(text: str) -> None:
    try:
        cron.parse(text)
    except ValueError:
        assert problem(cron=text) is not None
    else:
        assert problem(cron=text) is None
