"""`attune lint` checks conditions and actions as the operator does, with file, line and column."""

from pathlib import Path

from attune_cli.lint import core_pack, lint, read

RULE = """apiVersion: attune.dev/v1alpha1
kind: Rule
metadata: {name: r}
spec:
  trigger:
    type: core.intervaltimer
    parameters: {interval: 1}
  when: event.payload.n > 1 && nope
  actions:
    - name: tell
      http:
        url: https://a.example/
        body:
          text: "see ${event.paylod.n}"
"""


def found(text: str, folder: Path) -> list[str]:
    (folder / "rule.yaml").write_text(text)
    known = [checked for _, result in read(core_pack(), namespace="default") for checked in result.objects]
    report = lint(read([folder / "rule.yaml"], namespace="default"), known=known)
    return [str(finding).removeprefix(f"{folder}/") for finding in report.findings]


def test_expressions_are_checked_with_line_and_column(tmp_path: Path) -> None:
    assert found(RULE, tmp_path) == [
        "rule.yaml:8: spec.when: column 24: unknown variable nope; expected one of: event",
        "rule.yaml:14: spec.actions[0].http.body.text: column 13: event has no field paylod; expected one of: id, type, "
        "occurredAt, payload, data, rule, sensor",
    ]


def test_what_is_right_has_no_findings(tmp_path: Path) -> None:
    assert found(RULE.replace(" && nope", "").replace("paylod", "payload"), tmp_path) == []
