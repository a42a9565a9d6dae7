"""Which files are manifests, and what is said of those that are for other tools."""

from pathlib import Path

import pytest

from attune_local.admission import check_text, find
from attune_local.manifests import kustomize

RULE = """apiVersion: attune.dev/v1alpha1
kind: Rule
metadata: {name: tick}
spec: {trigger: {type: core.intervaltimer, parameters: {interval: 2}}}
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("base/kustomization.yaml", "base/rules.yaml", "overlays/prod/kustomization.yaml", "plain/deep/r.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(RULE)
    (tmp_path / "base" / "kustomization.yaml").write_text("resources: [rules.yaml]\n")
    (tmp_path / "overlays" / "prod" / "kustomization.yaml").write_text("resources: [../../base]\nnamePrefix: prod-\n")
    (tmp_path / "chart" / "templates").mkdir(parents=True)
    (tmp_path / "chart" / "Chart.yaml").write_text("name: x\n")
    (tmp_path / "chart" / "templates" / "rule.yaml").write_text("{{- if .Values.x }}\n" + RULE + "{{- end }}\n")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "r.yaml").write_text(RULE)
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules" / "r.yaml").write_text(RULE)
    return tmp_path


def test_folders_inside_are_named_or_read(tree: Path) -> None:
    found = find([tree])
    assert (found.files, found.kustomizations) == ([], [])
    [note] = found.notes
    assert all(f"{tree / name}" in note.message for name in ("base", "chart", "overlays/prod", "plain/deep"))
    assert "node_modules" not in note.message
    assert "--recursive" in note.message
    found = find([tree], recursive=True)
    assert found.files == [tree / "plain" / "deep" / "r.yaml"]
    assert found.kustomizations == [tree / "base", tree / "overlays" / "prod"]
    assert ["Helm chart" in note.message for note in found.notes] == [True]


def test_a_chart_is_named_with_what_renders_it(tree: Path) -> None:
    [note] = find([tree / "chart"]).notes
    assert f"helm template chart {tree / 'chart'} | attune up -" in note.message
    template = tree / "chart" / "templates" / "rule.yaml"
    [problem] = check_text(template.read_text(), source="rule.yaml").problems
    assert "helm template" in problem.message


def test_a_kustomization_is_named_by_its_folder_or_its_file(tree: Path) -> None:
    assert find([tree / "base"]).kustomizations == [tree / "base"]
    assert find([tree / "base" / "kustomization.yaml"]).kustomizations == [tree / "base"]
    with pytest.raises(FileNotFoundError):
        find([tree / "kustomization.yaml"])


def test_what_a_kustomization_is_made_of_is_known(tree: Path) -> None:
    inputs = {path.relative_to(tree.resolve()).as_posix() for path in kustomize.inputs(tree / "overlays" / "prod")}
    assert inputs == {"overlays/prod/kustomization.yaml", "base/kustomization.yaml", "base/rules.yaml"}


def test_a_kustomization_without_a_program_is_told(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tree))
    assert "kubectl kustomize" in kustomize.build(tree / "base").problem


@pytest.mark.parametrize(("status", "text", "problem"), [(0, RULE, ""), (1, "", "no such resource")])
def test_a_kustomization_is_built_by_what_is_there(
    tree: Path, monkeypatch: pytest.MonkeyPatch, status: int, text: str, problem: str
) -> None:
    program = tree / "kubectl"
    program.write_text(f"#!/bin/sh\ncat <<'E'\n{text}E\necho 'error: no such resource' >&2\nexit {status}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tree}:/usr/bin:/bin")
    built = kustomize.build(tree / "base")
    assert built.text.strip() == text.strip()
    assert problem in built.problem
