"""Runs as readers get them."""

import uuid
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from attune_contract.actions import ActionKind, RunReason, RunState
from attune_contract.events import TimeText

_TIME = "2026-11-23T12:00:00.000000Z"


class AttemptView(msgspec.Struct, frozen=True, kw_only=True):
    """One try of a run."""

    number: Annotated[int, Meta(description="From 1.", examples=[1])]
    started_at: Annotated[TimeText, Meta(description="When it began.", examples=[_TIME])]
    seconds: Annotated[float, Meta(description="How long it took.", examples=[0.031])]
    outcome: Annotated[
        RunReason, Meta(description="Why it failed; empty when it succeeded.", examples=["TargetRefused"])
    ] = RunReason.NONE
    status: Annotated[int | None, Meta(description="The status of HTTP, if there was one.", examples=[503])] = None
    message: Annotated[str, Meta(description="What happened.", examples=["503 Service Unavailable"])] = ""
    answer: Annotated[str, Meta(description="The beginning of the answer.", examples=["overloaded"])] = ""


class RunHead(msgspec.Struct, frozen=True, kw_only=True):
    """A run in a list, without its attempts."""

    id: Annotated[
        uuid.UUID,
        Meta(
            description="UUIDv5 of rule, event and action: the same three are the same run.",
            examples=["1c9f2f0e-37e9-5d5e-9d2f-3f1b8f8f9a10"],
        ),
    ]
    seq: Annotated[
        int,
        Meta(
            description="The place of its last change among all changes of runs. It moves when it changes.",
            examples=[42],
        ),
    ]
    event_id: Annotated[uuid.UUID, Meta(description="The event.", examples=["0f3c2b54-8a83-5f0e-9a9b-0c7a3a4b7d11"])]
    event_seq: Annotated[int, Meta(description="The event's seq.", examples=[4711])]
    rule_uid: Annotated[str, Meta(description="The rule.", examples=["7c1f3f0e-37e9-4d5e-9d2f-3f1b8f8f9a10"])]
    rule_namespace: Annotated[str, Meta(description="The rule's namespace.", examples=["default"])]
    rule_name: Annotated[str, Meta(description="The rule's name.", examples=["retry-failed-import"])]
    rule_generation: Annotated[int, Meta(description="The generation that it was decided by.", examples=[3])]
    action: Annotated[str, Meta(description="The action's name in the rule.", examples=["tell"])]
    kind: Annotated[ActionKind, Meta(description="What the action does.", examples=["http"])]
    state: Annotated[RunState, Meta(description="Where it stands.", examples=["Failed"])]
    reason: Annotated[RunReason, Meta(description="Why it is in this state.", examples=["TargetRefused"])]
    message: Annotated[str, Meta(description="The reason as a sentence.", examples=["The target answered 404."])]
    created_at: Annotated[TimeText, Meta(description="When it began to be.", examples=[_TIME])]
    updated_at: Annotated[TimeText, Meta(description="When it changed last.", examples=[_TIME])]
    next_attempt_at: Annotated[TimeText | None, Meta(description="When it is tried again.", examples=[None])]
    attempts_made: Annotated[int, Meta(description="How often it was tried.", examples=[5])]


class RunView(RunHead, frozen=True, kw_only=True):
    """A run with its last attempts. Secrets are masked in request and answers."""

    revision: Annotated[int, Meta(description="Grows with each change.", examples=[7])]
    attempts: Annotated[
        list[AttemptView],
        Meta(
            description="The last ones, oldest first.",
            examples=[
                [{"number": 5, "started_at": _TIME, "seconds": 0.031, "outcome": "TargetRefused", "status": 404}]
            ],
        ),
    ]
    request: Annotated[
        str,
        Meta(
            description="The beginning of what is asked for.", examples=["POST https://chat.example.org/hooks/imports"]
        ),
    ]
    result: Annotated[
        dict[str, Any] | None,
        Meta(description="What came of it.", examples=[{"kind": "Job", "name": "again-1c9f2f0e"}]),
    ]


class FailureView(msgspec.Struct, frozen=True, kw_only=True):
    """The last failure among a rule's runs."""

    at: Annotated[str, Meta(description="When it was.", examples=[_TIME])]
    run_id: Annotated[uuid.UUID | None, Meta(description="The run.", examples=["1c9f2f0e-37e9-5d5e-9d2f-3f1b8f8f9a10"])]
    action: Annotated[str, Meta(description="The action.", examples=["tell"])]
    state: Annotated[
        str, Meta(description="Failed; or Waiting, when an attempt failed and is to be repeated.", examples=["Failed"])
    ]
    reason: Annotated[str, Meta(description="Why.", examples=["TargetRefused"])]
    message: Annotated[str, Meta(description="Why, as a sentence.", examples=["The target answered 404."])]


class SummaryView(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a rule's runs, as far as they are kept."""

    rule_uid: Annotated[str, Meta(description="The rule.", examples=["7c1f3f0e-37e9-4d5e-9d2f-3f1b8f8f9a10"])]
    rule_namespace: Annotated[str, Meta(description="Its namespace.", examples=["default"])]
    rule_name: Annotated[str, Meta(description="Its name.", examples=["retry-failed-import"])]
    succeeded: Annotated[int, Meta(description="Runs that succeeded.", examples=[120])]
    failed: Annotated[int, Meta(description="Runs that failed for good.", examples=[2])]
    skipped: Annotated[int, Meta(description="Runs that were not wanted.", examples=[31])]
    waiting: Annotated[int, Meta(description="Runs that have not ended.", examples=[1])]
    last_run_at: Annotated[
        TimeText | None, Meta(description="When a run last changed that was not skipped.", examples=[_TIME])
    ]
    last_success_at: Annotated[TimeText | None, Meta(description="When a run last succeeded.", examples=[_TIME])]
    last_failure: Annotated[
        FailureView | None,
        Meta(
            description="The last failure, also when a later run succeeded: compare the times.",
            examples=[
                {
                    "at": _TIME,
                    "run_id": "1c9f2f0e-37e9-5d5e-9d2f-3f1b8f8f9a10",
                    "action": "tell",
                    "state": "Failed",
                    "reason": "TargetRefused",
                    "message": "The target answered 404.",
                }
            ],
        ),
    ]
