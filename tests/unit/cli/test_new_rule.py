"""``attune explain`` and ``attune new rule``: trigger types to choose from, and a Rule that has no mistake."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from attune_cli.app import app
from attune_cli.errors import ExitCode
from attune_cli.lint import check_rule, offered_types
from attune_cli.trigger_types import TriggerType, named, offered, rule

RUN = CliRunner()
SENSOR = """apiVersion: attune.dev/v1alpha1
kind: Sensor
metadata: {name: acme.door}
spec:
  image: x
  rules: {namespaces: {from: All}}
  triggerTypes:
    - name: acme.door
      parametersSchema:
        type: object
        required: [door, level]
        properties:
          door: {type: string, description: Which door.}
          level: {type: integer, minimum: 3}
          quick: {type: boolean}
"""


def attune(*arguments: str, code: int = 0) -> Result:
    done = RUN.invoke(app, list(arguments))
    assert done.exit_code == code, done.output
    return done


def test_every_trigger_type_of_the_packs_has_an_example_without_mistakes() -> None:
    types = offered_types()
    assert {"core.intervaltimer", "core.crontimer", "core.datetimetimer", "core.webhook", "core.kubernetes"} <= {
        each.name for each in types
    }
    for each in types:
        assert each.example, each.name
        assert check_rule(rule(name="r", trigger_type=each.name, parameters=each.example)) == []


def test_types_are_listed_and_explained_by_name_and_alias() -> None:
    assert "core.crontimer" in attune("explain").stdout
    done = attune("explain", "core.timer")
    assert "core.intervaltimer (also core.timer), offered by the Sensor attune-system/core.timer" in done.stdout
    assert "interval (number, required)" in done.stdout
    assert "scheduled_at" in done.stdout
    example = yaml.safe_load(done.stdout.partition("A Rule to begin with:")[2])
    assert example["spec"]["trigger"] == {
        "type": "core.intervaltimer",
        "parameters": {"interval": 30, "unit": "seconds"},
    }
    plain = json.loads(attune("explain", "core.crontimer", "-o", "json").stdout)
    assert plain["example"]["cron"]


def test_an_unknown_type_names_those_there_are(tmp_path: Path) -> None:
    done = attune("explain", "core.cron", "--data-dir", str(tmp_path), code=ExitCode.NOT_FOUND)
    assert re.search(r"There are core\.\S+, .*\bcore\.crontimer, ", done.stderr)


def test_sensors_of_files_are_looked_in(tmp_path: Path) -> None:
    (tmp_path / "sensor.yaml").write_text(SENSOR)
    done = attune("explain", "acme.door", "--sensors", str(tmp_path))
    assert "door (string, required): Which door." in done.stdout


def test_a_rule_is_written_with_the_types_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = attune("new", "rule", "nightly", "--type", "core.crontimer")
    written = yaml.safe_load((tmp_path / "nightly.yaml").read_text())
    assert written["metadata"] == {"name": "nightly"}
    assert written["spec"]["trigger"]["type"] == "core.crontimer"
    assert "nightly.yaml" in done.stdout
    again = attune("new", "rule", "nightly", "--type", "core.crontimer", code=ExitCode.USAGE)
    assert "exists" in again.stderr
    assert attune("lint", "nightly.yaml").stdout == ""


def test_parameters_are_yaml_and_are_checked(tmp_path: Path) -> None:
    (tmp_path / "sensor.yaml").write_text(SENSOR)
    given = ["--set", "door=front", "--set", "level=5", "--set", "quick=true", "--namespace", "team-a"]
    common = ["new", "rule", "r", "--type", "acme.door", "--sensors", str(tmp_path), "--file", "-"]
    done = attune(*common, *given)
    body = yaml.safe_load(done.stdout)
    assert body["spec"]["trigger"]["parameters"] == {"door": "front", "level": 5, "quick": True}
    assert body["metadata"]["namespace"] == "team-a"
    wrong = attune(*common, "--set", "door=front", "--set", "level=1", code=ExitCode.USAGE)
    assert "level" in wrong.stderr
    assert "Nothing was written" in wrong.stderr
    assert "is not NAME=VALUE" in attune(*common, "--set", "door", code=ExitCode.USAGE).stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["r"], "Which trigger type? Give --type, one of:"),
        (["--type", "core.crontimer"], "Which name?"),
        (["r", "--type", "core.cron"], "There is no trigger type core.cron"),
        (["Not_A_Name", "--type", "core.crontimer"], "metadata.name"),
    ],
)
def test_what_is_missing_is_said_where_nobody_can_be_asked(arguments: list[str], words: str) -> None:
    assert words in attune("new", "rule", *arguments, code=ExitCode.USAGE).stderr


def test_at_a_terminal_it_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("attune_cli.commands.new._asks", lambda: True)
    done = RUN.invoke(app, ["new", "rule"], input="core.intervaltimer\nticks\n45\n")
    assert done.exit_code == 0, done.output
    assert yaml.safe_load((tmp_path / "ticks.yaml").read_text())["spec"]["trigger"]["parameters"] == {"interval": 45}


def test_examples_follow_the_schema() -> None:
    def example(**schema: Any) -> Any:
        made = TriggerType(name="a.b", aliases=(), sensor="n/s", parameters={"type": "object", **schema}, payload={})
        return made.example

    assert example(required=["a"], properties={"a": {"type": "integer", "exclusiveMinimum": 4}}) == {"a": 5}
    assert example(required=["a"], properties={"a": {"enum": ["x", "y"]}}) == {"a": "x"}
    assert example(required=["a"], properties={"a": {"type": "array", "minItems": 1, "items": {"type": "string"}}}) == {
        "a": ["text"]
    }
    assert example(properties={"a": {}}) == {}
    assert named(offered([]), "x") is None
