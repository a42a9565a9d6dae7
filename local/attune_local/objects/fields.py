"""How objects change: merge patches (RFC 7396), server-side apply, and who owns which field. Pure; arguments are not changed.

Lists count as one value here, also those that Kubernetes merges by key: every list that our programs apply has one owner.
"""

from collections.abc import Mapping
from typing import Any, Final

#: Parts of an object that are no fields of anybody's: Kubernetes keeps them itself, or they say which object it is.
_UNOWNED: Final = frozenset({"apiVersion", "kind", "status"})
_OWNED_METADATA: Final = ("labels", "annotations", "ownerReferences")


def merged(value: Any, patch: Any) -> Any:
    """``value`` after a JSON merge patch: null removes a key, objects merge, everything else replaces."""
    if not isinstance(patch, Mapping):
        return patch
    result = dict(value) if isinstance(value, Mapping) else {}
    for key, change in patch.items():
        if change is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), change)
    return result


def overlaid(value: Any, applied: Any) -> Any:
    """``value`` with everything that ``applied`` says."""
    if not isinstance(applied, Mapping) or not isinstance(value, Mapping):
        return applied
    result = dict(value)
    for key, wanted in applied.items():
        result[key] = overlaid(result.get(key), wanted)
    return result


def without_dropped(value: Any, before: Any, now: Any) -> Any:
    """``value`` without the fields that its applier said ``before`` and does not say ``now``."""
    if not isinstance(value, Mapping) or not isinstance(before, Mapping):
        return value
    result = dict(value)
    for key, said in before.items():
        if key not in result:
            continue
        if isinstance(now, Mapping) and key in now:
            result[key] = without_dropped(result[key], said, now[key])
        elif isinstance(said, Mapping) and isinstance(result[key], Mapping):
            # Others may have put something beside what goes.
            left = without_dropped(result[key], said, {})
            if left:
                result[key] = left
            else:
                del result[key]
        else:
            del result[key]
    return result


def difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """The fields about which an applier says something else ``now`` than ``before``."""
    result: dict[str, Any] = {}
    for key, value in now.items():
        if key not in before:
            result[key] = value
        elif isinstance(value, Mapping) and isinstance(before[key], Mapping):
            if inner := difference(before[key], value):
                result[key] = inner
        elif value != before[key] or type(value) is not type(before[key]):
            result[key] = value
    return result


def content(body: Mapping[str, Any]) -> dict[str, Any]:
    """What of an object can be owned: everything but its identity, its status, and what the server keeps."""
    result = {key: value for key, value in body.items() if key not in _UNOWNED and key != "metadata"}
    metadata = body.get("metadata") or {}
    owned = {key: metadata[key] for key in _OWNED_METADATA if metadata.get(key)}
    return {**result, "metadata": owned} if owned else result


def field_set(value: Any) -> dict[str, Any]:
    """The fields of a value as ``managedFields`` names them (``fieldsV1``)."""
    if not isinstance(value, Mapping):
        return {}
    return {f"f:{key}": field_set(item) for key, item in value.items()}


def without_fields(owned: Mapping[str, Any], taken: Mapping[str, Any]) -> dict[str, Any]:
    """``owned`` fields without those that another has ``taken`` over."""
    result: dict[str, Any] = {}
    for key, inner in owned.items():
        if key not in taken:
            result[key] = inner
        elif inner and taken[key]:
            left = without_fields(inner, taken[key])
            if left:
                result[key] = left
    return result


def labels_match(body: Mapping[str, Any], selector: str) -> bool:
    """Whether an object's labels fit a selector of equalities and names (``a=b,c``), as our programs write them.

    Raises:
        ValueError: the selector is of another kind.
    """
    labels = body["metadata"].get("labels") or {}
    for term in filter(None, (part.strip() for part in selector.split(","))):
        if any(sign in term for sign in ("!", " in ", " notin ", "(")):
            raise ValueError(f"only terms like name=value and name are understood, not {term!r}")
        key, equals, value = term.replace("==", "=").partition("=")
        if key not in labels or (equals and labels[key] != value):
            return False
    return True
