"""What the supervisor is told, and what it tells programs."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from attune_sensor import Rule, RuleState, SettingsError
from attune_stdio import variables
from attune_stdio.settings import Mode, OnExit, StdioSettings


def rule(parameters: dict[str, object]) -> Rule:
    state = RuleState(
        uid="u",
        namespace="default",
        name="r",
        generation=1,
        enabled=True,
        trigger_type="acme.thing",
        parameters=parameters,
        created_at=datetime(2026, 11, 23, tzinfo=UTC),
    )
    return Rule(state=state, since_us=0)


def of_rule(parameters: dict[str, object]) -> dict[str, str]:
    return variables.of_rule(rule(parameters), parameters_file=Path("/tmp/p.json"))


def parameters_of(parameters: dict[str, object]) -> dict[str, str]:
    found = of_rule(parameters)
    return {name: value for name, value in found.items() if name.startswith(variables.PARAMETER)}


def test_the_command_may_stand_after_two_dashes() -> None:
    for arguments in (["--", "./a", "--", "-x"], ["./a", "--", "-x"]):
        assert StdioSettings.read(arguments, {}).command == ("./a", "--", "-x")


def test_everything_can_be_set(tmp_path: Path) -> None:
    settings = StdioSettings.read(
        ["a"],
        {
            "ATTUNE_STDIO_MODE": "perSensor",
            "ATTUNE_STDIO_ON_EXIT": "Restart",
            "ATTUNE_STDIO_LINES_PER_SECOND": "50",
            "ATTUNE_STDIO_STOP_SECONDS": "0",
            "ATTUNE_SCRIPTS_DIR": str(tmp_path),
        },
    )
    assert (settings.mode, settings.on_exit) == (Mode.PER_SENSOR, OnExit.RESTART)
    assert (settings.lines_per_second, settings.stop_seconds, settings.scripts_dir) == (50, 0, tmp_path)


def test_all_that_is_wrong_is_said_at_once() -> None:
    wrong = {
        "ATTUNE_STDIO_MODE": "perPod",
        "ATTUNE_STDIO_ON_EXIT": "Panic",
        "ATTUNE_STDIO_LINES_PER_SECOND": "0",
        "ATTUNE_STDIO_STOP_SECONDS": "soon",
        "ATTUNE_SCRIPTS_DIR": "/nowhere",
    }
    with pytest.raises(SettingsError) as refused:
        StdioSettings.read(["--"], wrong)
    for word in (*wrong, "no command", "perRule, perSensor", "/nowhere"):
        assert word in str(refused.value)


def test_parameters_are_variables_texts_as_they_are_and_the_rest_as_json() -> None:
    given = {"queue": "jobs", "maxItems": 3, "dry-run": True, "filter": {"a": [1, None]}, "none": None, "ü": "ö"}
    assert parameters_of(given) == {
        "ATTUNE_PARAM_QUEUE": "jobs",
        "ATTUNE_PARAM_MAXITEMS": "3",
        "ATTUNE_PARAM_DRY_RUN": "true",
        "ATTUNE_PARAM_FILTER": '{"a":[1,null]}',
        "ATTUNE_PARAM__": "ö",
    }


def test_what_no_variable_can_hold_is_left_to_the_file() -> None:
    large: dict[str, object] = {f"p{n:03}": "x" * 30_000 for n in range(100)}
    assert sum(map(len, parameters_of(large).values())) <= 256 * 1024
    assert parameters_of({"a": "x" * 40_000, "b": "nul\0", "c-d": "1", "c_d": "2"}) == {"ATTUNE_PARAM_C_D": "1"}


def test_parameters_with_the_same_variable_are_named() -> None:
    given: dict[str, object] = {"dry-run": None, "dry_run": True, "DRY.RUN": 1, "queue": "q"}
    [said] = variables.same_names(given)
    assert said == (
        "The parameters DRY.RUN, dry-run, dry_run have the same variable ATTUNE_PARAM_DRY_RUN, which holds DRY.RUN; read the "
        "others from ATTUNE_PARAMETERS_FILE."
    )
    assert parameters_of(given) == {"ATTUNE_PARAM_DRY_RUN": "1", "ATTUNE_PARAM_QUEUE": "q"}
    assert variables.same_names({"a": 1, "b": 2}) == []


def test_a_rule_s_parameters_cannot_set_other_variables() -> None:
    names = set(of_rule({"PATH": "/evil", "LD_PRELOAD": "evil.so", "=": "x"}))
    assert all(name.startswith("ATTUNE_") for name in names)


def test_programs_inherit_all_but_what_is_the_supervisors() -> None:
    own = {
        "PATH": "/bin",
        "QUEUE": "q",
        "ATTUNE_SENSOR_REF": "a/b",
        "ATTUNE_API_TOKEN_FILE": "/token",
        "ATTUNE_NATS_CREDS_FILE": "/creds",
        "ATTUNE_STDIO_MODE": "perRule",
    }
    assert variables.of_program(own, scripts_dir=Path("/scripts")) == {
        "PATH": "/scripts:/bin",
        "QUEUE": "q",
        "ATTUNE_SENSOR_REF": "a/b",
        "PYTHONUNBUFFERED": "1",
    }
