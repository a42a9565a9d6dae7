"""What becomes of a run after an attempt: done, tried again at what time, or given up. Pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any, Final

import msgspec

from attune_contract.actions import (
    EXCERPT_CHARACTERS,
    MOST_ATTEMPTS_KEPT,
    ActionKind,
    Attempt,
    Run,
    RunReason,
    RunState,
    run_id,
)
from attune_contract.events import Event
from attune_contract.resources.durations import parse_duration
from attune_kit.actions.plan import Step
from attune_kit.backoff import Backoff

#: After so long an action with ``await`` has failed.
LONGEST_WAIT: Final = timedelta(days=7)
#: Statuses after which the same request may succeed later (RFC 9110, 15.5.9; RFC 8470; RFC 6585, 4).
_AGAIN: Final = frozenset({408, 425, 429})


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one attempt.

    Attributes:
        reason: why it failed; NONE when it succeeded.
        again: whether a further attempt may succeed.
        status: the HTTP status of the answer.
        message, answer: for people; secrets are masked already.
        not_before: seconds that the target asked to be left alone.
        result: what was made.
        refused: no attempt was made: the target's circuit is open, or the rate limit is reached. It does not count.
        request: what was asked for, an excerpt.
        skipped: it is not wanted: ``reason`` says why.
        awaiting: it was made, and is not done: seconds after which to look again.
    """

    reason: RunReason = RunReason.NONE
    again: bool = False
    status: int | None = None
    message: str = ""
    answer: str = ""
    not_before: float = 0.0
    result: dict[str, Any] | None = None
    refused: bool = False
    request: str = ""
    skipped: bool = False
    awaiting: float | None = None

    @property
    def succeeded(self) -> bool:
        """Whether the action is done."""
        return self.reason is RunReason.NONE


@lru_cache(maxsize=1024)
def _duration(text: str) -> float:
    return parse_duration(text).total_seconds()


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often and when a failed attempt is made again. Times are seconds."""

    attempts: int
    backoff: float
    max_backoff: float
    timeout: float

    @classmethod
    def of(cls, action: Any) -> "RetryPolicy":
        """An action's policy.

        Raises:
            ValueError: a duration cannot be read.
        """
        retry = action.get("retry") or {}

        def seconds(name: str, default: str) -> float:
            return _duration(str(retry.get(name, default)))

        return cls(
            attempts=int(retry.get("attempts", 5)),
            backoff=seconds("backoff", "2s"),
            max_backoff=seconds("maxBackoff", "5m"),
            timeout=seconds("timeout", "30s"),
        )

    @property
    def horizon(self) -> float:
        """Seconds after which a run ends even though its target's circuit was open all the time."""
        return self.attempts * (self.max_backoff + self.timeout)


def new_run(event: Event, step: Step, *, rule_generation: int, now: datetime) -> Run:
    """A run that was not begun, or is not to begin."""
    state = {"run": RunState.PENDING, "skip": RunState.SKIPPED, "fail": RunState.FAILED}[step.fate]
    return Run(
        id=run_id(event.rule_uid, event.id, step.name),
        revision=_revision(0, now),
        event_id=event.id,
        event_seq=event.seq,
        rule_uid=event.rule_uid,
        rule_namespace=event.rule_namespace,
        rule_name=event.rule_name,
        rule_generation=rule_generation,
        action=step.name,
        kind=step.kind,
        state=state,
        reason=step.reason,
        message=excerpt(step.message),
        created_at=now,
        updated_at=now,
    )


def changed(run: Run, *, now: datetime, **changes: Any) -> Run:
    """The run after a change: of a higher revision."""
    return msgspec.structs.replace(run, revision=_revision(run.revision, now), updated_at=now, **changes)


def _revision(last: int, now: datetime) -> int:
    """Higher than the last one, and than those of whoever carried the run out before and was killed: milliseconds since 1970."""
    return max(last + 1, int(now.timestamp() * 1000))


def settled(
    run: Run, outcome: Outcome, policy: RetryPolicy, *, began: datetime, seconds: float, now: datetime, chance: float
) -> Run:
    """The run after an attempt.

    Args:
        run: as it was before.
        outcome: what came of the attempt.
        policy: how often and when it may be tried again.
        began: when the attempt began.
        seconds: how long it took.
        now: the time.
        chance: a random number in [0, 1), for jitter.
    """
    request = excerpt(outcome.request) or run.request
    if outcome.refused:
        if (now - run.created_at).total_seconds() > policy.horizon:
            return _final(run, RunState.FAILED, outcome, now=now, request=request)
        wait = max(outcome.not_before, 0.0) + chance * min(policy.backoff, 1.0)
        return _waiting(run, outcome, now=now, wait=wait, request=request)
    if outcome.skipped:
        return _final(run, RunState.SKIPPED, outcome, now=now, request=request)
    if outcome.awaiting is not None and now - run.created_at > LONGEST_WAIT:
        text = f"it was not done within {LONGEST_WAIT.days} days: {outcome.message}"
        outcome = Outcome(reason=RunReason.TIMED_OUT, message=text, result=outcome.result)
    if outcome.awaiting is not None:
        return changed(
            run,
            now=now,
            state=RunState.RUNNING,
            reason=RunReason.NONE,
            message=excerpt(outcome.message),
            next_attempt_at=now + timedelta(seconds=outcome.awaiting * (0.75 + chance / 2)),
            request=request,
            result=outcome.result if outcome.result is not None else run.result,
        )
    attempt = Attempt(
        number=run.attempts_made + 1,
        started_at=began,
        seconds=round(seconds, 6),
        outcome=outcome.reason,
        status=outcome.status,
        message=excerpt(outcome.message),
        answer=excerpt(outcome.answer),
    )
    run = msgspec.structs.replace(
        run, attempts_made=attempt.number, attempts=(*run.attempts, attempt)[-MOST_ATTEMPTS_KEPT:]
    )
    if outcome.succeeded:
        return _final(run, RunState.SUCCEEDED, outcome, now=now, request=request)
    if not outcome.again or attempt.number >= policy.attempts:
        return _final(run, RunState.FAILED, outcome, now=now, request=request)
    backoff = Backoff(initial=policy.backoff, maximum=policy.max_backoff)
    wait = max(backoff.delay(attempt=attempt.number, chance=chance), min(outcome.not_before, policy.max_backoff))
    return _waiting(run, outcome, now=now, wait=wait, request=request)


def _final(run: Run, state: RunState, outcome: Outcome, *, now: datetime, request: str) -> Run:
    return changed(
        run,
        now=now,
        state=state,
        reason=outcome.reason,
        message=excerpt(outcome.message),
        next_attempt_at=None,
        request=request,
        result=outcome.result if outcome.result is not None else run.result,
    )


def _waiting(run: Run, outcome: Outcome, *, now: datetime, wait: float, request: str) -> Run:
    return changed(
        run,
        now=now,
        state=RunState.WAITING,
        reason=outcome.reason,
        message=excerpt(outcome.message),
        next_attempt_at=now + timedelta(seconds=wait),
        request=request,
        result=outcome.result if outcome.result is not None else run.result,
    )


def of_status(status: int, *, retry_after: str | None, now: datetime) -> Outcome:
    """What an HTTP status means, where the action has no condition of its own.

    Args:
        status: the status.
        retry_after: the header of this name (RFC 9110, 10.2.3): seconds, or a date.
        now: the time, for a date.
    """
    if 200 <= status <= 299:
        return Outcome(status=status)
    again = status in _AGAIN or status >= 500
    return Outcome(
        reason=RunReason.TARGET_REFUSED,
        again=again,
        status=status,
        message=f"the target answered {status}",
        not_before=_seconds(retry_after, now) if again else 0.0,
    )


def _seconds(retry_after: str | None, now: datetime) -> float:
    if not retry_after:
        return 0.0
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(0.0, (parsedate_to_datetime(text) - now).total_seconds())
    except (ValueError, TypeError):
        return 0.0


def excerpt(text: str) -> str:
    """As much of a text as a run keeps."""
    return text if len(text) <= EXCERPT_CHARACTERS else text[: EXCERPT_CHARACTERS - 1] + "…"


def object_name(run: Run) -> str:
    """The name of what a run makes in Kubernetes: the same for each attempt, so that a second one finds it made."""
    base = run.rule_name.replace(".", "-")[:40].strip("-")
    return f"{base}-{run.id.hex[:20]}" if run.kind in (ActionKind.JOB, ActionKind.OBJECT) else run.id.hex
