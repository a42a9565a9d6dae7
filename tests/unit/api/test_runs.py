"""A rule's numbers of runs, and which runs a filter wants, as pure functions."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from support.run_reports import run

from attune_api.runs.feed import RunFrame
from attune_api.runs.query import RunFilter
from attune_api.runs.summaries import BUCKETS, Summary
from attune_api.runs.table import as_row, head
from attune_contract.actions import RunReason, RunState

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
EMPTY = Summary(rule_uid="r", rule_namespace="default", rule_name="n")


def test_every_state_is_counted_somewhere() -> None:
    assert set(BUCKETS) == set(RunState)


def test_a_run_that_moves_on_is_counted_once() -> None:
    summary = EMPTY
    before = None
    for state in (RunState.PENDING, RunState.RUNNING, RunState.WAITING, RunState.FAILED, RunState.SUCCEEDED):
        summary = summary.after(run(1, state=state), before=before)
        before = state
    assert (summary.succeeded, summary.failed, summary.skipped, summary.waiting) == (1, 0, 0, 0)
    gone = summary.moved(before=RunState.SUCCEEDED, after=None)
    assert (gone.succeeded, gone.failed, gone.skipped, gone.waiting) == (0, 0, 0, 0)


def test_the_last_failure_stays_known_after_a_success() -> None:
    failed = run(1, state=RunState.FAILED, reason=RunReason.TIMED_OUT, message="no answer", updated_at=NOW)
    later = run(2, state=RunState.SUCCEEDED, updated_at=NOW + timedelta(seconds=1))
    summary = EMPTY.after(failed, before=None).after(later, before=None)
    assert (summary.last_failure_reason, summary.last_failure_message) == ("TimedOut", "no answer")
    assert summary.last_failure_run == failed.id
    assert summary.last_success_at == later.updated_at == summary.last_run_at


def test_an_older_failure_does_not_replace_a_newer_one() -> None:
    newer = run(1, state=RunState.FAILED, message="newer", updated_at=NOW)
    older = run(2, state=RunState.FAILED, message="older", updated_at=NOW - timedelta(seconds=1))
    assert EMPTY.after(newer, before=None).after(older, before=None).last_failure_message == "newer"


@pytest.mark.parametrize(
    ("changes", "is_failure"),
    [
        ({"reason": RunReason.TARGET_UNREACHABLE, "attempts_made": 1}, True),
        ({"reason": RunReason.RATE_LIMITED, "attempts_made": 1}, False),
        ({"reason": RunReason.NONE, "attempts_made": 0}, False),
    ],
)
def test_a_run_that_waits_after_a_failed_attempt_is_a_failure(changes: dict[str, Any], is_failure: bool) -> None:
    summary = EMPTY.after(run(1, state=RunState.WAITING, updated_at=NOW, **changes), before=None)
    assert (summary.last_failure_at == NOW) is is_failure
    assert summary.last_failure_state == ("Waiting" if is_failure else "")


def test_skipped_runs_are_no_last_run() -> None:
    assert EMPTY.after(run(1, state=RunState.SKIPPED), before=None).last_run_at is None


@pytest.mark.parametrize(
    ("where", "wanted"),
    [
        ({}, True),
        ({"rule_uid": "rule-1"}, True),
        ({"rule_uid": "other"}, False),
        ({"state": "Failed"}, True),
        ({"state": "Failed", "reason": "TimedOut"}, False),
        ({"event_id": uuid.UUID(int=1)}, True),
        ({"event_id": uuid.UUID(int=2)}, False),
        ({"updated_after": NOW}, True),
        ({"updated_after": NOW + timedelta(microseconds=1)}, False),
        ({"updated_before": NOW}, False),
        ({"updated_before": NOW + timedelta(microseconds=1)}, True),
    ],
)
def test_a_filter_is_tried_on_runs_in_memory(where: dict[str, Any], wanted: bool) -> None:
    row: Any = as_row(run(1, state=RunState.FAILED, updated_at=NOW), seq=5, now=NOW)
    frame = RunFrame(head(row))
    assert RunFilter(**where).matches(frame.candidate) is wanted
    assert frame.data.startswith(b'id: 5\ndata: {"id":"')


def test_an_index_is_chosen_by_what_is_rarest() -> None:
    assert RunFilter(rule_uid="r", state="Failed").driver == ("rule_uid",)
    assert RunFilter(rule_namespace="a", rule_name="b", state="Failed").driver == ("rule_namespace", "rule_name")
    assert RunFilter(rule_namespace="a", state="Failed").driver == ("state",)
    assert RunFilter(rule_namespace="a", state="Succeeded").driver == ("rule_namespace",)
    assert RunFilter(event_id=uuid.UUID(int=1), rule_uid="r").driver == ("event_id",)
    assert RunFilter(action="tell").driver == ()
