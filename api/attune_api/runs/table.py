"""The tables of runs, and how their rows are read and written."""

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, RowMapping, select

from attune_api.events.table import rfc3339
from attune_api.runs.summaries import Summary
from attune_api.runs.views import RunHead, RunView
from attune_api.storage.tables import METADATA
from attune_contract.actions import Attempt, Run

RUNS: Final = METADATA.tables["runs"]
SUMMARIES: Final = METADATA.tables["run_summaries"]
NUMBERS: Final = METADATA.tables["run_numbers"]
#: The row of :data:`NUMBERS`.
COUNTER: Final = "runs"

#: The columns that a line of a list is made of.
HEAD_COLUMNS: Final = tuple(RUNS.c[name] for name in RunHead.__struct_fields__)
_NEWEST: Final = select(NUMBERS.c.last).where(NUMBERS.c.name == COUNTER)
_TIMES: Final = frozenset({"created_at", "updated_at", "next_attempt_at"})


def newest_seq(connection: Connection) -> int:
    """The ``seq`` of the last change; 0 when there was none."""
    return int(connection.execute(_NEWEST).scalar_one_or_none() or 0)


def as_row(run: Run, *, seq: int, now: datetime) -> dict[str, Any]:
    """The row of a run.

    Args:
        run: its newest state.
        seq: the place of this change.
        now: when it is stored.
    """
    row = {name: _storable(value) for name, value in msgspec.structs.asdict(run).items()}
    return {
        **row,
        "kind": run.kind.value,
        "state": run.state.value,
        "reason": run.reason.value,
        "attempts": msgspec.to_builtins(run.attempts),
        "seq": seq,
        "stored_at": now,
    }


def _storable(value: Any) -> Any:
    # PostgreSQL's texts cannot hold it, and an answer's excerpt may.
    return value.replace("\0", "\ufffd") if isinstance(value, str) else value


def _fields(row: RowMapping, names: Sequence[str]) -> dict[str, Any]:
    fields = {name: row[name] for name in names}
    for name in _TIMES & fields.keys():
        time = fields[name]
        fields[name] = None if time is None else rfc3339(time.astimezone(UTC))
    return fields


def head(row: RowMapping) -> RunHead:
    """A row as a line of a list."""
    return RunHead(**_fields(row, RunHead.__struct_fields__))


def view(row: RowMapping) -> RunView:
    """A row as a reader gets it."""
    return RunView(**_fields(row, RunView.__struct_fields__))


def run_of(row: RowMapping) -> Run:
    """A row as the message that it came from."""
    fields = {name: row[name] for name in Run.__struct_fields__ if name not in ("attempts", "result")}
    run: Run = msgspec.convert(fields, Run, builtin_types=(uuid.UUID, datetime))
    return msgspec.structs.replace(
        run,
        attempts=msgspec.json.decode(row["attempts"], type=tuple[Attempt, ...]),
        result=msgspec.json.decode(row["result"], type=dict[str, Any] | None),
    )


def summary_of(row: RowMapping) -> Summary:
    """A row of :data:`SUMMARIES`."""
    return Summary(**{name: row[name] for name in Summary.__dataclass_fields__})


def get_run(connection: Connection, *, run_id: uuid.UUID) -> RowMapping | None:
    """The row of one run."""
    return connection.execute(select(RUNS).where(RUNS.c.id == run_id)).mappings().one_or_none()
