"""A manifest's documents, each judged by its kind."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Final

from attune_contract import names
from attune_local.admission.definition import definitions
from attune_local.admission.documents import Document, DocumentError, read, split
from attune_local.admission.judge import judge, knows
from attune_local.admission.violation import FieldPath, Violation, dotted

_TEMPLATE: Final = "; a Helm template has to be rendered first: helm template NAME CHART | attune lint -"
_DEFAULT_NAMESPACE: Final = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Why an object is not taken. ``field`` is like ``spec.trigger.type``; empty when it is about the whole."""

    source: str
    line: int
    field: str
    message: str

    def __str__(self) -> str:
        where = f"{self.source}:{self.line}: "
        return where + (f"{self.field}: {self.message}" if self.field else self.message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """An object that is none of ours."""

    source: str
    line: int
    kind: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """An object that is taken, as it would be stored: with defaults and a namespace, without a status.

    It is shared between results, and not to be changed.
    """

    object: dict[str, Any]
    source: str
    document: Document = field(repr=False)
    inside: FieldPath = ()
    offset: int = 0

    @property
    def line(self) -> int:
        """Where it begins."""
        return self.line_of(())

    @property
    def key(self) -> tuple[str, str, str]:
        """Kind, namespace (empty for a Namespace) and name."""
        metadata = self.object["metadata"]
        return self.object["kind"], metadata.get("namespace", ""), metadata["name"]

    def line_of(self, path: FieldPath) -> int:
        """The line of a field, like ``("spec", "trigger", "type")``."""
        return self.offset + self.document.line_of((*self.inside, *path))


@dataclass(slots=True, kw_only=True)
class Result:
    """What a file holds."""

    objects: list[Checked] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)


def check_text(text: str, *, source: str, namespace: str = _DEFAULT_NAMESPACE) -> Result:
    """Judge every document of a file. One that is wrong does not keep the others from being taken.

    Args:
        text: the file.
        source: its name, for messages.
        namespace: of objects that name none, as kubectl's ``--namespace``.
    """
    result = Result()
    for offset, part, problem in split(text):
        if problem:
            result.problems.append(Problem(source=source, line=offset + 1, field="", message=problem))
        found = _check_part(part, namespace)
        result.objects += [replace(checked, source=source, offset=offset) for checked in found.objects]
        result.problems += [replace(said, source=source, line=said.line + offset) for said in found.problems]
        result.skipped += [replace(skipped, source=source, line=skipped.line + offset) for skipped in found.skipped]
    _repeated(result)
    return result


@lru_cache(maxsize=4096)
def _check_part(text: str, namespace: str) -> Result:
    """What one part of a file holds, wherever it stands: of a file that was edited, most parts are as they were."""
    result = Result()
    try:
        document = read(text)
    except DocumentError as error:
        hint = _TEMPLATE if "{{" in text else ""
        result.problems.append(Problem(source="", line=error.line, field="", message=f"{error}{hint}"))
        return result
    if document is None:
        return result
    for body, inside in _objects(document):
        try:
            _check(body, document, inside, result=result, source="", namespace=namespace)
        except Exception as error:
            # Whatever a document does to us, it does to itself alone.
            message = f"this cannot be judged ({type(error).__name__}: {error}); please report it"
            result.problems.append(Problem(source="", line=document.line_of(inside), field="", message=message[:500]))
    return result


def _objects(document: Document) -> Iterator[tuple[Any, FieldPath]]:
    """The document's object, or the objects of a list (``kind: List``, ``RuleList``), as kubectl takes it apart."""
    value = document.value
    if not isinstance(value, dict) or not isinstance(value.get("items"), list):
        yield value, ()
        return
    version, kind = value.get("apiVersion"), str(value.get("kind") or "").removesuffix("List")
    for index, item in enumerate(value["items"]):
        if isinstance(item, dict) and kind and not item.get("kind") and not item.get("apiVersion"):
            item = {**item, "apiVersion": version, "kind": kind}
        yield item, ("items", index)


def _check(body: Any, document: Document, inside: FieldPath, *, result: Result, source: str, namespace: str) -> None:
    def complain(violation: Violation) -> None:
        line = document.line_of((*inside, *violation.path))
        found = Problem(source=source, line=line, field=dotted(violation.path), message=violation.message)
        result.problems.append(found)

    if not isinstance(body, dict):
        complain(Violation((), "this is no Kubernetes object: it must have apiVersion, kind and metadata"))
        return
    version, kind = body.get("apiVersion"), body.get("kind")
    if not isinstance(version, str) or not isinstance(kind, str):
        complain(Violation((), "this is no Kubernetes object: it must have apiVersion and kind"))
        return
    metadata = body.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    if not knows(version, kind):
        if version.partition("/")[0] != names.GROUP:
            result.skipped.append(
                Skipped(source=source, line=document.line_of(inside), kind=kind, name=str(name or ""))
            )
            return
        known = " and ".join(sorted(definitions()))
        complain(Violation(("kind",), f"there is no {kind} in {version}; {names.API_VERSION} has {known}"))
        return
    filled = {**body}
    if isinstance(metadata, dict):
        filled["metadata"] = {**metadata}
        if kind != "Namespace" and metadata.get("namespace") in (None, ""):
            filled["metadata"]["namespace"] = namespace
        if not metadata.get("name") and metadata.get("generateName"):
            message = "is required; generateName is for kubectl create, not for a file that is applied again"
            complain(Violation(("metadata", "name"), message))
            return
    judgement = judge(filled)
    for violation in judgement.violations:
        complain(violation)
    if not judgement.violations:
        result.objects.append(Checked(object=judgement.stored, source=source, document=document, inside=inside))


def _repeated(result: Result) -> None:
    """The same object twice in one file: the first holds."""
    seen: dict[tuple[str, str, str], Checked] = {}
    for checked in list(result.objects):
        first = seen.setdefault(checked.key, checked)
        if first is not checked:
            result.objects.remove(checked)
            kind, namespace, name = checked.key
            message = f"{kind} {namespace}/{name} stands at line {first.line} of this file already"
            result.problems.append(Problem(source=checked.source, line=checked.line, field="", message=message))
