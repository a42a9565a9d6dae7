"""The metadata of an object, judged as an API server judges it before it stores anything.

Source: Kubernetes 1.35, ``k8s.io/apimachinery/pkg/api/validation/objectmeta.go`` and ``pkg/util/validation``. Names, labels and
annotations are limited there in bytes, so they are here.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from attune_local.admission.violation import FieldPath, Violation

NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*", re.ASCII)
LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", re.ASCII)
_KEY_NAME: Final = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_LONGEST_NAME: Final = 253
_LONGEST_LABEL: Final = 63
_MOST_ANNOTATIONS: Final = 256 * 1024
_ORPHAN: Final = "orphan"
_FOREGROUND: Final = "foregroundDeletion"

_NAME_RULE: Final = "use lowercase letters, digits, '-' and '.', with a letter or digit at both ends"
_LABEL_RULE: Final = "use lowercase letters, digits and '-', with a letter or digit at both ends"
_KEY_RULE: Final = "use letters, digits, '-', '_' and '.', with a letter or digit at both ends"


def size(text: str) -> int:
    """Bytes of the text in UTF-8. Lone surrogates, which JSON can hold, count as Go writes them."""
    return len(text.encode(errors="replace"))


def name_problem(name: str) -> str | None:
    """Why an object cannot have this name (RFC 1123 subdomain); None when it can."""
    if size(name) > _LONGEST_NAME:
        return f"must have at most {_LONGEST_NAME} characters"
    return None if NAME.fullmatch(name) else f"{shortened(name)} is not a valid name; {_NAME_RULE}"


def label_problem(name: str) -> str | None:
    """Why a Namespace cannot have this name (RFC 1123 label); None when it can."""
    if size(name) > _LONGEST_LABEL:
        return f"must have at most {_LONGEST_LABEL} characters"
    return None if LABEL.fullmatch(name) else f"{shortened(name)} is not a valid name; {_LABEL_RULE}"


def key_problem(key: str) -> str | None:
    """Why a label, an annotation or a finalizer cannot be called this; None when it can."""
    prefix, slash, name = key.rpartition("/")
    if slash and "/" in prefix:
        return "must not contain more than one '/'"
    if slash and (problem := "must not be empty" if not prefix else name_problem(prefix)):
        return f"the part before '/' {problem}" if problem.startswith("must") else problem
    if size(name) > _LONGEST_LABEL:
        return f"the name must have at most {_LONGEST_LABEL} characters"
    return None if _KEY_NAME.fullmatch(name) else f"{shortened(name)} is not a valid name; {_KEY_RULE}"


def value_problem(value: str) -> str | None:
    """Why a label cannot have this value; None when it can."""
    if size(value) > _LONGEST_LABEL:
        return f"must have at most {_LONGEST_LABEL} characters"
    if not value or _KEY_NAME.fullmatch(value):
        return None
    return f"{shortened(value)} is not a valid label value; {_KEY_RULE}"


def shortened(value: Any) -> str:
    """A value as a message shows it."""
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 80 else text[:79] + "…"


def violations(metadata: Any, *, namespaced: bool, label_name: bool = False) -> Iterator[Violation]:
    """What an API server refuses in an object's metadata.

    Args:
        metadata: the value of the field; null fields count as left out.
        namespaced: whether objects of this kind are in a namespace. It may be left out here: it has a default.
        label_name: the name must be a label (63 characters, no dots), as a Namespace's.
    """
    if not isinstance(metadata, Mapping):
        yield Violation(("metadata",), "is required" if metadata is None else "must be an object")
        return
    wrong = list(wrong_types(metadata))
    if wrong:
        yield from wrong
        return
    given = {key: value for key, value in metadata.items() if value is not None}
    yield from _name_violations(given, label_problem if label_name else name_problem)
    # An API server passes over the namespace of a kind that is in none.
    namespace = given.get("namespace", "") if namespaced else ""
    if namespace and (problem := label_problem(namespace)):
        yield Violation(("metadata", "namespace"), problem)
    for key, value in given.get("labels", {}).items():
        path: FieldPath = ("metadata", "labels", key)
        if problem := key_problem(key):
            yield Violation(path, f"the key is wrong: {problem}")
        if problem := value_problem(value or ""):
            yield Violation(path, problem)
    yield from _annotation_violations(given.get("annotations", {}))
    yield from _reference_violations(given)


#: Written by the server alone.
_OF_THE_SERVER: Final = frozenset(
    {"selfLink", "uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp"}
    | {"deletionGracePeriodSeconds", "managedFields"}
)


def stored(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata as it is kept: without nulls, without empty fields, and without what the server alone writes."""
    kept: dict[str, Any] = {}
    for key, value in metadata.items():
        if not value or key in _OF_THE_SERVER:
            continue
        if key in ("labels", "annotations"):
            kept[key] = {name: text or "" for name, text in value.items()}
        elif key == "ownerReferences":
            kept[key] = [_owner(item or {}) for item in value]
        elif key == "finalizers":
            kept[key] = [item or "" for item in value]
        else:
            kept[key] = value
    return kept


def _owner(item: Mapping[str, Any]) -> dict[str, Any]:
    flags = {key: item[key] for key in ("controller", "blockOwnerDeletion") if item.get(key) is not None}
    return {**{key: item.get(key) or "" for key in ("apiVersion", "kind", "name", "uid")}, **flags}


def _name_violations(metadata: Mapping[str, Any], problem_of: Callable[[str], str | None]) -> Iterator[Violation]:
    name, prefix = metadata.get("name", ""), metadata.get("generateName", "")
    if prefix and (problem := problem_of(_masked(prefix))):
        yield Violation(("metadata", "generateName"), problem)
    if name and (problem := problem_of(name)):
        yield Violation(("metadata", "name"), problem)
    if not name and not prefix:
        yield Violation(("metadata", "name"), "is required")


def _masked(prefix: str) -> str:
    """A prefix may end with '-', since more follows."""
    return f"{prefix[:-2]}a" if len(prefix) > 1 and prefix.endswith("-") else prefix


def _annotation_violations(annotations: Mapping[str, str | None]) -> Iterator[Violation]:
    for key in annotations:
        if problem := key_problem(key.lower()):
            yield Violation(("metadata", "annotations", key), f"the key is wrong: {problem}")
    if sum(size(key) + size(value or "") for key, value in annotations.items()) > _MOST_ANNOTATIONS:
        yield Violation(("metadata", "annotations"), "must have at most 256 KiB in all")


def _reference_violations(metadata: Mapping[str, Any]) -> Iterator[Violation]:
    controllers = 0
    for index, owner in enumerate(metadata.get("ownerReferences", ())):
        path: FieldPath = ("metadata", "ownerReferences", index)
        owner = owner or {}
        for key in ("apiVersion", "kind", "name", "uid"):
            if not owner.get(key) or (key == "apiVersion" and owner[key].endswith("/")):
                yield Violation((*path, key), "must not be empty")
        if (owner.get("apiVersion"), owner.get("kind")) == ("v1", "Event"):
            yield Violation(path, "an Event cannot be an owner")
        controllers += bool(owner.get("controller"))
    if controllers > 1:
        yield Violation(("metadata", "ownerReferences"), "only one owner may be the controller")
    finalizers = metadata.get("finalizers", ())
    for index, finalizer in enumerate(finalizers):
        if problem := key_problem(finalizer or ""):
            yield Violation(("metadata", "finalizers", index), problem)
    if {_ORPHAN, _FOREGROUND} <= set(finalizers):
        yield Violation(("metadata", "finalizers"), f"{_ORPHAN} and {_FOREGROUND} exclude each other")


# -- types


def _is_time(value: Any) -> bool:
    """A time as Go reads it: RFC 3339 with a zone. An empty text is no time, and an API server takes null only."""
    if not isinstance(value, str) or not re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d([.,]\d+)?(Z|[+-]\d\d:\d\d)", value
    ):
        return False
    try:
        datetime.fromisoformat(re.sub(r"[.,]\d+", "", value))
    except ValueError:
        return False
    return True


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


_TEXT: Final = ("must be a text", lambda value: isinstance(value, str))
_FLAG: Final = ("must be true or false", lambda value: isinstance(value, bool))
_WHOLE: Final = ("must be a whole number", _is_int)
_TIME: Final = ("must be a time like 2026-11-23T12:00:00Z", _is_time)
_OBJECT: Final = ("must be an object", lambda value: isinstance(value, Mapping))
_Type = tuple[str, Callable[[Any], bool]]

FIELDS: Final[Mapping[str, _Type]] = {
    "name": _TEXT, "generateName": _TEXT, "namespace": _TEXT, "selfLink": _TEXT, "uid": _TEXT, "resourceVersion": _TEXT,
    "generation": _WHOLE, "creationTimestamp": _TIME, "deletionTimestamp": _TIME, "deletionGracePeriodSeconds": _WHOLE,
    "labels": _OBJECT, "annotations": _OBJECT,
    "ownerReferences": ("must be a list", lambda value: isinstance(value, list)),
    "finalizers": ("must be a list", lambda value: isinstance(value, list)),
    "managedFields": ("must be a list", lambda value: isinstance(value, list)),
}  # fmt: skip
_OWNER_FIELDS: Final[Mapping[str, _Type]] = {
    "apiVersion": _TEXT, "kind": _TEXT, "name": _TEXT, "uid": _TEXT, "controller": _FLAG, "blockOwnerDeletion": _FLAG,
}  # fmt: skip
_MANAGED_FIELDS: Final[Mapping[str, _Type]] = {
    "manager": _TEXT, "operation": _TEXT, "apiVersion": _TEXT, "time": _TIME, "fieldsType": _TEXT, "fieldsV1": _OBJECT,
    "subresource": _TEXT,
}  # fmt: skip


def wrong_types(metadata: Any) -> Iterator[Violation]:
    """Fields whose value is of another type than theirs. An API server cannot read such an object at all (400, not 422)."""
    if not isinstance(metadata, Mapping):
        if metadata is not None:
            yield Violation(("metadata",), "must be an object")
        return
    yield from _typed(metadata, FIELDS, ("metadata",))
    for part in ("labels", "annotations"):
        found = metadata.get(part)
        for key, value in found.items() if isinstance(found, Mapping) else ():
            if value is not None and not isinstance(value, str):
                quoted = f"; write it in quotes: {str(value).lower()!r}" if isinstance(value, int | float) else ""
                yield Violation(("metadata", part, key), f"must be a text{quoted}")
    for part, fields in (("ownerReferences", _OWNER_FIELDS), ("managedFields", _MANAGED_FIELDS)):
        found = metadata.get(part)
        for index, item in enumerate(found if isinstance(found, list) else ()):
            path: FieldPath = ("metadata", part, index)
            if isinstance(item, Mapping):
                yield from _typed(item, fields, path)
            elif item is not None:
                yield Violation(path, "must be an object")
    found = metadata.get("finalizers")
    for index, item in enumerate(found if isinstance(found, list) else ()):
        if item is not None and not isinstance(item, str):
            yield Violation(("metadata", "finalizers", index), "must be a text")


def _typed(value: Mapping[str, Any], fields: Mapping[str, _Type], path: FieldPath) -> Iterator[Violation]:
    for key, (message, fits) in fields.items():
        if value.get(key) is not None and not fits(value[key]):
            yield Violation((*path, key), message)


def unknown_fields(metadata: Any) -> Iterator[Violation]:
    """Fields that no object's metadata has. ``kubectl`` refuses them; other clients have them dropped."""
    if isinstance(metadata, Mapping):
        for key in metadata:
            if key not in FIELDS:
                known = ", ".join(sorted(FIELDS))
                yield Violation(("metadata", key), f"unknown field; expected one of: {known}")
        for part, fields in (("ownerReferences", _OWNER_FIELDS), ("managedFields", _MANAGED_FIELDS)):
            found = metadata.get(part)
            for index, item in enumerate(found if isinstance(found, list) else ()):
                for key in item if isinstance(item, Mapping) else ():
                    if key not in fields:
                        message = f"unknown field; expected one of: {', '.join(sorted(fields))}"
                        yield Violation(("metadata", part, index, key), message)
