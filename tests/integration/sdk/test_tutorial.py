"""The tutorial's code does what the tutorial says."""

import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from attune_contract.resources import Rule, Sensor
from attune_contract.schemas.json_schema import JsonSchema
from attune_sensor import AckState
from attune_sensor.testing import FakeApi, SensorHarness

TUTORIAL = Path(__file__).parents[3] / "docs" / "sensor-tutorial.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", TUTORIAL.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def programs() -> dict[str, str]:
    """Python blocks by the name in their first line."""
    return {text.split("\n", 1)[0].removeprefix("# "): text for text in blocks("python")}


def test_the_sensor_has_under_20_lines_of_code() -> None:
    lines = [line for line in programs()["file_sensor.py"].splitlines() if line.strip() and not line.startswith("#")]
    assert len(lines) < 20


@pytest.mark.timeout(300)
def test_the_sensors_own_tests_pass(tmp_path: Path) -> None:
    for name in ("file_sensor.py", "test_file_sensor.py", "inbox_sensor.py", "test_inbox_sensor.py"):
        (tmp_path / name).write_text(programs()[name])
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\nfilterwarnings = error\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 passed" in done.stdout


def test_the_sensor_started_by_hand_says_what_it_lacks(tmp_path: Path) -> None:
    (tmp_path / "file_sensor.py").write_text(programs()["file_sensor.py"])
    done = subprocess.run(
        [sys.executable, "file_sensor.py"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    assert json.loads(done.stdout)["event"] == "sensor_misconfigured"


def test_the_types_are_right(tmp_path: Path) -> None:
    for name, text in programs().items():
        (tmp_path / name).write_text(text)
    environment = {**os.environ, "MYPYPATH": str(tmp_path)}
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--config-file",
        os.devnull,
        "--cache-dir",
        str(tmp_path / "c"),
    ]
    done = subprocess.run(
        [*command, *sorted(map(str, tmp_path.glob("*.py")))],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_manifests_are_valid_and_fit_each_other() -> None:
    sensor_text, rule_text, _ = blocks("yaml")
    sensor, rule = Sensor.from_object(yaml.safe_load(sensor_text)), Rule.from_object(yaml.safe_load(rule_text))
    declared = sensor.spec.canonical(rule.spec.trigger.type)
    assert declared is not None
    schema = JsonSchema(json.dumps(declared.parameters_schema).encode())
    assert schema.violations(json.dumps(rule.spec.trigger.parameters).encode(), limit=1) == []


def test_the_comparisons_are_what_the_text_says() -> None:
    schema = JsonSchema(json.dumps(yaml.safe_load(blocks("yaml")[2])["parametersSchema"]).encode())
    early, late = "2026-01-01T00:00:00Z", "2026-01-01T01:00:00.5+00:30"
    for parameters, said in (
        ({"from": early, "until": late, "every": 100, "unit": "milliseconds"}, []),
        ({"from": late, "until": early}, ["until is before from"]),
        ({"every": 0.09}, ["the shortest is 0.1 seconds"]),
    ):
        assert [error.message for error in schema.violations(json.dumps(parameters).encode(), limit=9)] == said


async def test_a_restarted_sensor_goes_on_after_its_last_event() -> None:
    names: dict[str, object] = {}
    exec(programs()["resume.py"], names)
    sensor = names["sensor"]
    created = datetime.now(UTC) - timedelta(minutes=3, seconds=30)
    api = FakeApi()
    for expected in (3, 0):
        before = len(api.events)
        async with SensorHarness(sensor.handler, trigger_types=["acme.minute"], api=api) as harness:  # type: ignore[attr-defined]
            rule = harness.apply("acme.minute", {}, created_at=created)
            await harness.wait_for(rule, AckState.COMPLETED)
        assert len(api.events) - before == expected
    assert [event.occurred_at - created for event in api.events] == [timedelta(minutes=n) for n in (1, 2, 3)]
