"""The Rule resource (docs/architecture.md, "A Rule's way")."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from attune_contract.resources.actions import ACCOUNT_NEEDED, Actions, Expression, ObjectName
from attune_contract.resources.common import NOT_OBSERVED, Conditions, FreeForm, Metadata, Model, TriggerTypeName


class Trigger(Model):
    """Which occurrences the rule is about."""

    type: TriggerTypeName
    """The trigger type's name or one of its aliases, like core.intervaltimer. `kubectl get sensors` lists the Sensors,
    and each one's spec.triggerTypes says what it offers."""
    parameters: FreeForm = Field(default_factory=dict)
    """Parameters of the trigger type, checked against the schema that its Sensor declares. Mistakes show in the condition
    Accepted."""


class RuleSpec(Model):
    """The desired state."""

    model_config = ConfigDict(json_schema_extra={"x-kubernetes-validations": [ACCOUNT_NEEDED]})

    description: Annotated[str, Field(max_length=1024)] | None = None
    """What the rule is for, in a sentence. Lists show it."""
    enabled: bool = True
    """Whether the rule fires. A disabled rule stays bound to its sensor and says Active=False, reason Disabled."""
    trigger: Trigger
    """Which occurrences the rule is about."""
    data: FreeForm | None = None
    """Values of the rule's own, which conditions and actions see as event.data."""
    when: Expression | None = None
    """A CEL expression on event. No action is carried out for events for which it is false; they are stored all the same."""
    service_account_name: ObjectName | None = None
    """The ServiceAccount of the rule's namespace whose rights its actions have. Without it no action can read or change
    anything in the namespace."""
    order: Literal["Concurrent", "Strict"] = "Concurrent"
    """Strict: the runs of the rule begin in the order of its events, each when the one before it has ended. Concurrent: they
    need not wait for each other."""
    actions: Actions = Field(default_factory=list)
    """What is done for each event (docs/actions.md)."""


class RuleRuns(Model):
    """How many runs of the rule's actions ended how, as far as they are kept."""

    succeeded: Annotated[int, Field(ge=0)] = 0
    """Runs that succeeded."""
    failed: Annotated[int, Field(ge=0)] = 0
    """Runs that failed for good. `attune runs list --state Failed` lists them, and `attune runs retry` tries them again."""
    skipped: Annotated[int, Field(ge=0)] = 0
    """Runs that were not wanted: a condition was false, or another run was under way."""
    waiting: Annotated[int, Field(ge=0)] = 0
    """Runs that have not ended."""


class RuleStatus(Model):
    """The observed state. Only the operator writes it."""

    observed_generation: int | None = None
    """The metadata.generation that this status was computed from; -1 before the operator has written a status."""
    sensor: str | None = None
    """The Sensor that serves this rule, as namespace/name; absent while no Sensor does."""
    conditions: Conditions = Field(default_factory=list)
    """Accepted: the trigger type exists, admits this namespace and takes these parameters. Active: the sensor itself
    confirmed that it runs this generation; when False, the reason says why not. ActionsHealthy, for rules with actions: their
    expressions are valid, and the last run has not failed. Ready: the rule is what its spec asks
    for; also when it is disabled, its Sensor is paused, or it has completed. Stalled, only while True: it does not become
    ready before somebody changes something."""
    runs: RuleRuns | None = None
    """What became of the runs of its actions; updated at a bounded rate."""
    last_run_time: datetime | None = None
    """When a run last began or ended; updated at a bounded rate."""
    last_event_time: datetime | None = None
    """When the rule's latest stored event occurred; updated at a bounded rate."""
    next_time: datetime | None = None
    """When the rule's next occurrence is due, as its sensor says; with jitter, it may come later. Absent while it is not known,
    and while occurrences are less than a minute apart; updated at a bounded rate."""


class Rule(Model):
    """A Rule says which occurrences matter: a trigger type with its parameters. The operator binds it to the one Sensor that
    serves it, and the sensor reports an event for each occurrence.
    """

    model_config = ConfigDict(json_schema_extra={})

    api_version: Literal["attune.dev/v1alpha1"] = "attune.dev/v1alpha1"
    kind: Literal["Rule"] = "Rule"
    metadata: Metadata
    spec: RuleSpec
    status: RuleStatus = Field(default_factory=RuleStatus, json_schema_extra=NOT_OBSERVED)

    @classmethod
    def from_object(cls, body: Any) -> "Rule":
        """Read an object as the Kubernetes API gives it.

        Raises:
            pydantic.ValidationError: the object is not a Rule.
        """
        return cls.model_validate(body)
