"""``attune lint``: mistakes with file and line, offline; ``attune new sensor``: what it writes works."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.cli import answer, attune

from attune_cli.errors import ExitCode, UsageError
from attune_cli.scaffold import Names

REPOSITORY = Path(__file__).parents[3]

SENSOR = """\
apiVersion: attune.dev/v1alpha1
kind: Sensor
metadata: {name: files, namespace: team-a}
spec:
  image: files:1
  triggerTypes:
    - name: acme.file
      parametersSchema:
        type: object
        required: [directory]
        properties:
          directory: {type: string}
"""


def rule(trigger_type: str, parameters: str = "{}", *, namespace: str = "default", name: str = "r") -> str:
    return (
        f"apiVersion: attune.dev/v1alpha1\nkind: Rule\nmetadata: {{name: {name}, namespace: {namespace}}}\n"
        f"spec:\n  trigger:\n    type: {trigger_type}\n    parameters: {parameters}\n"
    )


def found(*arguments: object) -> list[str]:
    """What is wrong, as FILE:LINE: FIELD: …, without folders."""
    done = attune("lint", *arguments, "--output", "json", code=ExitCode.PROBLEM)
    return [
        f"{Path(each['file']).name}:{each['line']}: {each['field']}: {each['message']}"
        for each in json.loads(done.stdout)["findings"]
    ]


def write(tmp_path: Path, **texts: str) -> Path:
    for name, text in texts.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    return tmp_path


def test_a_file_that_is_no_text_is_one_mistake_among_others(tmp_path: Path) -> None:
    write(tmp_path, rule=rule("core.nothing"))
    (tmp_path / "bytes.yaml").write_bytes(b"kind: Rule\n\xff\xfe\n")
    wrong, unknown = found(tmp_path)
    assert wrong == "bytes.yaml:2: : this is not text in UTF-8"
    assert unknown.startswith("rule.yaml:6: spec.trigger.type: No Sensor offers the trigger type core.nothing.")
    done = subprocess.run(
        [sys.executable, "-m", "attune_cli", "lint", "-"], input=b"\xff", capture_output=True, timeout=240, check=False
    )
    assert (done.returncode, done.stdout) == (1, b"standard input:1: this is not text in UTF-8\n")


def test_what_the_project_ships_has_no_mistake() -> None:
    done = attune("lint", REPOSITORY / "packs" / "core")
    assert done.stderr.endswith("no mistake.\n")
    assert done.stdout == ""


def test_a_folder_without_manifests_is_not_one_without_mistakes(tmp_path: Path) -> None:
    (tmp_path / "core").mkdir()
    (tmp_path / "core" / "sensor.yaml").write_text(SENSOR)
    done = attune("lint", tmp_path, code=ExitCode.USAGE)
    assert f"There is no manifest in {tmp_path}." in done.stderr
    assert f"folders inside it are not read: {tmp_path / 'core'}." in done.stderr


def test_mistakes_are_lines_with_file_and_line_as_compilers_have_it(tmp_path: Path) -> None:
    folder = write(
        tmp_path, rules=rule("core.intervaltimer", "\n      interval: 1\n      jitter: -1\n      unit: fortnights")
    )
    done = attune("lint", folder, code=ExitCode.PROBLEM)
    first, second = done.stdout.splitlines()
    assert first.startswith(f"{folder}/rules.yaml:9: spec.trigger.parameters.jitter: -1 is less than")
    assert second.startswith(f"{folder}/rules.yaml:10: spec.trigger.parameters.unit: 'fortnights' is not one of")
    assert done.stderr == "1 objects in 1 files: 2 mistakes.\n"


def test_rules_are_checked_against_sensors_of_other_files(tmp_path: Path) -> None:
    folder = write(tmp_path, sensor=SENSOR, rules=rule("acme.file", namespace="team-a"))
    assert found(folder) == ["rules.yaml:7: spec.trigger.parameters: 'directory' is a required property"]
    assert found(folder / "rules.yaml", "--sensors", folder / "sensor.yaml") == found(folder)


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        (
            rule("core.intervaltime"),
            "r.yaml:6: spec.trigger.type: No Sensor offers the trigger type core.intervaltime. Did",
        ),
        (rule("Nonsense"), "r.yaml:6: spec.trigger.type: 'Nonsense' does not match"),
        (rule("core.timer", "5"), "r.yaml:7: spec.trigger.parameters: must be an object"),
        (rule("core.timer") + "  enabeld: true\n", "r.yaml:8: spec.enabeld: unknown field"),
        ("kind: [", "r.yaml:2: : this is not YAML"),
        (
            rule("acme.file"),
            "r.yaml:3: metadata.namespace: No Sensor of acme.file admits Rules from the namespace default",
        ),
        (
            SENSOR.replace("type: string", "type: strin").replace("files,", "other,"),
            "r.yaml:8: spec.triggerTypes[0].parametersSchema: cannot be used: ",
        ),
        (SENSOR, "sensor.yaml:1: : Sensor team-a/files stands in "),
        (
            SENSOR.replace("image: files:1", "token: {ttl: 100h}\n  image: x"),
            "spec.token.ttl: a token's ttl is at most 72h",
        ),
    ],
)
def test_each_kind_of_mistake_is_found(tmp_path: Path, text: str, finding: str) -> None:
    assert any(finding in line for line in found(write(tmp_path, r=text, sensor=SENSOR))), found(tmp_path)


def test_what_is_hardly_meant_is_a_warning_and_no_mistake(tmp_path: Path) -> None:
    write(tmp_path, rules=rule("core.crontimer", '{cron: "*/70 * * * *"}'))
    done = attune("lint", tmp_path)
    assert (
        "rules.yaml:7: warning: spec.trigger.parameters.cron: the step /70 is not smaller than the minute"
        in done.stdout
    )
    assert done.stderr.endswith("no mistake.\n")


def test_expressions_are_compiled(tmp_path: Path) -> None:
    parameters = "{apiVersion: v1, kind: Pod, filter: 'object.status.phase == 1 + true', fields: {a: 'objct.a'}}"
    write(tmp_path, rules=rule("core.kubernetes", parameters))
    assert sorted(found(tmp_path)) == [
        "rules.yaml:7: spec.trigger.parameters.fields.a: is not a CEL expression that can be used here: column 1: unknown "
        "variable objct; expected one of: object, oldObject",
        "rules.yaml:7: spec.trigger.parameters.filter: is not a CEL expression that can be used here: column 26: found no "
        "matching overload for '_+_' applied to '(int, bool)'",
    ]


def test_expressions_of_stdio_are_compiled(tmp_path: Path) -> None:
    text = SENSOR.replace(
        "  image: files:1\n", "  runner: Stdio\n  command: [x]\n  stdio: {format: json, when: 'lin.a == 1'}\n"
    )
    write(tmp_path, sensor=text)
    assert found(tmp_path) == [
        "sensor.yaml:7: spec.stdio.when: is not a CEL expression that can be used here: column 1: unknown variable lin; "
        "expected one of: line, params"
    ]


def test_types_of_sensors_that_are_elsewhere_can_be_let_pass(tmp_path: Path) -> None:
    folder = write(tmp_path, r=rule("other.thing"))
    assert len(found(folder)) == 1
    attune("lint", folder, "--allow-unknown-types")
    assert "No Sensor offers" in found(write(tmp_path, r=rule("core.timer", "{interval: 1}")), "--no-core")[0]


def test_a_namespaces_labels_count_where_they_are_known(tmp_path: Path) -> None:
    selecting = SENSOR.replace(
        "  image:", "  rules: {namespaces: {from: Selector, selector: {matchLabels: {team: a}}}}\n  image:"
    )
    folder = write(tmp_path, r=rule("acme.file", "{directory: x}"), sensor=selecting)
    attune("lint", folder)  # who knows what labels the namespace has
    namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: default, labels: {team: b}}\n"
    assert "admits Rules" in found(write(tmp_path, namespace=namespace))[0]
    write(tmp_path, namespace=namespace.replace("team: b", "team: a"))
    attune("lint", folder)


def test_what_is_not_there_is_wrong_usage(tmp_path: Path) -> None:
    assert "There is no file or folder" in attune("lint", tmp_path / "none", code=ExitCode.USAGE).stderr


# -- attune new sensor


@pytest.mark.parametrize("name", ["acme.files", "disk-2"])
def test_a_new_sensor_passes_its_own_test_and_lint(tmp_path: Path, name: str) -> None:
    made = answer("new", "sensor", name, "--directory", tmp_path / "it")
    assert {Path(file).name for file in made["files"]} == {file.name for file in (tmp_path / "it").iterdir()}
    attune("lint", tmp_path / "it", "--no-core")
    # As somebody who wrote it would: with nothing of this project's settings.
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "/dev/null", "--rootdir", "."],
        cwd=tmp_path / "it",
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout
    sensor = yaml.safe_load((tmp_path / "it" / "sensor.yaml").read_text())
    program = sensor["spec"]["command"][-1]
    assert (tmp_path / "it" / program).is_file()
    assert f'ENTRYPOINT ["python", "{program}"]' in (tmp_path / "it" / "Dockerfile").read_text()


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "rule.yaml").write_text("mine")
    done = attune("new", "sensor", "x", "--directory", tmp_path, code=ExitCode.USAGE)
    assert "already has rule.yaml; nothing was written" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["rule.yaml"]


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("a.b", ("a.b", "a_b")),
        ("disk", ("disk.file", "disk")),
        ("class", ("class.file", "sensor_class")),
        ("2", ("2.file", "sensor_2")),
    ],
)
def test_names_follow_from_the_sensors(name: str, names: Any) -> None:
    made = Names.of(name, None)
    assert (made.trigger_type, made.module) == names


@pytest.mark.parametrize("name", ["", "A", "a_b", "../x", "x" * 64])
def test_what_cannot_be_a_sensors_name_is_refused(name: str) -> None:
    with pytest.raises(UsageError):
        Names.of(name, None)
