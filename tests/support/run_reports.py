"""Runs as the runner reports them, for tests."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

from attune_contract.actions import ActionKind, Run, RunReason, RunState, run_id

START = datetime(2026, 11, 23, 12, tzinfo=UTC)


def run(k: int, **changes: Any) -> Run:
    """A run of the rule ``rule-1`` for its event number ``k``, with some fields changed."""
    fields: dict[str, Any] = {
        "revision": 1,
        "event_id": uuid.UUID(int=k),
        "event_seq": k,
        "rule_uid": "rule-1",
        "rule_namespace": "default",
        "rule_name": "retry-import",
        "rule_generation": 1,
        "action": "tell",
        "kind": ActionKind.HTTP,
        "state": RunState.SUCCEEDED,
        "created_at": START + timedelta(seconds=k),
        "updated_at": START + timedelta(seconds=k),
        **changes,
    }
    fields |= {"state": RunState(fields["state"]), "reason": RunReason(fields.get("reason", ""))}
    fields.setdefault("id", run_id(fields["rule_uid"], fields["event_id"], fields["action"]))
    return Run(**fields)
