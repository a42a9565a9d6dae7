"""Manifests are judged as an API server with our definitions would, and every complaint has its line."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from support import actions_corpus

from attune_contract.resources import Rule
from attune_local.admission import check_text, manifest_files
from attune_local.admission.definition import _program, definitions
from attune_local.admission.documents import DocumentError, read

PACK = Path(__file__).parents[3] / "packs" / "core"
RULE = """apiVersion: attune.dev/v1alpha1
kind: Rule
metadata: {name: r}
spec:
  trigger:
    type: core.intervaltimer
"""


def complaints(text: str) -> list[str]:
    return [str(problem) for problem in check_text(text, source="f.yaml").problems]


def test_the_core_pack_is_taken_with_defaults_filled_in() -> None:
    for file in manifest_files([PACK]):
        result = check_text(file.read_text(), source=str(file))
        assert result.objects, file
        assert not result.problems
        assert not result.skipped
    [checked] = check_text(RULE, source="f.yaml").objects
    assert checked.object["spec"]["enabled"] is True
    assert checked.key == ("Rule", "default", "r")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (RULE.replace("trigger:", "triger:"), "f.yaml:5: spec.triger: unknown field; expected one of: actions, data"),
        (RULE.replace("core.intervaltimer", "timer"), "f.yaml:6: spec.trigger.type: 'timer' does not match"),
        (RULE + "    parameters: [1]\n", "f.yaml:7: spec.trigger.parameters: must be an object"),
        (RULE + "  enabled: often\n", "f.yaml:7: spec.enabled: must be true or false, not 'often'"),
        (RULE.replace("    type: core.intervaltimer\n", "    parameters: {}\n"), "f.yaml:5: spec.trigger.type: is required"),
        (RULE.replace("name: r", "name: R_1"), "f.yaml:3: metadata.name: 'R_1' is not a valid name"),
        (RULE.replace("name: r", "labels: {a: 1}, name: r"), "f.yaml:3: metadata.labels.a: must be a text"),
        (RULE.replace("v1alpha1", "v9"), "f.yaml:2: kind: there is no Rule in attune.dev/v9"),
        ("a: [1\n", "f.yaml:2: this is not YAML"),
        ("just a text\n", "f.yaml:1: this is no Kubernetes object"),
        (RULE + "---\n" + RULE, "f.yaml:8: Rule default/r stands at line 1 of this file already"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_line(text: str, said: str) -> None:
    assert any(complaint.startswith(said) for complaint in complaints(text)), complaints(text)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("{image: x, triggerTypes: []}", "spec.triggerTypes: must have at least 1 items"),
        ("{image: x, triggerTypes: [{name: a.b}, {name: a.b}]}", "spec.triggerTypes[1]: 'a.b' is there twice"),
        ("{image: x, triggerTypes: [{name: a.b}], token: {ttl: 73h}}", "spec.token.ttl: a token's ttl is at most 72h"),
        ("{image: x, triggerTypes: [{name: a.b}], env: [{name: ATTUNE_X}]}", "spec.env: variables that begin with ATTUNE_"),
        ("{image: x, triggerTypes: [{name: a.b}, {name: c.d, aliases: [a.b]}]}", "spec.triggerTypes: an alias must differ"),
        (
            "{image: x, triggerTypes: [{name: a.b}], rules: {namespaces: {from: All, selector: {}}}}",
            "spec.rules.namespaces: selector is required with from: Selector, and not allowed otherwise",
        ),
    ],
)  # fmt: skip
def test_the_rules_of_the_definitions_are_evaluated(spec: str, words: str) -> None:
    text = f"apiVersion: attune.dev/v1alpha1\nkind: Sensor\nmetadata: {{name: s}}\nspec: {spec}\n"
    [complaint] = complaints(text)
    assert words in complaint


def with_actions(spec: dict[str, Any]) -> str:
    rule = yaml.safe_load(RULE)
    return yaml.safe_dump({**rule, "spec": {**rule["spec"], **spec}})


@pytest.mark.parametrize("name", actions_corpus.TAKEN)
def test_rules_with_actions_are_taken(name: str) -> None:
    text = with_actions(actions_corpus.TAKEN[name])
    assert not complaints(text)
    [checked] = check_text(text, source="f.yaml").objects
    Rule.from_object(checked.object)  # and the model reads what the schema takes


@pytest.mark.parametrize("name", actions_corpus.REFUSED)
def test_what_actions_cannot_be_is_said(name: str) -> None:
    spec, words = actions_corpus.REFUSED[name]
    found = complaints(with_actions(spec))
    assert any(words in complaint for complaint in found), found


def _rules(schema: Any) -> list[str]:
    if isinstance(schema, dict):
        own = [validation["rule"] for validation in schema.get("x-kubernetes-validations", ())]
        return own + [rule for value in schema.values() for rule in _rules(value)]
    return [rule for item in schema for rule in _rules(item)] if isinstance(schema, list) else []


def test_every_rule_of_the_definitions_can_be_compiled() -> None:
    rules = [rule for definition in definitions().values() for rule in _rules(definition.schema)]
    assert rules
    for rule in rules:
        _program(rule)


def test_one_bad_document_does_not_disturb_the_others() -> None:
    text = RULE + "---\n" + RULE.replace("name: r", "name: bad").replace("type:", "tipe:") + "---\n"
    result = check_text(text + RULE.replace("name: r", "name: other"), source="f.yaml")
    assert [checked.key[2] for checked in result.objects] == ["r", "other"]
    assert {problem.line for problem in result.problems} == {12, 13}


def test_what_is_none_of_ours_is_skipped_and_lists_are_opened() -> None:
    text = f"""apiVersion: v1
kind: List
items:
  - apiVersion: apps/v1
    kind: Deployment
    metadata: {{name: d}}
  - {{apiVersion: attune.dev/v1alpha1, kind: Rule, metadata: {{name: r}}, spec: {{trigger: {{type: a.b}}}}}}
---
{RULE.replace("name: r", "name: second")}"""
    result = check_text(text, source="f.yaml")
    assert [(skipped.kind, skipped.line) for skipped in result.skipped] == [("Deployment", 4)]
    assert [(checked.key[2], checked.line) for checked in result.objects] == [("r", 7), ("second", 9)]


def test_scalars_are_read_as_kubectl_does() -> None:
    document = read("time: 2026-01-01T00:00:00Z\nday: 2026-01-01\nclock: 12:30:00\nyes: on\nhex: 0x10\nnone: ~\n")
    assert document is not None
    assert document.value == {
        "time": "2026-01-01T00:00:00Z",
        "day": "2026-01-01",
        "clock": "12:30:00",
        "true": True,
        "hex": 16,
        "none": None,
    }
    merged = read("base: &b {x: 1}\nuse: {<<: *b, z: 2}\n")
    assert merged is not None
    assert merged.value["use"] == {"x": 1, "z": 2}


def test_aliases_cannot_blow_a_document_up() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    with pytest.raises(DocumentError, match="too many values"):
        read("\n".join(lines))


def test_only_manifests_of_a_folder_are_read(tmp_path: Path) -> None:
    for name in ("b.yaml", "a.yml", "c.json", ".hidden.yaml", "notes.txt"):
        (tmp_path / name).write_text("")
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "d.yaml").write_text("")
    assert [file.name for file in manifest_files([tmp_path, tmp_path / "b.yaml"])] == ["a.yml", "b.yaml", "c.json"]
    with pytest.raises(FileNotFoundError, match="no file or folder"):
        manifest_files([tmp_path / "absent"])
