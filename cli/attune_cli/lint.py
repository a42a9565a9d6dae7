"""What is wrong with manifests, offline: what the API server would refuse, and what the operator would say afterwards.

Files are judged by the same code as in the cluster: the resource definitions' schemas and CEL rules
(:mod:`attune_local.admission`), the binding of Rules to Sensors and the check of their parameters (:mod:`attune_operator.rules`).
"""

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from attune_cli.errors import UsageError
from attune_cli.trigger_types import TriggerType, offered
from attune_contract.calendar import cron
from attune_contract.resources import Sensor
from attune_contract.schemas.json_schema import CheckTooCostlyError, JsonSchema
from attune_contract.schemas.structure import UnusableSchemaError
from attune_contract.schemas.violations import describe
from attune_local.admission import STDIN, Checked, Problem, Result, check_text, find
from attune_local.manifests import kustomize
from attune_operator.public.checks import (
    Bound,
    NotAllowed,
    SensorRecord,
    TriggerDeclaration,
    UnknownTriggerType,
    bind,
    canonical_json,
    parse_sensor,
    schema_problem,
)

_MOST: Final = 20
_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
_PACKS: Final = Path(__file__).with_name("packs")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A mistake and where it is. ``field`` is like ``spec.trigger.type``; empty when it is about the whole object. What is
    allowed but hardly meant is only a ``warning``.
    """

    file: str
    line: int
    field: str
    message: str
    severity: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}: {'warning: ' if self.severity == 'warning' else ''}"
        return where + (f"{self.field}: {self.message}" if self.field else self.message)

    def plain(self) -> dict[str, Any]:
        """For JSON and YAML."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundRule:
    """A Rule without a mistake, and the canonical name of its trigger type."""

    file: str
    line: int
    object: Mapping[str, Any]
    trigger_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was found."""

    files: int
    objects: int
    findings: Sequence[Finding]
    bound: Sequence[BoundRule] = ()


def core_pack() -> list[Path]:
    """The folders of the installed packs."""
    return sorted(path for path in _PACKS.iterdir() if path.is_dir())


def offered_types(more: Iterable[Path] = ()) -> list[TriggerType]:
    """The trigger types of the installed packs, and of the Sensors in more files.

    Raises:
        UsageError: a path does not exist, or a file cannot be read.
    """
    found = [*read(more, namespace="default"), *read(core_pack(), namespace="default")]
    return offered(checked.object for _, result in found for checked in _of_kind(result.objects, "Sensor"))


def read(paths: Iterable[Path], *, namespace: str, recursive: bool = False) -> list[tuple[str, Result]]:
    """Judge each file by itself: manifests, kustomizations (which are built), and standard input.

    Raises:
        UsageError: a path does not exist, or a file cannot be read.
    """
    paths = list(paths)
    results = []
    try:
        found = find(paths, recursive=recursive)
        if STDIN in paths:
            results.append(("standard input", _checked(sys.stdin.buffer.read(), "standard input", namespace)))
        results += [(str(path), _checked(path.read_bytes(), str(path), namespace)) for path in found.files]
    except FileNotFoundError as error:
        raise UsageError(str(error)) from None
    except OSError as error:
        raise UsageError(f"{error.filename} cannot be read: {error.strerror}.") from None
    return results + [(str(folder), _built(folder, namespace)) for folder in found.kustomizations]


def _checked(content: bytes, source: str, namespace: str) -> Result:
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        problem = Problem(source=source, line=line, field="", message="this is not text in UTF-8")
        return Result(problems=[problem])
    return check_text(text, source=source, namespace=namespace)


def _built(folder: Path, namespace: str) -> Result:
    built = kustomize.build(folder)
    if built.problem:
        return Result(problems=[Problem(source=str(folder), line=1, field="", message=built.problem)])
    return check_text(built.text, source=str(folder), namespace=namespace)


def check_rule(body: Mapping[str, Any], sensors: Iterable[Path] = ()) -> list[str]:
    """What is wrong with a Rule, by the Sensors of the packs and of more files: sentences without file and line.

    Raises:
        UsageError: a path does not exist, or a file cannot be read.
    """
    result = check_text(json.dumps(body), source="rule")
    beside = [*read(sensors, namespace="default"), *read(core_pack(), namespace="default")]
    known = [checked for _, each in beside for checked in each.objects]
    report = lint([("rule", result)], known=known)
    return [
        f"{finding.field}: {finding.message}" if finding.field else finding.message
        for finding in report.findings
        if finding.severity == "error"
    ]


def lint(
    results: Sequence[tuple[str, Result]], *, known: Sequence[Checked], allow_unknown_types: bool = False
) -> Report:
    """Judge files together.

    Args:
        results: the files, judged by themselves.
        known: other Sensors and Namespaces, like the core pack's; they are not checked.
        allow_unknown_types: accept Rules with a trigger type that no known Sensor offers.
    """
    objects = [checked for _, result in results for checked in result.objects]
    findings = [_finding(problem) for _, result in results for problem in result.problems]
    findings += _repeated(objects)
    mine = {checked.key for checked in objects}
    sensors = _of_kind(objects, "Sensor")
    others = [checked for checked in _of_kind(known, "Sensor") if checked.key not in mine]
    for checked in sensors:
        findings += _schemas(checked)
        findings += _stdio(checked)
    labels = {
        checked.object["metadata"]["name"]: checked.object["metadata"].get("labels") or {}
        for checked in _of_kind([*known, *objects], "Namespace")
    }
    records = [_record(checked, age) for age, checked in enumerate([*sensors, *others])]
    bound: list[BoundRule] = []
    for checked in _of_kind(objects, "Rule"):
        wrong = list(_rule(checked, records, labels, allow_unknown_types=allow_unknown_types))
        findings += wrong
        if all(finding.severity == "warning" for finding in wrong):
            bound += _canonical(checked, records)
    order = {source: place for place, (source, _) in enumerate(results)}
    findings.sort(key=lambda finding: (order.get(finding.file, 0), finding.line))
    return Report(files=len(results), objects=len(objects), findings=findings, bound=bound)


def _canonical(checked: Checked, sensors: Iterable[SensorRecord]) -> Iterator[BoundRule]:
    asked = checked.object["spec"]["trigger"]["type"]
    declared = (sensor.declaration(asked) for sensor in sensors)
    found = next((declaration.name for declaration in declared if declaration is not None), None)
    if found is not None:
        yield BoundRule(file=checked.source, line=checked.line_of(()), object=checked.object, trigger_type=found)


def _of_kind(objects: Iterable[Checked], kind: str) -> list[Checked]:
    return [checked for checked in objects if checked.object["kind"] == kind]


def _finding(problem: Problem) -> Finding:
    return Finding(file=problem.source, line=problem.line, field=problem.field, message=problem.message)


def _at(checked: Checked, path: tuple[str | int, ...], message: str) -> Finding:
    field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")
    return Finding(file=checked.source, line=checked.line_of(path), field=field, message=message)


def _repeated(objects: Iterable[Checked]) -> Iterator[Finding]:
    """The same object in two files: which one holds depends on the order in which they are applied."""
    seen: dict[tuple[str, str, str], Checked] = {}
    for checked in objects:
        first = seen.setdefault(checked.key, checked)
        if first is not checked:
            kind, namespace, name = checked.key
            yield _at(checked, (), f"{kind} {namespace}/{name} stands in {first.source}:{first.line} already")


def _record(checked: Checked, age: int) -> SensorRecord:
    """A Sensor as the operator would know it; those that come first count as older."""
    metadata = {
        **checked.object["metadata"],
        "uid": "/".join(checked.key),
        "creationTimestamp": (_EPOCH + timedelta(seconds=age)).isoformat(),
    }
    return parse_sensor({**checked.object, "metadata": metadata})


def _schemas(checked: Checked) -> Iterator[Finding]:
    """Schemas that are none, or cannot be used: each of them, not the first alone as the Sensor's condition says."""
    types = checked.object["spec"]["triggerTypes"]
    for index, declared in enumerate(types):
        for field in ("parametersSchema", "payloadSchema"):
            if field not in declared:
                continue
            single = {
                **checked.object,
                "spec": {
                    **checked.object["spec"],
                    "triggerTypes": [{"name": declared["name"], field: declared[field]}],
                },
            }
            if (found := schema_problem(Sensor.from_object(single))) is not None:
                message = found[1].partition(" cannot be used: ")[2] or found[1]
                yield _at(checked, ("spec", "triggerTypes", index, field), f"cannot be used: {message}")


def _rule(
    checked: Checked,
    sensors: Sequence[SensorRecord],
    labels: Mapping[str, Mapping[str, str]],
    *,
    allow_unknown_types: bool,
) -> Iterator[Finding]:
    trigger = checked.object["spec"]["trigger"]
    namespace = checked.object["metadata"]["namespace"]
    candidates = [sensor for sensor in sensors if sensor.declaration(trigger["type"]) is not None]
    binding = bind(
        namespace=namespace,
        trigger_type=trigger["type"],
        candidates=candidates,
        labels=labels.get(namespace),
        known_types=frozenset(name for sensor in sensors for name in sensor.offered),
    )
    match binding:
        case UnknownTriggerType(message=message):
            if not allow_unknown_types:
                # The operator's sentence ends with what to ask the cluster, which is not at hand here.
                message = message.partition(" `kubectl get sensors")[0]
                yield _at(checked, ("spec", "trigger", "type"), message)
        case NotAllowed(message=message):
            # A namespace's labels are known only when it stands in the files; without them a selector may or may not match.
            if namespace in labels or all(sensor.namespaces.source != "Selector" for sensor in candidates):
                yield _at(checked, ("metadata", "namespace"), message)
        case Bound(trigger=declaration):
            yield from _parameters(checked, declaration, trigger.get("parameters") or {})
    yield from _actions(checked)


def _actions(checked: Checked) -> Iterator[Finding]:
    """Conditions and actions, as the operator checks them."""
    spec = checked.object["spec"]
    if spec.get("when") or spec.get("actions"):
        from attune_kit.actions.check import check

        for problem in check(spec, namespace=checked.object["metadata"]["namespace"]):
            yield _at(checked, problem.path, f"{problem.where}{problem.message}")


def _parameters(checked: Checked, declaration: TriggerDeclaration, parameters: Any) -> Iterator[Finding]:
    if not declaration.schema:
        return
    place = ("spec", "trigger", "parameters")
    try:
        errors = JsonSchema(declaration.schema).violations(canonical_json(parameters), limit=_MOST)
    except UnusableSchemaError:
        return  # said of the Sensor
    except (CheckTooCostlyError, msgspec.MsgspecError) as error:
        yield _at(checked, place, f"cannot be checked: {error}")
        return
    for wrong in errors:
        yield _at(checked, (*place, *wrong.path), describe(wrong, root="parameters").partition(": ")[2])
    if not errors:
        yield from _cron_warnings(checked, place, declaration, parameters)
        yield from _expressions(checked, place, declaration, parameters)


def _cron_warnings(
    checked: Checked, place: tuple[str, ...], declaration: TriggerDeclaration, parameters: Any
) -> Iterator[Finding]:
    schema = msgspec.json.decode(declaration.schema)
    properties = schema.get("properties") if isinstance(schema, dict) else None
    for name, declared in (properties or {}).items():
        value = parameters.get(name) if isinstance(parameters, dict) else None
        if isinstance(value, str) and isinstance(declared, dict) and declared.get("format") == "cron":
            for text in cron.warnings(value):
                yield replace(_at(checked, (*place, name), text), severity="warning")


def _expressions(
    checked: Checked, place: tuple[str, ...], declaration: TriggerDeclaration, parameters: Any
) -> Iterator[Finding]:
    """CEL expressions: parameters that the schema marks with ``x-attune-cel`` (docs/cel.md)."""
    schema = msgspec.json.decode(declaration.schema)
    for name, declared in (schema.get("properties") or {}).items():
        value = parameters.get(name)
        if not isinstance(declared, dict) or value is None:
            continue
        if isinstance(marked := declared.get("x-attune-cel"), dict) and isinstance(value, str):
            yield from _expression(checked, (*place, name), marked, value)
        inner = declared.get("additionalProperties")
        if (
            isinstance(inner, dict)
            and isinstance(value, dict)
            and isinstance(marked := inner.get("x-attune-cel"), dict)
        ):
            for key, text in value.items():
                if isinstance(text, str):
                    yield from _expression(checked, (*place, name, key), marked, text)


def _expression(checked: Checked, path: tuple[str, ...], marked: Mapping[str, Any], text: str) -> Iterator[Finding]:
    from attune_kit.cel.library import Expression, ExpressionError

    try:
        Expression(text, variables=marked.get("variables") or (), condition=marked.get("result") == "bool")
    except ExpressionError as error:
        yield _at(checked, path, f"is not a CEL expression that can be used here: {error}")


#: The fields of ``spec.stdio`` that are CEL expressions, and whether each must be true or false.
_STDIO_EXPRESSIONS: Final = {"when": True, "payload": False, "occurrence": False, "occurredAt": False}


def _stdio(checked: Checked) -> Iterator[Finding]:
    """The expressions and the pattern of ``spec.stdio``."""
    options = checked.object["spec"].get("stdio") or {}
    for name, condition in _STDIO_EXPRESSIONS.items():
        if isinstance(text := options.get(name), str):
            marked = {"variables": ("line", "params"), "result": "bool" if condition else None}
            yield from _expression(checked, ("spec", "stdio", name), marked, text)
    if isinstance(pattern := options.get("pattern"), str):
        try:
            re.compile(pattern)
        except re.error as error:
            yield _at(checked, ("spec", "stdio", "pattern"), f"is not a regular expression: {error}")
