"""The query parameters by which runs are chosen, the same for pages, counts and streams."""

import uuid

from pydantic import BaseModel, ConfigDict

from attune_api.events.query.parameters import Text, Time
from attune_api.runs.query import RunFilter
from attune_contract.actions import RunReason, RunState


class RunQuery(BaseModel):
    """Which runs. All that is given must hold."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    rule_uid: Text | None = None
    """The rule, by its metadata.uid."""
    rule_namespace: Text | None = None
    """The rule's namespace. Required for callers that may not list rules in all namespaces."""
    rule_name: Text | None = None
    """The rule's name; with rule_namespace it is looked up, without it is searched for."""
    action: Text | None = None
    """The action's name."""
    state: RunState | None = None
    """Where the run stands. Failed ones are the dead letters."""
    reason: RunReason | None = None
    """Why it is in this state."""
    event_id: uuid.UUID | None = None
    """The event that it is about."""
    updated_after: Time | None = None
    """It changed then or later; RFC 3339 with a zone."""
    updated_before: Time | None = None
    """It last changed earlier; RFC 3339 with a zone."""

    def chosen(self) -> RunFilter:
        """The filter."""
        return RunFilter(
            rule_uid=self.rule_uid,
            rule_namespace=self.rule_namespace,
            rule_name=self.rule_name,
            action=self.action,
            state=None if self.state is None else self.state.value,
            reason=None if self.reason is None else self.reason.value,
            event_id=self.event_id,
            updated_after=self.updated_after,
            updated_before=self.updated_before,
        )
