"""A manifest's documents, each judged by its kind."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Final

from attune_contract import names
from attune_local.admission.definition import Fault, definitions
from attune_local.admission.documents import Document, FieldPath, Unreadable, read, split

_SUBDOMAIN: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_DEFAULT_NAMESPACE: Final = "default"
#: Kinds of Kubernetes' own that Sensors and Rules lean on: taken as they are.
_PLAIN: Final = {("v1", "Namespace"), ("v1", "Secret"), ("v1", "ConfigMap")}


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


def shown(path: FieldPath) -> str:
    """A field's path as Kubernetes writes it: ``spec.triggerTypes[0].name``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def check_text(text: str, *, source: str, namespace: str = _DEFAULT_NAMESPACE) -> Result:
    """Judge every document of a file. One that is wrong does not keep the others from being taken.

    Args:
        text: the file.
        source: its name, for messages.
        namespace: of objects that name none, as kubectl's ``--namespace``.
    """
    result = Result()
    for offset, part in split(text):
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
        for document in read(text):
            for body, inside in _objects(document):
                _check(body, document, inside, result=result, source="", namespace=namespace)
    except Unreadable as error:
        result.problems.append(Problem(source="", line=error.line, field="", message=str(error)))
    return result


def _objects(document: Document) -> Iterator[tuple[Any, FieldPath]]:
    """The document's object, or the objects of a List."""
    value = document.value
    if isinstance(value, dict) and value.get("kind") == "List" and isinstance(value.get("items"), list):
        for index, item in enumerate(value["items"]):
            yield item, ("items", index)
    else:
        yield value, ()


def _check(body: Any, document: Document, inside: FieldPath, *, result: Result, source: str, namespace: str) -> None:
    def complain(fault: Fault) -> None:
        line = document.line_of((*inside, *fault.path))
        result.problems.append(Problem(source=source, line=line, field=shown(fault.path), message=fault.message))

    if not isinstance(body, dict):
        complain(Fault((), "this is no Kubernetes object: it must have apiVersion, kind and metadata"))
        return
    version, kind = body.get("apiVersion"), body.get("kind")
    if not isinstance(version, str) or not isinstance(kind, str):
        complain(Fault((), "this is no Kubernetes object: it must have apiVersion and kind"))
        return
    metadata = body.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    ours = version.partition("/")[0] == names.GROUP
    if not ours and (version, kind) not in _PLAIN:
        result.skipped.append(Skipped(source=source, line=document.line_of(inside), kind=kind, name=str(name or "")))
        return
    if ours and (version != names.API_VERSION or kind not in definitions()):
        known = " and ".join(sorted(definitions()))
        complain(Fault(("kind",), f"there is no {kind} in {version}; {names.API_VERSION} has {known}"))
        return
    faults = list(_metadata_faults(metadata))
    if faults:
        for fault in faults:
            complain(fault)
        return
    assert isinstance(metadata, dict)  # noqa: S101 - for the type checker: else there were faults
    filled = {**body, "metadata": {**metadata}}
    if kind != "Namespace":
        filled["metadata"].setdefault("namespace", namespace)
    if ours:
        filled, found = definitions()[kind].admit(filled)
        if found:
            for fault in found:
                complain(fault)
            return
    result.objects.append(Checked(object=filled, source=source, document=document, inside=inside))


def _metadata_faults(metadata: Any) -> Iterator[Fault]:
    if not isinstance(metadata, dict):
        yield Fault(("metadata",), "is required")
        return
    name, namespace = metadata.get("name"), metadata.get("namespace")
    if not isinstance(name, str) or not name:
        yield Fault(("metadata", "name"), "is required")
    elif not _SUBDOMAIN.fullmatch(name) or len(name) > 253:
        yield Fault(
            ("metadata", "name"),
            f"{name!r} is no name: small letters, digits, '-' and '.', beginning and ending with a letter or digit",
        )
    if namespace is not None and (not isinstance(namespace, str) or not _LABEL.fullmatch(namespace)):
        yield Fault(
            ("metadata", "namespace"), f"{namespace!r} is no namespace: small letters, digits and '-', at most 63"
        )
    for part in ("labels", "annotations"):
        found = metadata.get(part)
        if found is None:
            continue
        if not isinstance(found, dict):
            yield Fault(("metadata", part), "must be an object")
            continue
        for key, value in found.items():
            if not isinstance(value, str):
                yield Fault(("metadata", part, key), f"must be a text; write it in quotes: {str(value).lower()!r}")


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
