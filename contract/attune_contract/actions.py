"""What a Rule's actions are, and what became of each: messages between operator, runner and API (docs/actions.md).

- The operator publishes each Rule's :class:`RuleActions` on stream ``ATTUNE_ACTIONS``, last message per subject. Sensors cannot
  read it: it has URLs and templates.
- The runner reports each change of a :class:`Run` on stream ``ATTUNE_RUNS``. The API stores it and then acknowledges it.
- A run that is to be tried later or again stands in stream ``ATTUNE_RUN_QUEUE`` as a :class:`QueuedRun`.
"""

import uuid
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

import msgspec

from attune_contract.messages import decoded

#: Last message per subject, one subject per Rule with actions.
ACTIONS_STREAM: Final = "ATTUNE_ACTIONS"
#: What became of runs, until the API has stored it (work queue).
RUNS_STREAM: Final = "ATTUNE_RUNS"
#: Runs that wait for their next attempt (work queue).
RUN_QUEUE_STREAM: Final = "ATTUNE_RUN_QUEUE"

ALL_ACTIONS: Final = "attune.actions.>"
ALL_RUNS: Final = "attune.runs.>"
ALL_QUEUED_RUNS: Final = "attune.runqueue.>"

#: The durable consumer that all replicas of the runner share on ``ATTUNE_EVENTS``, and the one on ``ATTUNE_RUN_QUEUE``.
EVENTS_CONSUMER: Final = "attune-actions"
QUEUE_CONSUMER: Final = "attune-actions"
#: The durable consumer that all replicas of the API share on ``ATTUNE_RUNS``.
REPORTS_CONSUMER: Final = "attune-api"

#: The trigger type of events that actions of kind ``emit`` make.
EMITTED_TRIGGER_TYPE: Final = "core.event"

#: Attempts that a run remembers; older ones are only counted.
MOST_ATTEMPTS_KEPT: Final = 10
#: Characters of an answer, of a request or of a message that a run keeps.
EXCERPT_CHARACTERS: Final = 1024


class ActionKind(StrEnum):
    """What an action does; the key under which the Rule describes it."""

    HTTP = "http"
    JOB = "job"
    OBJECT = "object"
    NATS = "nats"
    RULE = "rule"
    EMIT = "emit"


class RunState(StrEnum):
    """Where a run stands."""

    PENDING = "Pending"  #: known, not begun
    RUNNING = "Running"  #: an attempt is under way, or what it started is awaited
    WAITING = "Waiting"  #: until the next attempt, at ``next_attempt_at``
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"  #: no further attempt by itself: a dead letter
    SKIPPED = "Skipped"  #: not wanted: ``reason`` says why

    @property
    def final(self) -> bool:
        """Whether nothing more happens unless somebody asks for it."""
        return self in (RunState.SUCCEEDED, RunState.FAILED, RunState.SKIPPED)


class RunReason(StrEnum):
    """Why a run is in its state. Sentences are in ``message``."""

    NONE = ""
    #: Skipped
    CONDITION_FALSE = "ConditionFalse"
    CONCURRENCY_FORBIDDEN = "ConcurrencyForbidden"
    REPLACED = "Replaced"
    RULE_GONE = "RuleGone"
    RULE_DISABLED = "RuleDisabled"
    #: Waiting or Failed
    INVALID_EXPRESSION = "InvalidExpression"
    TARGET_UNREACHABLE = "TargetUnreachable"
    TARGET_REFUSED = "TargetRefused"
    TIMED_OUT = "TimedOut"
    FORBIDDEN = "Forbidden"
    ADDRESS_NOT_ALLOWED = "AddressNotAllowed"
    NO_SUCH_SECRET = "SecretNotFound"  # noqa: S105 - a reason, not a secret
    RATE_LIMITED = "RateLimited"
    CIRCUIT_OPEN = "CircuitOpen"
    OBJECT_FAILED = "ObjectFailed"
    TOO_MANY_HOPS = "TooManyHops"
    INTERNAL = "Internal"


class Attempt(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One try of a run."""

    number: int  #: from 1
    started_at: datetime
    seconds: float
    outcome: RunReason = RunReason.NONE  #: NONE: it succeeded
    status: int | None = None  #: the HTTP status, of the target or of the Kubernetes API
    message: str = ""
    answer: str = ""  #: an excerpt, secrets masked


class Run(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One action for one event.

    ``revision`` grows with each change: of two reports about a run, the one with the higher revision is the newer one. A retry
    by hand goes on counting.
    """

    id: uuid.UUID
    revision: int
    event_id: uuid.UUID
    event_seq: int
    rule_uid: str
    rule_namespace: str
    rule_name: str
    rule_generation: int
    action: str
    kind: ActionKind
    state: RunState
    created_at: datetime
    updated_at: datetime
    reason: RunReason = RunReason.NONE
    message: str = ""
    next_attempt_at: datetime | None = None
    attempts_made: int = 0
    attempts: tuple[Attempt, ...] = ()  #: the last :data:`MOST_ATTEMPTS_KEPT`
    request: str = ""  #: what is asked for, an excerpt with secrets masked
    result: dict[str, Any] | None = None  #: such as ``{"kind": "Job", "name": "again-1c9…"}``


class QueuedRun(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A run that is to be tried at ``run.next_attempt_at`` (None: at once), with the event that it is about."""

    run: Run
    event: msgspec.Raw  #: :class:`attune_contract.events.Event` as JSON
    by_hand: bool = False  #: somebody asked for it: it is tried even where it had ended, with a fresh count of attempts
    asked_by: str = ""


class RuleActions(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the runner must know of a Rule. A Rule without actions has a message as well: then the runner knows that there is
    nothing to do, and need not ask. ``deleted`` marks a Rule that is gone.

    ``actions`` are as in the Rule's ``spec.actions``, with the defaults of
    :class:`attune_contract.resources.actions.Action` filled in.
    """

    uid: str
    namespace: str
    name: str
    generation: int
    enabled: bool = True
    deleted: bool = False
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    data: dict[str, Any] = {}
    when: str | None = None
    service_account_name: str | None = None
    order: str = "Concurrent"
    actions: tuple[dict[str, Any], ...] = ()


#: Namespace of run ids (RFC 9562, UUIDv5). Fixed for ever: changing it would make old runs new ones.
RUN_NAMESPACE: Final = uuid.UUID("b6f3a1f4-3c53-5d0a-8d5b-64c1b9b7f0a2")


def run_id(rule_uid: str, event_id: uuid.UUID, action: str) -> uuid.UUID:
    """The id of the run of one action for one event: UUIDv5 of ``<rule uid>/<event id>/<action>``.

    The rule's uid belongs to it since ids of events are unique within a rule only (docs/decisions/0047).
    """
    return uuid.uuid5(RUN_NAMESPACE, f"{rule_uid}/{event_id}/{action}")


def actions_subject(namespace: str, rule_uid: str) -> str:
    """Where the operator says what a Rule's actions are."""
    return f"attune.actions.{namespace}.{rule_uid}"


def run_subject(run: Run) -> str:
    """Where the runner says what became of a run."""
    return f"attune.runs.{run.rule_namespace}.{run.rule_uid}.{run.id}"


def queued_run_subject(run: Run) -> str:
    """Where a run waits for its next attempt."""
    return f"attune.runqueue.{run.rule_namespace}.{run.rule_uid}.{run.id}"


_ENCODER: Final = msgspec.json.Encoder(order="sorted")
_RUN: Final = msgspec.json.Decoder(Run)
_QUEUED: Final = msgspec.json.Decoder(QueuedRun)
_ACTIONS: Final = msgspec.json.Decoder(RuleActions)


def encode(message: Run | QueuedRun | RuleActions) -> bytes:
    """The message's JSON. Keys are sorted, so equal states have equal bytes."""
    return _ENCODER.encode(message)


def decode_run(body: bytes) -> Run:
    """Read what became of a run.

    Raises:
        InvalidMessageError: the body is not JSON of the right shape.
    """
    return decoded(_RUN, body, "a run")


def decode_queued_run(body: bytes) -> QueuedRun:
    """Read a run that waits.

    Raises:
        InvalidMessageError: the body is not JSON of the right shape.
    """
    return decoded(_QUEUED, body, "a queued run")


def decode_actions(body: bytes) -> RuleActions:
    """Read a Rule's actions.

    Raises:
        InvalidMessageError: the body is not JSON of the right shape.
    """
    return decoded(_ACTIONS, body, "a rule's actions")
