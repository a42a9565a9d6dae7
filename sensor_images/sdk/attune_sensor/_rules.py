"""A rule as a sensor sees it, and what a sensor's author implements to serve rules."""

from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import msgspec

from attune_contract.messages import RuleState

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """A rule's state, and since when it has been in force.

    ``since_us`` (microseconds, Unix time) is when the operator published this state. An occurrence before it must not
    be reported: the rule may have been disabled, or another, at that time.
    """

    state: RuleState
    since_us: int

    @property
    def uid(self) -> str:
        """The Rule's ``metadata.uid``."""
        return self.state.uid

    @property
    def ref(self) -> str:
        """``namespace/name``."""
        return f"{self.state.namespace}/{self.state.name}"

    @property
    def generation(self) -> int:
        """The Rule's ``metadata.generation``."""
        return self.state.generation

    @property
    def trigger_type(self) -> str:
        """The canonical trigger type."""
        return self.state.trigger_type

    @property
    def parameters(self) -> dict[str, Any]:
        """The trigger's parameters, as the operator checked them against the trigger type's schema."""
        return self.state.parameters

    @property
    def created_at(self) -> datetime:
        """When the Rule was created."""
        return self.state.created_at

    @property
    def since(self) -> datetime:
        """When the operator published this state (UTC)."""
        return _EPOCH + timedelta(microseconds=self.since_us)


class RuleHandler(Protocol):
    """The lower level of the SDK: what runs rules. The methods are called for one rule at a time, never twice at once
    for the same rule; those of different rules may run side by side.

    A method may raise :class:`attune_sensor.InvalidRuleError` with a sentence for the rule's author: the rule is acked
    as Rejected and tried again only when it changes. Any other exception is acked as Failing and retried with backoff.

    A handler with the attribute ``serves_disabled_rules = True`` is also given disabled rules, by :meth:`start` and
    :meth:`update`. It must make no events for them; they are acked as Stopped. A webhook so answers their senders.
    """

    async def start(self, rule: Rule) -> None:
        """Begin to serve an enabled rule. When this returns, the rule is acked as Active."""

    async def update(self, old: Rule, new: Rule) -> None:
        """Go over from ``old``, which runs, to ``new``."""

    async def stop(self, rule: Rule) -> None:
        """Stop serving a rule: it was disabled, deleted, moved to another sensor, or became invalid."""

    async def close(self) -> None:
        """The sensor ends: stop everything. No other method is called afterwards."""
