"""The query parameters by which events are chosen, the same for pages, counts and streams."""

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import Request
from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from attune_api.dependencies import CALLER_ONLY
from attune_api.events.query.filters import MAX_PAYLOAD_FILTERS, EventFilter, InvalidFilterError, PayloadFilter
from attune_api.identity.callers import Caller
from attune_api.identity.cluster import Right
from attune_api.services import Services
from attune_api.web.problems import ProblemError

_PAYLOAD: Final = "payload."
_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ]")


def storable(text: str) -> str:
    """A text that a database can be asked for."""
    if "\0" in text:
        raise ValueError("must not hold a NUL character")
    return text


def _in_range(time: datetime) -> datetime:
    # Years at the calendar's ends leave it when they are moved to UTC.
    if not 2 <= time.year <= 9998:
        raise ValueError("must be in a year from 2 to 9998")
    return time


def _rfc3339(text: object) -> object:
    # Numbers would be taken for seconds since 1970, and a typing error for a time long ago.
    if isinstance(text, str) and not _TIME.match(text):
        raise ValueError("must be a time as RFC 3339 has it, with a zone, like 2026-11-23T12:00:00Z")
    return text


Text = Annotated[str, Field(max_length=320), AfterValidator(storable)]
Time = Annotated[AwareDatetime, BeforeValidator(_rfc3339), AfterValidator(_in_range)]


class EventQuery(BaseModel):
    """Which events. All that is given must hold."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    rule_uid: Text | None = None
    """The rule, by its metadata.uid."""
    rule_namespace: Text | None = None
    """The rule's namespace. Required for callers that may not list rules in all namespaces."""
    rule_name: Text | None = None
    """The rule's name; with rule_namespace it is looked up, without it is searched for."""
    trigger_type: Text | None = None
    """The trigger type's canonical name, like core.intervaltimer."""
    sensor: Text | None = None
    """The sensor that reported it, namespace/name."""
    occurred_after: Time | None = None
    """It occurred then or later; RFC 3339 with a zone."""
    occurred_before: Time | None = None
    """It occurred earlier; RFC 3339 with a zone."""

    def chosen(self, request: Request) -> EventFilter:
        """The filter, with what the request says of payloads.

        Raises:
            ProblemError: 422 for a parameter that is not known, or given twice, or a filter that cannot be meant.
        """
        return EventFilter(
            rule_uid=self.rule_uid,
            rule_namespace=self.rule_namespace,
            rule_name=self.rule_name,
            trigger_type=self.trigger_type,
            sensor_ref=self.sensor,
            occurred_after=self.occurred_after,
            occurred_before=self.occurred_before,
            payload=tuple(_payload_filters(request, known=type(self).model_fields)),
        )


def _payload_filters(request: Request, *, known: Any) -> Iterator[PayloadFilter]:
    count = 0
    for name, value in request.query_params.multi_items():
        if name.startswith(_PAYLOAD):
            count += 1
            if count > MAX_PAYLOAD_FILTERS:
                raise ProblemError(
                    422, f"There are more than {MAX_PAYLOAD_FILTERS} payload filters.", kind="invalid-request"
                )
            try:
                yield PayloadFilter.parse(name.removeprefix(_PAYLOAD), value)
            except InvalidFilterError as error:
                raise ProblemError(422, f"query.{name[:80]}: {error}.", kind="invalid-request") from None
    check_known(request, known=known, prefix=_PAYLOAD)


def check_known(request: Request, *, known: Any, prefix: str | None = None) -> None:
    """Refuse parameters that are misspelt or repeated, which would otherwise be left out without a word.

    Raises:
        ProblemError: 422, which names the parameter and those there are.
    """
    seen: set[str] = set()
    for name, _ in request.query_params.multi_items():
        if prefix and name.startswith(prefix):
            continue
        if name not in known:
            there_are = ", ".join([*known, *([f"{prefix}<path>"] if prefix else [])]) or "none"
            raise ProblemError(
                422, f"query.{name[:80]}: not known here; there are {there_are}.", kind="invalid-request"
            )
        if name in seen:
            raise ProblemError(422, f"query.{name}: given twice; one value is looked for.", kind="invalid-request")
        seen.add(name)


#: ``payload.<path>=<value>`` for OpenAPI: an object whose members are parameters by themselves.
_PAYLOAD_PARAMETER: Final[dict[str, Any]] = {
    "name": "payload",
    "in": "query",
    "required": False,
    "style": "form",
    "explode": True,
    "schema": {
        "type": "object",
        "maxProperties": MAX_PAYLOAD_FILTERS,
        "propertyNames": {"pattern": r'^payload\.[^".\\\x00-\x1f]+(\.[^".\\\x00-\x1f]+)*$'},
        "additionalProperties": {"type": "string"},
        "default": {},
        "examples": [{"payload.user.name": "ann"}],
    },
    "description": (
        "Fields of the payload, each as a parameter `payload.<path>=<value>`: `payload.user.name=ann`, "
        "`payload.items.0.id=7`. Names in the path are separated by dots; a number is a place in a list, from 0. The value "
        'is compared with the field as text: `7` finds the number 7 and the text "7", `true`, `false` and `null` find '
        'those too, and `"7"` in double quotes finds the text alone. There is no index for it: see next_cursor.'
    ),
}
#: What FastAPI cannot see of a route that takes an :class:`EventQuery`.
FILTERED: Final[dict[str, Any]] = {**CALLER_ONLY, "parameters": [_PAYLOAD_PARAMETER]}


async def require_list(
    services: Services, caller: Caller, *, resource: str, namespace: str | None, parameter: str
) -> None:
    """Let ``caller`` through with the right to list ``resource`` in the namespace; in all of them if none is named.

    Without that right everywhere, and without a namespace, the answer is 403 as Kubernetes gives it, and not the events of
    some namespaces: which ones would change with every grant, and a list that silently lacks some is worse than none.

    Raises:
        ProblemError: 403, which names the right that is missing, and the parameter that would help.
    """
    hint = "" if namespace else f"Ask for one namespace with {parameter}."
    await services.access.require(caller, Right(verb="list", resource=resource, namespace=namespace or ""), hint=hint)
