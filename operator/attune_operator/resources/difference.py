"""Whether an object is what the operator applied, and who else has changed it.

Kubernetes fills in defaults, so an object always has more than was applied. It is as desired if everything that was applied
is there with the same value, and nobody else owns a field of it (``metadata.managedFields``): a field that somebody *added*
would survive server-side apply for ever.
"""

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, Final

from attune_contract import names

#: The fields with an object's content. The rest (status, other people's annotations) is not the operator's.
_CONTENT: Final = ("spec", "data", "stringData", "binaryData", "automountServiceAccountToken")
#: On a Deployment: how many pods its Sensor asks for, whatever others make of it.
REPLICAS: Final = f"{names.GROUP}/replicas"
#: `kubectl rollout restart` writes this, and may.
_TOLERATED: Final = ("f:template", "f:metadata", "f:annotations", "f:kubectl.kubernetes.io/restartedAt")

_QUANTITY: Final = re.compile(
    r"(?P<number>[+-]?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]{1,2})?)(?P<suffix>[numkMGTPE]|[KMGTPE]i)?"
)
_SUFFIXES: Final = {
    "": Decimal(1),
    **{suffix: Decimal(10) ** power for suffix, power in zip("num", (-9, -6, -3), strict=True)},
    **{suffix: Decimal(1000) ** power for power, suffix in enumerate("kMGTPE", 1)},
    **{f"{suffix}i": Decimal(1024) ** power for power, suffix in enumerate("KMGTPE", 1)},
}


def covers(found: Any, desired: Any) -> bool:
    """Whether everything in ``desired`` is in ``found``. Lists must have the same length: their defaults are inside items."""
    if isinstance(desired, Mapping):
        if not isinstance(found, Mapping):
            return not desired and found is None
        return all(covers(found.get(key), value) for key, value in desired.items())
    if isinstance(desired, list):
        if not isinstance(found, list):
            return not desired and found is None
        return len(found) == len(desired) and all(map(covers, found, desired))
    return bool(found == desired) or _same_quantity(found, desired)


def quantity(value: Any) -> Decimal | None:
    """A Kubernetes quantity (``500m``, ``1Gi``, ``0.5``) as a number; None if it is not one."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    if not (match := _QUANTITY.fullmatch(str(value))):
        return None
    return Decimal(match["number"]) * _SUFFIXES[match["suffix"] or ""]


def _same_quantity(found: Any, desired: Any) -> bool:
    """Kubernetes rewrites quantities: ``0.5`` becomes ``500m``, and ``1`` becomes ``"1"``."""
    if type(found) is type(desired) and not isinstance(found, str):
        return False
    amount = quantity(desired)
    return amount is not None and amount == quantity(found)


def _leaves(fields: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    inner = {key: value for key, value in fields.items() if key != "."}
    if not inner:
        yield path
    for key, value in inner.items():
        yield from _leaves(value if isinstance(value, Mapping) else {}, (*path, key))


def _concerns_content(entry: Mapping[str, Any]) -> bool:
    if _is_scale(entry):
        return False  # see scaled()
    fields = entry.get("fieldsV1") or {}
    for part in _CONTENT:
        if (owned := fields.get(f"f:{part}")) is None:
            continue
        if any(leaf != _TOLERATED for leaf in _leaves(owned)):
            return True
    return False


def foreign_managers(found: Mapping[str, Any]) -> tuple[str, ...]:
    """Return who else owns a field of the object's content (names of field managers, sorted)."""
    managers = {
        str(entry.get("manager", ""))
        for entry in found["metadata"].get("managedFields") or ()
        if entry.get("manager") != names.FIELD_MANAGER and not _is_status(entry) and _concerns_content(entry)
    }
    return tuple(sorted(managers))


def foreign_fields(found: Mapping[str, Any]) -> tuple[str, ...]:
    """Return which fields of the content others own, by their first two names: ``spec.template``."""
    return tuple(
        sorted(
            {
                ".".join((content, *(part.removeprefix("f:") for part in leaf[:1])))
                for entry in found["metadata"].get("managedFields") or ()
                if entry.get("manager") != names.FIELD_MANAGER and not _is_status(entry) and _concerns_content(entry)
                for content in _CONTENT
                for leaf in _leaves((entry.get("fieldsV1") or {}).get(f"f:{content}") or {})
                if (entry.get("fieldsV1") or {}).get(f"f:{content}") is not None and leaf != _TOLERATED
            }
        )
    )


def scaled(found: Mapping[str, Any] | None, desired: dict[str, Any]) -> dict[str, Any]:
    """Return the desired Deployment, with the number of pods that somebody set through the subresource ``scale``.

    That is how autoscalers and ``kubectl scale`` do it, and they would do it again. It holds until the Sensor asks for
    another number. No pods at all is not taken over: a Sensor without pods misses what occurs.
    """
    if found is None or not any(map(_is_scale, found["metadata"].get("managedFields") or ())):
        return desired
    replicas = (found.get("spec") or {}).get("replicas")
    asked, asks = ((body["metadata"].get("annotations") or {}).get(REPLICAS) for body in (found, desired))
    if not replicas or not asks or asked != asks or asks == "0":
        return desired
    return {**desired, "spec": {**desired["spec"], "replicas": replicas}}


def _is_scale(entry: Mapping[str, Any]) -> bool:
    return entry.get("subresource") == "scale"


def _is_status(entry: Mapping[str, Any]) -> bool:
    return entry.get("subresource") == "status"


def without_foreign_fields(found: Mapping[str, Any], desired: Mapping[str, Any]) -> dict[str, Any]:
    """Return the object that replaces ``found``: what is desired, and nothing that others added.

    Its ``managedFields`` keep our own entries and those of status writers; other managers' entries go with their fields.
    """
    old = found["metadata"]
    metadata = {
        **{key: old[key] for key in ("name", "namespace", "uid", "resourceVersion", "finalizers") if key in old},
        "labels": {**(old.get("labels") or {}), **(desired["metadata"].get("labels") or {})},
        "annotations": {**(old.get("annotations") or {}), **(desired["metadata"].get("annotations") or {})},
        "ownerReferences": desired["metadata"]["ownerReferences"],
        "managedFields": [
            entry
            for entry in old.get("managedFields") or ()
            if entry.get("manager") == names.FIELD_MANAGER or _is_status(entry) or not _concerns_content(entry)
        ],
    }
    kept = {"status": found["status"]} if "status" in found else {}
    return {**desired, **kept, "metadata": metadata}


def _metadata_covers(found: Mapping[str, Any], desired: Mapping[str, Any]) -> bool:
    owners = found.get("ownerReferences") or ()
    return all(covers(found.get(part) or {}, desired.get(part) or {}) for part in ("labels", "annotations")) and all(
        any(covers(owner, needed) for owner in owners) for needed in desired.get("ownerReferences") or ()
    )


def is_applied(found: Mapping[str, Any], desired: Mapping[str, Any]) -> bool:
    """Whether nothing has to be written."""
    content = {key: value for key, value in desired.items() if key not in ("metadata", "apiVersion", "kind")}
    return (
        covers(found, content)
        and _metadata_covers(found["metadata"], desired["metadata"])
        and not foreign_managers(found)
    )
