"""From a rule's parameters to what it watches. An error is a sentence for the rule's author."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from attune_kit.cel.evaluator import Program
from attune_kit.cel.tokens import names
from attune_sensor import InvalidRuleError, Rule

KUBERNETES: Final = "core.kubernetes"
MOST_NAMESPACES: Final = 32
MOST_FIELDS: Final = 32
EVERYWHERE: Final = "*"
#: What expressions may read.
VARIABLES: Final = ("object", "oldObject")
_LONGEST_SELECTOR: Final = 1024

_API_VERSION: Final = re.compile(r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?v[0-9][a-z0-9]*")
_KIND: Final = re.compile(r"[A-Z][A-Za-z0-9]{0,62}")
_NAMESPACE: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_FIELD: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
_KNOWN: Final = frozenset(
    {"apiVersion", "kind", "namespaces", "labelSelector", "fieldSelector", "events", "filter", "payload", "fields"}
)


class ChangeKind(StrEnum):
    """What happened to an object."""

    ADDED = "added"
    MODIFIED = "modified"
    DELETED = "deleted"


class Content(StrEnum):
    """What of the object goes into the payload."""

    OBJECT = "object"
    METADATA = "metadata"


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The changes that one rule asks for. No namespaces means that the kind has none, or that all are meant."""

    api_version: str
    kind: str
    namespaces: tuple[str, ...]
    label_selector: str
    field_selector: str
    changes: frozenset[ChangeKind]
    condition: str | None
    content: Content
    fields: Mapping[str, str]

    @property
    def program(self) -> Program:
        """All expressions: the condition first, where there is one, then the fields in their order."""
        condition = () if self.condition is None else ((self.condition, True),)
        return Program(VARIABLES, (*condition, *((text, False) for text in self.fields.values())))

    @property
    def mentions_old(self) -> bool:
        """Whether the condition reads ``oldObject``."""
        return self.condition is not None and "oldObject" in names(self.condition)

    def where(self, number: int) -> str:
        """Which parameter an expression of the program is."""
        first = 0 if self.condition is None else 1
        return "parameters.filter" if number < first else f"parameters.fields.{list(self.fields)[number - first]}"


def selection_of(rule: Rule) -> Selection:
    """The rule's selection.

    Raises:
        InvalidRuleError: the parameters cannot be used.
    """
    parameters = rule.parameters
    if unknown := sorted(set(parameters) - _KNOWN):
        raise InvalidRuleError(f"unknown parameter {unknown[0]}; expected one of: {', '.join(sorted(_KNOWN))}")
    condition = parameters.get("filter")
    if condition is not None and not isinstance(condition, str):
        raise InvalidRuleError(
            f"parameters.filter is {condition!r}; expected a CEL expression, like object.spec.replicas > 1"
        )
    changes = parameters.get("events", list(ChangeKind))
    if not isinstance(changes, list) or not changes or not all(change in list(ChangeKind) for change in changes):
        raise InvalidRuleError(f"parameters.events is {changes!r}; expected a list of {', '.join(ChangeKind)}")
    content = parameters.get("payload", Content.OBJECT)
    if content not in list(Content):
        raise InvalidRuleError(f"parameters.payload is {content!r}; expected one of: {', '.join(Content)}")
    return Selection(
        api_version=_text(parameters, "apiVersion", _API_VERSION, "apps/v1"),
        kind=_text(parameters, "kind", _KIND, "Deployment"),
        namespaces=_namespaces(parameters.get("namespaces", [rule.state.namespace])),
        label_selector=_selector(parameters, "labelSelector"),
        field_selector=_selector(parameters, "fieldSelector"),
        changes=frozenset(ChangeKind(change) for change in changes),
        condition=condition,
        content=Content(content),
        fields=_fields(parameters.get("fields", {})),
    )


def _text(parameters: Mapping[str, Any], name: str, pattern: re.Pattern[str], example: str) -> str:
    value = parameters.get(name)
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise InvalidRuleError(f"parameters.{name} is {value!r}; expected one like {example}")
    return value


def _namespaces(value: Any) -> tuple[str, ...]:
    good = isinstance(value, list) and 1 <= len(value) <= MOST_NAMESPACES
    if good and value == [EVERYWHERE]:
        return ()
    if not good or not all(isinstance(name, str) and _NAMESPACE.fullmatch(name) for name in value):
        raise InvalidRuleError(
            f'parameters.namespaces is {value!r}; expected 1 to {MOST_NAMESPACES} names of namespaces, or ["*"] for every one'
        )
    return tuple(dict.fromkeys(value))


def _selector(parameters: Mapping[str, Any], name: str) -> str:
    value = parameters.get(name, "")
    if not isinstance(value, str) or len(value) > _LONGEST_SELECTOR:
        raise InvalidRuleError(
            f"parameters.{name} is {value!r}; expected it as kubectl takes it, like app=web,tier!=cache"
        )
    return value


def _fields(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or len(value) > MOST_FIELDS:
        raise InvalidRuleError(
            f"parameters.fields is {value!r}; expected at most {MOST_FIELDS} names, each with a CEL expression"
        )
    found = {}
    for name, text in value.items():
        if not _FIELD.fullmatch(name) or not isinstance(text, str):
            raise InvalidRuleError(
                f"parameters.fields.{name} is {text!r}; expected one like replicas: object.spec.replicas"
            )
        found[name] = text
    return found
