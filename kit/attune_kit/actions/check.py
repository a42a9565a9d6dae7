"""What is wrong with a Rule's conditions and actions beyond their shape: expressions, templates, manifests. One check for the
operator, ``attune lint`` and the API.

:func:`expressions_of` is pure. :func:`check` compiles in this process, and :func:`check_in` in the processes of an evaluator,
where nobody's expression can hold the caller up.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from attune_contract.actions import ActionKind
from attune_contract.emitted import NAME_PATTERN
from attune_kit.cel.evaluator import Evaluator, Program
from attune_kit.cel.library import Expression, ExpressionError
from attune_kit.cel.templates import LocatedTemplateError, Path, TemplateError, parse, texts_in
from attune_kit.cel.tokens import tokens

#: What expressions read (docs/actions.md, "Expressions").
EVENT: Final = ("event",)
RESPONSE: Final = ("response", "event")
OBJECT: Final = ("object", "event")
#: Fields of ``event`` and of ``event.rule``.
EVENT_FIELDS: Final = ("id", "type", "occurredAt", "payload", "data", "rule", "sensor")
RULE_FIELDS: Final = ("namespace", "name", "uid", "labels", "annotations")
RESPONSE_FIELDS: Final = ("status", "headers", "body")
#: So many expressions a Rule may have.
MOST_EXPRESSIONS: Final = 500
#: How a Job says that it has ended; no expression.
COMPLETED: Final = "Completed"


@dataclass(frozen=True, slots=True)
class Used:
    """An expression in a Rule.

    Attributes:
        path: the field, from the Rule's root.
        text: the field's text.
        source: the expression.
        column: where it begins in the text, from 1.
        variables: what it may read.
        condition: whether its result must be true or false.
    """

    path: Path
    text: str
    source: str
    column: int
    variables: tuple[str, ...]
    condition: bool


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong, and where: ``line`` and ``column`` are within the field's text, from 1; 0 when it is about the field."""

    path: Path
    message: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        place = ""
        for part in self.path:
            place += f"[{part}]" if isinstance(part, int) else f".{part}" if place else str(part)
        return f"{place}: {self.where}{self.message}"

    @property
    def where(self) -> str:
        """The place within the text, for a sentence; empty when it is about the field."""
        if not self.column:
            return ""
        return f"line {self.line}, column {self.column}: " if self.line > 1 else f"column {self.column}: "


def expressions_of(spec: Mapping[str, Any], *, namespace: str = "") -> tuple[list[Used], list[Problem]]:
    """All expressions of a Rule, and what is wrong without looking into them.

    Args:
        spec: the Rule's spec, as the API server takes it.
        namespace: the Rule's; empty when it is not known.
    """
    used: list[Used] = []
    problems: list[Problem] = []
    if spec.get("when"):
        used.append(_whole(("spec", "when"), spec["when"], EVENT))
    for index, action in enumerate(spec.get("actions") or ()):
        place: Path = ("spec", "actions", index)
        for name, variables in (("when", EVENT), ("success", RESPONSE), ("await", OBJECT)):
            text = action.get(name)
            if text and not (name == "await" and text == COMPLETED):
                used.append(_whole((*place, name), text, variables))
        for kind in ActionKind:
            if (template := action.get(kind.value)) is not None:
                found, wrong = _in_template(template, (*place, kind.value))
                used += found
                problems += wrong
        problems += _manifest(action.get("object") or {}, (*place, "object"), namespace)
        problems += _emitted(action.get("emit") or {}, (*place, "emit"))
    if len(used) > MOST_EXPRESSIONS:
        message = f"the Rule has {len(used)} expressions; at most {MOST_EXPRESSIONS} are allowed"
        return [], [Problem(("spec", "actions"), message)]
    problems += [problem for each in used if (problem := _unknown_field(each)) is not None]
    return used, problems


def _whole(path: Path, text: str, variables: tuple[str, ...]) -> Used:
    return Used(path, text, text, 1, variables, condition=True)


def _in_template(template: Any, place: Path) -> tuple[list[Used], list[Problem]]:
    used: list[Used] = []
    problems: list[Problem] = []
    try:
        for path, text in texts_in(template):
            try:
                expressions = parse(text).expressions
            except TemplateError as error:
                problems.append(_at((*place, *path), text, error.column, error.reason))
                continue
            used += [
                Used((*place, *path), text, each.source, each.column, EVENT, condition=False) for each in expressions
            ]
    except LocatedTemplateError as error:  # nested too deeply
        problems.append(Problem(place, error.reason))
    return used, problems


def _manifest(action: Mapping[str, Any], place: Path, namespace: str) -> Iterator[Problem]:
    manifest = action.get("manifest")
    if not isinstance(manifest, Mapping):
        return
    for field in ("apiVersion", "kind"):
        if not isinstance(manifest.get(field), str) or not manifest[field]:
            yield Problem((*place, "manifest", field), "is required")
    metadata = manifest.get("metadata")
    if metadata is not None and not isinstance(metadata, Mapping):
        yield Problem((*place, "manifest", "metadata"), "must be an object")
    elif metadata is not None and namespace and metadata.get("namespace") not in (None, "", namespace):
        yield Problem(
            (*place, "manifest", "metadata", "namespace"),
            f"an action acts in its Rule's namespace, {namespace}, and in no other; remove this field",
        )


def _emitted(action: Mapping[str, Any], place: Path) -> Iterator[Problem]:
    """What is wrong with an event whatever expressions come to."""
    name, payload = action.get("name"), action.get("payload")
    if isinstance(name, str) and "${" not in name and not re.match(NAME_PATTERN.removesuffix("$") + r"\Z", name):
        yield Problem((*place, "name"), "is no name of an event: write letters, digits, and - . _ between them")
    if payload is not None and not isinstance(payload, Mapping) and not (isinstance(payload, str) and "${" in payload):
        yield Problem((*place, "payload"), "must be an object, or one expression whose result is an object")


def _at(path: Path, text: str, column: int, message: str) -> Problem:
    """A problem at a place within a text; the column counts from the beginning of the text."""
    before = text[: max(0, column - 1)]
    return Problem(path, message, line=before.count("\n") + 1, column=len(before) - (before.rfind("\n") + 1) + 1)


def _unknown_field(used: Used) -> Problem | None:
    """``event.paylod``: a field that no event has. Values below ``payload`` and ``data`` can be anything."""
    found = tokens(used.source)
    texts = [token.text for token in found]
    for index, token in enumerate(found):
        if (index and texts[index - 1] in {".", ".?"}) or texts[index + 1 : index + 2] != ["."]:
            continue
        fields, name = {"event": (EVENT_FIELDS, "event"), "response": (RESPONSE_FIELDS, "response")}.get(
            token.text, ((), "")
        )
        at = index + 2
        if token.text not in used.variables or not fields or at >= len(found) or _bound(texts, token.text):
            continue
        if texts[at] == "rule" and texts[at + 1 : at + 2] == ["."] and at + 2 < len(found):
            fields, name, at = RULE_FIELDS, "event.rule", at + 2
        if texts[at] not in fields:
            message = f"{name} has no field {texts[at]}; expected one of: {', '.join(fields)}"
            return _at(used.path, used.text, used.column + found[at].start, message)
    return None


def _bound(texts: Sequence[str], name: str) -> bool:
    """Whether a macro gives the name another meaning: ``list.all(event, …)``."""
    return any(texts[at : at + 3] == ["(", name, ","] for at in range(len(texts)))


def _problem(used: Used, error: ExpressionError) -> Problem:
    return _at(used.path, used.text, used.column + max(0, error.column - 1), error.reason)


def check(spec: Mapping[str, Any], *, namespace: str = "") -> list[Problem]:
    """All that is wrong with a Rule's conditions and actions. Compiles in this process: for files of one's own."""
    used, problems = expressions_of(spec, namespace=namespace)
    for each in used:
        try:
            Expression(each.source, variables=each.variables, condition=each.condition)
        except ExpressionError as error:
            problems.append(_problem(each, error))
    return sorted(problems, key=lambda problem: _order(problem.path))


async def check_in(evaluator: Evaluator, spec: Mapping[str, Any], *, namespace: str = "") -> list[Problem]:
    """All that is wrong with a Rule's conditions and actions. Compiles in the evaluator's processes, with their bounds."""
    used, problems = expressions_of(spec, namespace=namespace)
    for variables in (EVENT, RESPONSE, OBJECT):
        group = [each for each in used if each.variables == variables]
        wanted = tuple(dict.fromkeys((each.source, each.condition) for each in group))
        found = dict(zip(wanted, await evaluator.check(Program(variables, wanted)), strict=True)) if wanted else {}
        for each in group:
            if (error := found[each.source, each.condition]) is not None:
                problems.append(_problem(each, error))
    return sorted(problems, key=lambda problem: _order(problem.path))


def _order(path: Path) -> list[tuple[int, str]]:
    return [(part, "") if isinstance(part, int) else (-1, part) for part in path]
