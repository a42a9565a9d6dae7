"""What became of a rule's runs, as a value that each change of a run moves on. Pure."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Literal

from attune_contract.actions import Run, RunReason, RunState

Bucket = Literal["succeeded", "failed", "skipped", "waiting"]

#: The number that a run of each state is counted in.
BUCKETS: Final[Mapping[str, Bucket]] = {
    RunState.SUCCEEDED: "succeeded",
    RunState.FAILED: "failed",
    RunState.SKIPPED: "skipped",
    RunState.PENDING: "waiting",
    RunState.RUNNING: "waiting",
    RunState.WAITING: "waiting",
}
#: Why a run may wait without anything being wrong.
_NO_FAULT: Final = frozenset({RunReason.NONE, RunReason.RATE_LIMITED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A rule's runs: how many there are in each bucket, and how the last ones went.

    A failure is a run that failed, or an attempt that failed and is to be repeated (``last_failure_state`` tells which).
    """

    rule_uid: str
    rule_namespace: str
    rule_name: str
    succeeded: int = 0
    failed: int = 0
    skipped: int = 0
    waiting: int = 0
    last_run_at: datetime | None = None
    last_success_at: datetime | None = None
    last_failure_at: datetime | None = None
    last_failure_run: uuid.UUID | None = None
    last_failure_action: str = ""
    last_failure_state: str = ""
    last_failure_reason: str = ""
    last_failure_message: str = ""

    def moved(self, *, before: str | None, after: str | None, times: int = 1) -> "Summary":
        """With ``times`` runs moved from one state to another; None is not being there."""
        numbers: dict[str, int] = {}
        for state, step in ((before, -times), (after, times)):
            if state is not None:
                bucket = BUCKETS[state]
                numbers[bucket] = numbers.get(bucket, getattr(self, bucket)) + step
        return replace(self, **numbers)  # type: ignore[arg-type]

    def after(self, run: Run, *, before: str | None) -> "Summary":
        """With a run's newest state.

        Args:
            run: the run.
            before: the state that it was counted in; None when it is new.
        """
        summary = self.moved(before=before, after=run.state)
        summary = replace(summary, rule_namespace=run.rule_namespace, rule_name=run.rule_name)
        if run.state is not RunState.SKIPPED:
            summary = replace(summary, last_run_at=_later(summary.last_run_at, run.updated_at))
        if run.state is RunState.SUCCEEDED:
            return replace(summary, last_success_at=_later(summary.last_success_at, run.updated_at))
        if _is_fault(run) and (summary.last_failure_at is None or summary.last_failure_at <= run.updated_at):
            return replace(
                summary,
                last_failure_at=run.updated_at,
                last_failure_run=run.id,
                last_failure_action=run.action,
                last_failure_state=run.state.value,
                last_failure_reason=run.reason.value,
                last_failure_message=run.message,
            )
        return summary


def _is_fault(run: Run) -> bool:
    if run.state is RunState.FAILED:
        return True
    return run.state is RunState.WAITING and run.attempts_made > 0 and run.reason not in _NO_FAULT


def _later(time: datetime | None, other: datetime) -> datetime:
    return other if time is None else max(time, other)
