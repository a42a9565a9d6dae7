"""Runs in the database: the report with the highest revision stays, and each rule's numbers go with it.

**The order of ``seq`` is the order of commits**, as for events (:mod:`attune_api.events.ingest.sql`): numbers are drawn from a
row that stays locked until the transaction is visible. So writers take turns, and what is read after drawing is what is
replaced.
"""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Executable, delete, select, update
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from attune_api.runs.summaries import Summary
from attune_api.runs.table import COUNTER, NUMBERS, RUNS, SUMMARIES, as_row, summary_of
from attune_api.storage.sweeping import Chunk
from attune_contract.actions import Run, RunState

#: Runs deleted in one transaction.
CHUNK: Final = 500
#: Values in one list of a statement.
_LIST: Final = 500
_ENDED: Final = tuple(state.value for state in RunState if state.final)

_INSERT: Final[dict[str, Any]] = {"sqlite": sqlite_insert, "postgresql": postgresql_insert}


def _upsert(insert: Any, table: Any, key: str) -> Executable:
    statement = insert(table)
    changed = {column.name: statement.excluded[column.name] for column in table.c if column.name != key}
    found: Executable = statement.on_conflict_do_update(index_elements=[table.c[key]], set_=changed)
    return found


_UPSERT_RUNS: Final = {name: _upsert(insert, RUNS, "id") for name, insert in _INSERT.items()}
_UPSERT_SUMMARIES: Final = {name: _upsert(insert, SUMMARIES, "rule_uid") for name, insert in _INSERT.items()}
_FIRST_NUMBER: Final = {name: insert(NUMBERS).on_conflict_do_nothing() for name, insert in _INSERT.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What became of reports: ``changed`` were new, ``stale`` were not newer than what is stored."""

    changed: int
    stale: int


def draw_numbers(connection: Connection, *, count: int) -> int:
    """Reserve ``count`` numbers for this transaction; the last of them. Other writers wait until it ends."""
    statement = (
        update(NUMBERS).where(NUMBERS.c.name == COUNTER).values(last=NUMBERS.c.last + count).returning(NUMBERS.c.last)
    )
    last = connection.execute(statement).scalar_one_or_none()
    if last is None:
        connection.execute(_FIRST_NUMBER[connection.dialect.name], {"name": COUNTER, "last": 0})
        last = connection.execute(statement).scalar_one()
    return int(last)


def store_runs(connection: Connection, *, runs: Sequence[Run], now: datetime) -> Stored:
    """Keep what runner or API say about runs, where it is newer than what is known.

    Args:
        connection: in a transaction, which the caller commits.
        runs: reports, in any order; several may be about one run.
        now: the time.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: the database could not, or would not; nothing is stored.
    """
    newest: dict[uuid.UUID, Run] = {}
    for run in runs:
        known = newest.get(run.id)
        if known is None or known.revision < run.revision:
            newest[run.id] = run
    if not newest:
        return Stored(changed=0, stale=0)
    seq = draw_numbers(connection, count=len(newest)) - len(newest)
    before = _known(connection, newest)
    changed = [run for run in newest.values() if run.id not in before or before[run.id][0] < run.revision]
    if changed:
        summaries = _summaries(connection, {run.rule_uid for run in changed})
        rows: list[dict[str, Any]] = []
        places: dict[str, int] = {}
        for run in changed:
            seq += 1
            rows.append(as_row(run, seq=seq, now=now))
            summary = summaries.get(run.rule_uid) or Summary(
                rule_uid=run.rule_uid, rule_namespace=run.rule_namespace, rule_name=run.rule_name
            )
            state = before[run.id][1] if run.id in before else None
            summaries[run.rule_uid] = summary.after(run, before=state)
            places[run.rule_uid] = seq
        connection.execute(_UPSERT_RUNS[connection.dialect.name], rows)
        _write(connection, summaries.values(), places=places)
    return Stored(changed=len(changed), stale=len(runs) - len(changed))


def _known(connection: Connection, ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, tuple[int, str]]:
    """Revision and state of the runs that are stored."""
    wanted = list(ids)
    found: dict[uuid.UUID, tuple[int, str]] = {}
    for start in range(0, len(wanted), _LIST):
        statement = select(RUNS.c.id, RUNS.c.revision, RUNS.c.state).where(RUNS.c.id.in_(wanted[start : start + _LIST]))
        found |= {row.id: (row.revision, row.state) for row in connection.execute(statement)}
    return found


def _summaries(connection: Connection, uids: Iterable[str]) -> dict[str, Summary]:
    wanted = sorted(uids)
    found: dict[str, Summary] = {}
    for start in range(0, len(wanted), _LIST):
        statement = select(SUMMARIES).where(SUMMARIES.c.rule_uid.in_(wanted[start : start + _LIST]))
        found |= {row["rule_uid"]: summary_of(row) for row in connection.execute(statement).mappings()}
    return found


def _write(connection: Connection, summaries: Iterable[Summary], *, places: Mapping[str, int]) -> None:
    rows = [
        {**asdict(summary), "last_failure_message": summary.last_failure_message.replace("\0", "\ufffd")}
        | {"seq": places[summary.rule_uid]}
        for summary in summaries
    ]
    connection.execute(_UPSERT_SUMMARIES[connection.dialect.name], rows)


def delete_older(connection: Connection, *, beyond: int, before: datetime) -> Chunk:
    """Delete the oldest runs that have ended, a chunk at most.

    Args:
        connection: in a transaction.
        beyond: only those with a higher ``seq``.
        before: only those that were stored earlier.
    """
    oldest = connection.execute(
        select(RUNS.c.seq, RUNS.c.stored_at).where(RUNS.c.seq > beyond).order_by(RUNS.c.seq).limit(CHUNK)
    ).all()
    old = [seq for seq, stored_at in oldest if stored_at < before]
    deleted = _delete(connection, old)
    return Chunk(deleted=deleted, place=old[-1] if old and len(old) == len(oldest) == CHUNK else None)


def crowded(connection: Connection, *, after: str, most: int) -> tuple[list[tuple[str, int]], str | None]:
    """Rules with more than ``most`` runs, and the ``seq`` up to which their runs are too many.

    Args:
        connection: to read with.
        after: only rules behind this uid; a few of those are looked at.
        most: runs that each may have.

    Returns:
        the rules; and the uid to go on behind, None at the end.
    """
    uids = list(
        connection.execute(
            select(SUMMARIES.c.rule_uid)
            .where(SUMMARIES.c.rule_uid > after)
            .order_by(SUMMARIES.c.rule_uid)
            .limit(_RULES)
        ).scalars()
    )
    found: list[tuple[str, int]] = []
    for uid in uids:
        cut = connection.execute(
            select(RUNS.c.seq)
            .where(RUNS.c.rule_uid == uid)
            .order_by(RUNS.c.rule_uid.desc(), RUNS.c.seq.desc())
            .offset(most)
            .limit(1)
        ).scalar_one_or_none()
        if cut is not None:
            found.append((uid, cut))
    return found, uids[-1] if len(uids) == _RULES else None


_RULES: Final = 50


def delete_of_rule(connection: Connection, *, uid: str, up_to: int) -> int:
    """Delete a rule's oldest runs that have ended, up to a ``seq``, a chunk at most; how many."""
    seqs = connection.execute(
        select(RUNS.c.seq)
        .where(RUNS.c.rule_uid == uid, RUNS.c.seq <= up_to, RUNS.c.state.in_(_ENDED))
        .order_by(RUNS.c.seq)
        .limit(CHUNK)
    )
    return _delete(connection, list(seqs.scalars()))


def _delete(connection: Connection, seqs: Sequence[int]) -> int:
    """Delete runs that have ended, and take them out of their rules' numbers."""
    if not seqs:
        return 0
    last = draw_numbers(connection, count=1)
    gone: dict[tuple[str, str], int] = {}
    statement = (
        delete(RUNS).where(RUNS.c.seq.in_(seqs), RUNS.c.state.in_(_ENDED)).returning(RUNS.c.rule_uid, RUNS.c.state)
    )
    for uid, state in connection.execute(statement):
        gone[uid, state] = gone.get((uid, state), 0) + 1
    summaries = _summaries(connection, {uid for uid, _ in gone})
    for (uid, state), count in gone.items():
        if uid in summaries:
            summaries[uid] = summaries[uid].moved(before=state, after=None, times=count)
    if summaries:
        _write(connection, summaries.values(), places=dict.fromkeys(summaries, last))
    return sum(gone.values())


def forget_rules(connection: Connection, *, before: datetime) -> int:
    """Delete the numbers of rules that have no run any more, and had none since ``before``; how many."""
    none_left = [SUMMARIES.c[name] == 0 for name in ("succeeded", "failed", "skipped", "waiting")]
    recently = SUMMARIES.c.last_run_at
    return connection.execute(delete(SUMMARIES).where(*none_left, (recently.is_(None)) | (recently < before))).rowcount
