"""Other rules' events, for sensors whose rules are about them, and what such a sensor remembers of a rule.

The API keeps both (docs/sensor-protocol.md, "Rules about events"). So a pod on another node goes on where this one ended.
"""

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, Protocol
from urllib.parse import urlencode

import msgspec

from attune_contract.derived import DERIVED_TRIGGER_TYPES, MOST_RULES, MOST_STATE_BYTES
from attune_sensor._errors import SensorError
from attune_sensor._rules import Rule

__all__ = [
    "DERIVED_TRIGGER_TYPES",
    "MOST_RULES",
    "MOST_STATE_BYTES",
    "ApiRefusedError",
    "ApiUnavailableError",
    "EventPage",
    "RuleMemory",
    "StoredEvent",
]


class ApiUnavailableError(SensorError):
    """The API does not answer now, or does not allow it; the text says why."""


class ApiRefusedError(ApiUnavailableError):
    """The API does not allow it, or not yet: it has not heard of the rule, or of its end."""


class StoredEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event as the API stored it. ``payload`` is JSON."""

    id: uuid.UUID
    seq: int
    trigger_type: str
    rule_uid: str
    rule_namespace: str
    rule_name: str
    sensor_ref: str
    occurred_at: datetime
    received_at: datetime
    payload: msgspec.Raw


class EventPage(msgspec.Struct, frozen=True, kw_only=True):
    """Events, oldest first.

    Attributes:
        data: the events.
        position: up to which ``seq`` everything was looked at: where to go on.
        newest: the newest ``seq`` there is, of any rule.
        asked_at: the API's time before it looked.
    """

    data: list[StoredEvent]
    position: int
    newest: int
    asked_at: datetime


class RuleMemory(msgspec.Struct, frozen=True, kw_only=True):
    """What a sensor remembers of a rule: of which generation of it, up to which ``seq``, and a value of its own."""

    generation: int
    position: int
    state: bytes


class Reader(Protocol):
    """What asks the API (:class:`attune_sensor._api_client.EventsApi`)."""

    async def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes] | str:
        """The status and the body of an answer; a sentence when there is none. Never raises."""


_PAGE: Final = msgspec.json.Decoder(EventPage)
_MEMORY: Final = msgspec.json.Decoder(RuleMemory)
_OK: Final = 200
_FORBIDDEN: Final = 403
_NOT_FOUND: Final = 404
_CONFLICT: Final = 409


class SourceEvents:
    """Reads events and keeps states.

    Args:
        api: asks the API.
    """

    def __init__(self, api: Reader) -> None:
        self._api = api

    async def read(self, rule: Rule, names: Sequence[str], *, after: int | None) -> EventPage:
        """The next events of these rules, all in the namespace of ``rule``.

        Raises:
            ApiUnavailableError: there is no answer.
        """
        query: list[tuple[str, Any]] = [("rule_uid", rule.uid), ("namespace", rule.state.namespace)]
        query += [("name", name) for name in names]
        if after is not None:
            query.append(("after", after))
        status, body = await self._ask("GET", f"/api/v1/sensor/events?{urlencode(query)}")
        page: EventPage = _decoded(_PAGE, status, body)
        return page

    async def load(self, rule: Rule) -> RuleMemory | None:
        """What was kept last; None when nothing is.

        Raises:
            ApiUnavailableError: there is no answer.
        """
        status, body = await self._ask("GET", _state(rule))
        return None if status == _NOT_FOUND else _decoded(_MEMORY, status, body)

    async def save(self, rule: Rule, *, position: int, state: bytes) -> bool:
        """Keep a value; False when a newer one is kept.

        Raises:
            ApiUnavailableError: there is no answer.
        """
        memory = RuleMemory(generation=rule.generation, position=position, state=state)
        status, body = await self._ask("PUT", _state(rule), msgspec.json.encode(memory))
        if status not in (_OK, _CONFLICT):
            raise _error(status, body)
        return status == _OK

    async def forget(self, rule: Rule) -> None:
        """Keep nothing.

        Raises:
            ApiUnavailableError: there is no answer.
        """
        status, body = await self._ask("DELETE", _state(rule))
        if status != _OK:
            raise _error(status, body)

    async def _ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        answer = await self._api.ask(method, path, body)
        if isinstance(answer, str):
            raise ApiUnavailableError(answer)
        return answer


def _state(rule: Rule) -> str:
    return f"/api/v1/sensor/states/{rule.uid}"


def _decoded(decoder: "msgspec.json.Decoder[Any]", status: int, body: bytes) -> Any:
    if status != _OK:
        raise _error(status, body)
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ApiUnavailableError(f"the API's answer is malformed: {error}") from None


def _error(status: int, body: bytes) -> ApiUnavailableError:
    kind = ApiRefusedError if status == _FORBIDDEN else ApiUnavailableError
    return kind(_problem(status, body))


def _problem(status: int, body: bytes) -> str:
    """The words of a problem document (RFC 9457)."""
    try:
        problem: Any = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return f"HTTP {status}"
    detail = problem.get("detail") if isinstance(problem, dict) else None
    return f"HTTP {status}: {str(detail)[:500]}" if detail else f"HTTP {status}"
