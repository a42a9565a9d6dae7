"""Namespaces, Secrets and ConfigMaps, judged and stored as an API server judges and stores them.

Source: Kubernetes 1.35, ``pkg/apis/core/validation``, ``pkg/apis/core/v1/{defaults,conversion}.go`` and
``pkg/registry/core/namespace``.
"""

import base64
import binascii
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from attune_local.admission.metadata import key_problem, shortened, size
from attune_local.admission.violation import FieldPath, Violation

_FILE_NAME: Final = re.compile(r"[-._a-zA-Z0-9]+")
_LONGEST_KEY: Final = 253
#: Bytes of all values together.
_MOST_BYTES: Final = 1024 * 1024
STANDARD_FINALIZERS: Final = frozenset({"kubernetes", "orphan", "foregroundDeletion"})

Object = Mapping[str, Any]
_FIELDS: Final[Mapping[str, Mapping[str, str]]] = {
    "Namespace": {"spec": "object", "status": "object"},
    "Secret": {"immutable": "flag", "data": "bytes", "stringData": "texts", "type": "text"},
    "ConfigMap": {"immutable": "flag", "data": "texts", "binaryData": "bytes"},
}
KINDS: Final = frozenset(_FIELDS)
_SIMPLE: Final[Mapping[str, tuple[str, type | tuple[type, ...]]]] = {
    "flag": ("must be true or false", bool),
    "text": ("must be a text", str),
    "object": ("must be an object", dict),
}


def unknown_fields(kind: str, body: Object) -> Iterator[Violation]:
    """Fields that objects of the kind do not have."""
    known = sorted({"apiVersion", "kind", "metadata", *_FIELDS[kind]})
    for key in body:
        if key not in known:
            yield Violation((key,), f"unknown field; expected one of: {', '.join(known)}")
    if kind == "Namespace":
        for part, fields in (("spec", {"finalizers"}), ("status", {"phase", "conditions"})):
            found = body.get(part)
            for key in found if isinstance(found, Mapping) else ():
                if key not in fields:
                    yield Violation((part, key), f"unknown field; expected one of: {', '.join(sorted(fields))}")


def wrong_types(kind: str, body: Object) -> Iterator[Violation]:
    """Fields whose values are of another type than theirs: an API server cannot read the object (400)."""
    for key, wanted in _FIELDS[kind].items():
        value = body.get(key)
        if value is None:
            continue
        if wanted in _SIMPLE:
            message, type_ = _SIMPLE[wanted]
            if not isinstance(value, type_):
                yield Violation((key,), message)
        elif not isinstance(value, Mapping):
            yield Violation((key,), "must be an object")
        else:
            problem = _text_problem if wanted == "texts" else _bytes_problem
            for name, item in value.items():
                if item is not None and (found := problem(item)):
                    yield Violation((key, name), found)
    if kind == "Namespace" and isinstance(body.get("spec"), Mapping):
        yield from _list_of_texts(body["spec"].get("finalizers"), ("spec", "finalizers"))
    if kind == "Namespace" and isinstance(body.get("status"), Mapping):
        for part, type_, message in (("phase", str, "must be a text"), ("conditions", list, "must be a list")):
            if not isinstance(body["status"].get(part), type_ | None):
                yield Violation(("status", part), message)


def _list_of_texts(value: Any, path: FieldPath) -> Iterator[Violation]:
    if value is None:
        return
    if not isinstance(value, list):
        yield Violation(path, "must be a list")
        return
    for index, item in enumerate(value):
        if item is not None and not isinstance(item, str):
            yield Violation((*path, index), "must be a text")


def _text_problem(value: Any) -> str | None:
    if isinstance(value, str):
        return None
    if isinstance(value, int | float):
        return f"must be a text; write it in quotes: {shortened(value)!r}"
    return "must be a text"


def _bytes_problem(value: Any) -> str | None:
    if not isinstance(value, str | list):
        return "must be base64 in a text"
    return None if decoded(value) is not None else "is not base64; write plain text under stringData"


def decoded(text: str | list[Any]) -> bytes | None:
    """The bytes of base64 as Go reads it: padded, line breaks are passed over. None when it is not that.

    Go also reads a list of numbers as bytes.
    """
    if isinstance(text, list):
        numbers = [0 if item is None else item for item in text]
        if all(isinstance(item, int) and not isinstance(item, bool) and 0 <= item < 256 for item in numbers):
            return bytes(numbers)
        return None
    try:
        data = base64.b64decode(text.replace("\n", "").replace("\r", "").encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        return None
    return data


def stored(kind: str, body: Object) -> dict[str, Any]:
    """The object as it is kept: without empty fields, with defaults; a Secret's ``stringData`` is in its ``data``."""
    kept = {key: value for key, value in body.items() if value is not None and (value or key == "immutable")}
    if kind == "Secret":
        data = dict(kept.get("data") or {})
        for key, text in (kept.pop("stringData", None) or {}).items():
            data[key] = base64.b64encode((text or "").encode(errors="replace")).decode("ascii")
        kept = {**kept, "type": kept.get("type") or "Opaque"}
        if data:
            kept["data"] = {key: _canonical(value) for key, value in data.items()}
    elif kind == "ConfigMap":
        if "data" in kept:
            kept["data"] = {key: value or "" for key, value in kept["data"].items()}
        if "binaryData" in kept:
            kept["binaryData"] = {key: _canonical(value) for key, value in kept["binaryData"].items()}
    else:
        metadata = kept.get("metadata") or {}
        labels = {**(metadata.get("labels") or {}), "kubernetes.io/metadata.name": metadata.get("name", "")}
        finalizers = [name or "" for name in (kept.get("spec") or {}).get("finalizers") or ()]
        kept["metadata"] = {**{key: value for key, value in metadata.items() if key != "namespace"}, "labels": labels}
        kept["spec"] = {"finalizers": [*finalizers, *([] if "kubernetes" in finalizers else ["kubernetes"])]}
        kept["status"] = {"phase": "Active"}
    return kept


def _canonical(value: str | list[Any] | None) -> str:
    return base64.b64encode(decoded(value or "") or b"").decode("ascii")


def violations(kind: str, body: Object, *, generation: int | None = None) -> Iterator[Violation]:
    """What an API server does not store (422). The body is as :func:`stored` gives it."""
    if (generation or 0) < 0:
        yield Violation(("metadata", "generation"), "must not be negative")
    for index, finalizer in enumerate(body["metadata"].get("finalizers") or ()):
        if "/" not in finalizer and finalizer not in STANDARD_FINALIZERS:
            yield Violation(("metadata", "finalizers", index), "must be like example.com/name")
    if kind == "Namespace":
        for index, finalizer in enumerate(body["spec"]["finalizers"]):
            if problem := key_problem(finalizer):
                yield Violation(("spec", "finalizers", index), problem)
            elif "/" not in finalizer and finalizer not in STANDARD_FINALIZERS:
                yield Violation(("spec", "finalizers", index), "must be like example.com/name")
        return
    yield from _file_names(body)
    total = sum(size(value) for value in (body.get("data") or {}).values()) if kind == "ConfigMap" else 0
    for field in ("data",) if kind == "Secret" else ("binaryData",):
        total += sum(len(decoded(value) or b"") for value in (body.get(field) or {}).values())
    if total > _MOST_BYTES:
        yield Violation(("data",), "must have at most 1 MiB in all")
    if kind == "Secret" and (rule := _TYPES.get(body["type"])) is not None:
        yield from rule(body)


def _file_names(body: Object) -> Iterator[Violation]:
    for field in ("data", "binaryData"):
        for key in body.get(field) or ():
            if size(key) > _LONGEST_KEY:
                yield Violation((field, key), f"the key must have at most {_LONGEST_KEY} characters")
            elif not _FILE_NAME.fullmatch(key):
                yield Violation((field, key), "the key must be a file name of letters, digits, '-', '_' and '.'")
            if key == "." or key.startswith(".."):
                yield Violation((field, key), "the key must not be '.' or begin with '..'")
            if field == "data" and key in (body.get("binaryData") or ()):
                yield Violation((field, key), "the key is in binaryData, too")


def _needs(*keys: str) -> Callable[[Object], Iterator[Violation]]:
    def rule(body: Object) -> Iterator[Violation]:
        for key in keys:
            if key not in (body.get("data") or ()):
                yield Violation(("data", key), f"is required in a Secret of type {body['type']}")

    return rule


def _needs_json(key: str) -> Callable[[Object], Iterator[Violation]]:
    def rule(body: Object) -> Iterator[Violation]:
        found = (body.get("data") or {}).get(key)
        if found is None:
            yield from _needs(key)(body)
            return
        try:
            holds = json.loads(decoded(found) or b"")
        except (ValueError, RecursionError):
            holds = []
        if holds is not None and not isinstance(holds, dict):
            yield Violation(("data", key), "must be a JSON object")

    return rule


def _basic(body: Object) -> Iterator[Violation]:
    if not {"username", "password"} & set(body.get("data") or ()):
        yield from _needs("username", "password")(body)


def _ssh(body: Object) -> Iterator[Violation]:
    if not (body.get("data") or {}).get("ssh-privatekey"):
        yield Violation(("data", "ssh-privatekey"), f"is required in a Secret of type {body['type']}")


def _account(body: Object) -> Iterator[Violation]:
    name = "kubernetes.io/service-account.name"
    if not (body["metadata"].get("annotations") or {}).get(name):
        yield Violation(("metadata", "annotations", name), f"is required in a Secret of type {body['type']}")


_TYPES: Final[Mapping[str, Callable[[Object], Iterator[Violation]]]] = {
    "kubernetes.io/service-account-token": _account,
    "kubernetes.io/dockercfg": _needs_json(".dockercfg"),
    "kubernetes.io/dockerconfigjson": _needs_json(".dockerconfigjson"),
    "kubernetes.io/basic-auth": _basic,
    "kubernetes.io/ssh-auth": _ssh,
    "kubernetes.io/tls": _needs("tls.crt", "tls.key"),
}
