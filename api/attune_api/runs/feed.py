"""Runs as they change, for those who follow them: what :class:`attune_api.events.stream.feed.Feed` reads."""

import msgspec
from sqlalchemy import Connection

from attune_api.events.stream.feed import Portion, Stretch
from attune_api.runs.query import RunFilter, read_page, walk
from attune_api.runs.table import newest_seq
from attune_api.runs.views import RunHead
from attune_api.storage.database import Database

_ABOVE_ALL = 2**63 - 1
_ANY = RunFilter()


class RunFrame:
    """A run as a reader gets it, encoded once for all."""

    __slots__ = ("candidate", "data", "seq")

    def __init__(self, run: RunHead) -> None:
        self.seq = run.seq
        self.candidate = run
        self.data = frame(run)


def frame(run: RunHead) -> bytes:
    """A run as a server-sent event (WHATWG HTML, "Server-sent events")."""
    return b"id: %d\ndata: %s\n\n" % (run.seq, msgspec.json.encode(run))


class RunSource:
    """Runs by the order of their changes. Of a run that changes often, a reader who is behind gets the newest state alone."""

    def newest(self, connection: Connection) -> int:
        """The ``seq`` of the last change."""
        return newest_seq(connection)

    def beyond(self, connection: Connection, *, place: int, limit: int, most_bytes: int) -> Stretch[RunFrame]:
        """The next changes behind a place."""
        found = walk(connection, where=_ANY, order="asc", low=place, high=_ABOVE_ALL, limit=limit)
        return Stretch(items=[RunFrame(run) for run in found.runs], more=found.reached is not None)

    async def page(self, database: Database, *, where: RunFilter, place: int, limit: int) -> Portion:
        """What a reader who is behind is given."""
        page = await read_page(database, where=where, order="asc", beyond=place, limit=limit)
        return Portion(frames=[frame(run) for run in page.runs], seen=page.seen, more=page.more is not None)
