"""Which rules take an emitted event, and what becomes of it for each. No input or output here."""

from datetime import datetime
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from attune_contract.emitted import MOST_NAME, NAME_PATTERN, ORIGIN, Emission, occurrence
from attune_sensor import EventReport, InvalidRuleError, Rule, Trace, event_of


class Parameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of ``core.event``."""

    name: Annotated[str, Meta(min_length=1, max_length=MOST_NAME, pattern=NAME_PATTERN.removesuffix("$") + r"\Z")]


#: Namespace and name.
_Key = tuple[str, str]
_NONE: Final[dict[str, Rule]] = {}


class Takers:
    """The rules, by their namespace and by the name that they take."""

    def __init__(self) -> None:
        self._rules: dict[_Key, dict[str, Rule]] = {}
        self._keys: dict[str, _Key] = {}

    def put(self, rule: Rule) -> None:
        """Serve a rule as it is now.

        Raises:
            InvalidRuleError: its parameters cannot be used; it is as it was before.
        """
        try:
            parameters = msgspec.convert(rule.parameters, Parameters)
        except msgspec.ValidationError as error:
            raise InvalidRuleError(f"parameters: {error}") from None
        self.remove(rule.uid)
        key = self._keys[rule.uid] = (rule.state.namespace, parameters.name)
        self._rules.setdefault(key, {})[rule.uid] = rule

    def remove(self, uid: str) -> None:
        """Serve a rule no longer."""
        key = self._keys.pop(uid, None)
        if key is None:
            return
        del self._rules[key][uid]
        if not self._rules[key]:
            del self._rules[key]

    def of(self, emission: Emission) -> list[Rule]:
        """The rules that take it: those of its own namespace that name it, by name."""
        found = self._rules.get((emission.namespace, emission.origin.name), _NONE)
        return sorted(found.values(), key=lambda rule: rule.state.name)


def report_of(rule: Rule, emission: Emission, *, now: datetime, trace: Trace) -> EventReport:
    """The event of one rule. What says where it comes from is ours, and replaces what the action may have put there."""
    payload: dict[str, Any] = {**emission.payload, ORIGIN: msgspec.to_builtins(emission.origin)}
    return event_of(
        rule,
        payload,
        occurrence=occurrence(emission.origin.run),
        occurred_at=now,
        traceparent=trace.traceparent,
        tracestate=trace.tracestate,
    )
