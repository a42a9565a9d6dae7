"""The file that objects are kept in between runs: uids, creation times, Secrets and statuses survive.

SQLite in WAL mode without a flush per commit: a commit is a write to the page cache, some tens of microseconds, so it may be done
where the object changes, and nothing that an observer has seen is lost when the process is killed. The last moments before a
power cut may be; the file stays sound all the same.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from attune_operator.public.objects import Kind, Object

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS objects (
    api_group TEXT NOT NULL, version TEXT NOT NULL, kind TEXT NOT NULL, plural TEXT NOT NULL, namespaced INTEGER NOT NULL,
    namespace TEXT NOT NULL, name TEXT NOT NULL,
    body TEXT NOT NULL, applied TEXT NOT NULL,
    PRIMARY KEY (api_group, plural, namespace, name)
) WITHOUT ROWID
"""


@dataclass(frozen=True, slots=True)
class Row:
    """An object, and what each field manager last applied of it."""

    kind: Kind
    body: Object
    applied: dict[str, Any]


class ObjectFile:
    """One SQLite file, written by one thread."""

    def __init__(self, path: Path) -> None:
        path.touch(mode=0o600)  # it holds Secrets
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = NORMAL")
        self._connection.execute(_SCHEMA)

    def load(self) -> Iterator[Row]:
        """Everything."""
        rows = self._connection.execute(
            "SELECT api_group, version, kind, plural, namespaced, body, applied FROM objects"
        )
        for group, version, kind, plural, namespaced, body, applied in rows:
            yield Row(Kind(kind, plural, group, version, bool(namespaced)), json.loads(body), json.loads(applied))

    def put(self, rows: Iterable[Row]) -> None:
        """Keep these objects, in one commit."""
        values = [
            (
                row.kind.group, row.kind.version, row.kind.kind, row.kind.plural, int(row.kind.namespaced),
                row.body["metadata"].get("namespace", ""), row.body["metadata"]["name"],
                json.dumps(row.body, separators=(",", ":")), json.dumps(row.applied, separators=(",", ":")),
            )
            for row in rows
        ]  # fmt: skip
        self._connection.execute("BEGIN")
        self._connection.executemany("INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", values)
        self._connection.execute("COMMIT")

    def remove(self, kind: Kind, namespace: str, name: str) -> None:
        """Forget an object."""
        self._connection.execute(
            "DELETE FROM objects WHERE api_group = ? AND plural = ? AND namespace = ? AND name = ?",
            (kind.group, kind.plural, namespace, name),
        )

    def close(self) -> None:
        """Close the file."""
        self._connection.close()
