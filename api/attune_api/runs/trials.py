"""What would become of a rule's actions for an event: evaluated in processes that are started when first needed."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
import structlog
from msgspec import Meta

from attune_contract.actions import ActionKind, RunReason
from attune_contract.events import Event

if TYPE_CHECKING:
    from attune_kit.actions.plan import Plan
    from attune_kit.cel.evaluator import Evaluator

log = structlog.get_logger(__name__)


class StepView(msgspec.Struct, frozen=True, kw_only=True):
    """What would become of one action."""

    action: Annotated[str, Meta(description="The action's name.", examples=["tell"])]
    kind: Annotated[ActionKind, Meta(description="What it does.", examples=["http"])]
    fate: Annotated[
        Literal["run", "skip", "fail"],
        Meta(description="Whether it would be run, skipped, or fail before it begins.", examples=["run"]),
    ]
    reason: Annotated[RunReason, Meta(description="Why it is skipped or fails.", examples=[""])]
    message: Annotated[str, Meta(description="Why, as a sentence.", examples=[""])]
    request: Annotated[
        Any,
        Meta(
            description="What it would ask for, with results in place of expressions. Secrets are named, never read.",
            examples=[{"url": "https://chat.example.org/hooks/imports", "body": {"text": "retry-import failed"}}],
        ),
    ]


class Trials:
    """Evaluates rules on events, in processes that are started when first needed."""

    def __init__(self) -> None:
        self._evaluator: Evaluator | None = None

    async def steps(self, plan: "Plan", event: Event) -> list[StepView]:
        """What would become of each action."""
        from attune_kit.cel.evaluator import Evaluator
        from attune_kit.cel.library import EvaluationError

        results: Sequence[Any] = []
        if plan.program is not None:
            if self._evaluator is None:
                self._evaluator = Evaluator(log=log)
            try:
                results = await self._evaluator.evaluate(plan.rule.uid, plan.program, plan.variables(event))
            except EvaluationError as error:
                results = [error] * len(plan.program.expressions)
        return [
            StepView(
                action=step.name,
                kind=step.kind,
                fate=step.fate,
                reason=step.reason,
                message=step.message,
                request=step.request,
            )
            for step in plan.steps(results, event)
        ]

    async def close(self) -> None:
        """End the processes."""
        if self._evaluator is not None:
            await self._evaluator.close()
