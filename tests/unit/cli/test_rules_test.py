"""``attune rules test`` on files: what a Rule would do, without a cluster."""

import json
from pathlib import Path
from typing import Any

import pytest
from support.cli import answer, attune

from attune_cli.errors import ExitCode

RULE = """\
apiVersion: attune.dev/v1alpha1
kind: Rule
metadata: {name: retry, namespace: batch, labels: {team: imports}}
spec:
  trigger: {type: core.webhook, parameters: {path: /x, auth: {type: none}}}
  data: {channel: imports}
  when: event.payload.failed > 0
  actions:
    - name: tell
      http:
        url: https://chat.example.org/${event.data.channel}
        body: {text: "${event.rule.name} of ${event.rule.labels.team}: ${event.payload.failed}", many: "${event.payload.failed}"}
    - name: page
      when: event.payload.failed > 2
      emit: {name: page}
"""


@pytest.fixture
def rule(tmp_path: Path) -> Path:
    file = tmp_path / "rule.yaml"
    file.write_text(RULE)
    return file


def payload(tmp_path: Path, value: Any) -> Path:
    file = tmp_path / "payload.json"
    file.write_text(json.dumps(value))
    return file


def test_conditions_and_rendered_actions_are_shown(rule: Path, tmp_path: Path) -> None:
    found = answer("rules", "test", "-f", rule, "--payload", payload(tmp_path, {"failed": 1}))
    tell, page = found["data"][0]["steps"]
    assert (tell["fate"], page["fate"], page["reason"]) == ("run", "skip", "ConditionFalse")
    assert tell["request"]["url"] == "https://chat.example.org/imports"
    assert tell["request"]["body"] == {"text": "retry of imports: 1", "many": 1}
    text = attune("rules", "test", "retry", "-f", rule, "--payload", payload(tmp_path, {"failed": 0})).stdout
    assert "  tell (http): skip, ConditionFalse: " in text


def test_an_action_that_would_fail_is_exit_status_1(rule: Path, tmp_path: Path) -> None:
    rule.write_text(RULE.replace("${event.data.channel}", "${event.data.missing}"))
    done = attune("rules", "test", "-f", rule, "--payload", payload(tmp_path, {"failed": 3}), code=ExitCode.PROBLEM)
    assert "  tell (http): fail, InvalidExpression: " in done.stdout
    assert "  page (emit): run\n" in done.stdout


def test_wrong_uses_are_named(rule: Path, tmp_path: Path) -> None:
    good = payload(tmp_path, {})
    for arguments, text in (
        (("-f", rule), "Give one of --event, --payload and --since."),
        (("-f", rule, "--event", "x"), "With --file there are no stored events"),
        (("--payload", good), "Name a Rule, or a file"),
        (("-f", rule, "--payload", tmp_path / "missing.json"), "cannot be read"),
        (("-f", rule, "--payload", rule), "is not JSON"),
        (("-f", rule, "--payload", payload(tmp_path, [1]).rename(tmp_path / "list.json")), "is not a JSON object"),
    ):
        done = attune("rules", "test", *arguments, code=ExitCode.USAGE)
        assert text in done.stderr, arguments
    other = attune("rules", "test", "other", "-f", rule, "--payload", payload(tmp_path, {}), code=ExitCode.NOT_FOUND)
    assert "There is no Rule other in these files." in other.stderr
    rule.write_text(RULE + "---\n" + RULE.replace("name: retry", "name: second"))
    several = attune("rules", "test", "-f", rule, "--payload", payload(tmp_path, {}), code=ExitCode.USAGE)
    assert "name one of batch/retry, batch/second" in several.stderr
