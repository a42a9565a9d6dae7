"""Whether an API server would store an object, and as what: the one judge of manifests and of the control API. Pure.

It takes the steps of an API server in its order: read the object (what cannot be read is 400 there), drop or refuse unknown
fields, drop nulls, fill in defaults, and then check what is left (422 there).
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from attune_local.admission import core_kinds
from attune_local.admission import metadata as metadata_rules
from attune_local.admission.definition import definitions
from attune_local.admission.violation import Violation


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What came of one object.

    Attributes:
        stored: the object as it would be kept, without what the server alone writes. Only of use where there is no violation.
        unreadable: why it cannot be read as an object of its kind at all.
        invalid: why it would not be stored.
    """

    stored: dict[str, Any] = field(default_factory=dict)
    unreadable: tuple[Violation, ...] = ()
    invalid: tuple[Violation, ...] = ()

    @property
    def violations(self) -> tuple[Violation, ...]:
        """All of them."""
        return self.unreadable + self.invalid


def knows(api_version: str, kind: str) -> bool:
    """Whether objects of this kind can be judged: Sensors, Rules, and the kinds that they refer to."""
    return (api_version == "v1" and kind in core_kinds.KINDS) or (
        kind in definitions() and definitions()[kind].api_version == api_version
    )


def judge(body: Mapping[str, Any], *, strict: bool = True) -> Judgement:
    """Judge an object of a kind that is known (:func:`knows`). It is not changed.

    Args:
        body: the object. Its namespace must have been filled in, where its kind has one.
        strict: unknown fields are refused, as ``kubectl`` asks for. Otherwise they are dropped.
    """
    kind = str(body["kind"])
    value = copy.deepcopy(dict(body))
    metadata = value.get("metadata")
    wrong = list(metadata_rules.wrong_types(metadata))
    unknown = list(metadata_rules.unknown_fields(metadata))
    for violation in unknown:
        _remove(value, violation)
    cluster_wide = kind == "Namespace"
    rules = metadata_rules.violations(metadata, namespaced=not cluster_wide, label_name=cluster_wide)
    invalid = [] if wrong else list(rules)
    if isinstance(metadata, dict) and not wrong:
        value["metadata"] = metadata_rules.stored(metadata)
    if kind in definitions():
        unknown += definitions()[kind].prune_unknown(value)
        invalid += definitions()[kind].admit(value, with_rules=not (wrong or invalid))
    else:
        of_the_kind = list(core_kinds.wrong_types(kind, value))
        more = list(core_kinds.unknown_fields(kind, value))
        for violation in more:
            _remove(value, violation)
        unknown += more
        wrong += of_the_kind
        if not wrong and isinstance(metadata, dict):
            value = core_kinds.stored(kind, value)
            invalid += core_kinds.violations(kind, value, generation=metadata.get("generation"))
    return Judgement(stored=value, unreadable=(*wrong, *(unknown if strict else ())), invalid=tuple(invalid))


def _remove(value: dict[str, Any], violation: Violation) -> None:
    *path, last = violation.path
    found: Any = value
    for key in path:
        if not isinstance(found, dict | list):
            return
        found = found.get(key) if isinstance(found, dict) else None
    if isinstance(found, dict):
        found.pop(last, None)
