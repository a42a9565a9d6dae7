"""A table of PostgreSQL as something that a sensor reads, and its sensor in trouble."""

import asyncio
from pathlib import Path
from typing import Any, Final, Literal

from support import source_chaos
from support.eventually import eventually
from support.nats_server import NatsServer
from support.postgres import PostgresServer
from support.source_chaos import Chaos, Outcome, ServerQueue

from attune_contract.identity import SensorRef

REF = SensorRef("attune-system", "core.postgres")
TYPE = "core.postgres"
TABLE: Final = "outbox"
Done = Literal["delete", "mark"]


def parameters_of(done: Done) -> dict[str, Any]:
    """What rules say to read the table."""
    marked = {"mark": "done_at"} if done == "mark" else {}
    return {"mode": "table", "table": TABLE, "done": done, "body": "data", **marked}


class Outbox(ServerQueue[PostgresServer]):
    """A table whose rows become events.

    Args:
        server: where it is.
    """

    def __init__(self, server: PostgresServer) -> None:
        super().__init__(server)
        self._runs = False
        self._standby: PostgresServer | None = None

    def follow(self) -> None:
        """Start the server, and have a standby follow it, which takes its place when it is killed for the first time."""
        self.start()
        self._standby = self.server.standby()

    def make(self) -> None:
        self.server.query(f"CREATE TABLE {TABLE} (id bigint PRIMARY KEY, data jsonb NOT NULL, done_at timestamptz)")

    def start(self) -> None:
        """Start the server, unless it runs; or promote its standby, which from then on is the server."""
        if self._runs:
            return
        if self._standby is None:
            self.server.start()
        else:
            gone, self.server, self._standby = self.server, self._standby, None
            self.server.promote()
            gone.remove()
        self._runs = True

    def kill(self) -> None:
        self._runs = False
        self.server.kill()

    def remove(self) -> None:
        """End everything and delete its files."""
        for server in (self.server, self._standby):
            if server is not None:
                server.remove()

    def addresses(self) -> str:
        """The URL, with the address of the standby, if there is one."""
        hosts = [self.server] if self._standby is None else [self.server, self._standby]
        return f"postgresql://attune@{','.join(f'127.0.0.1:{each.port}' for each in hosts)}/postgres"

    def send(self, numbers: range) -> None:
        """Add rows. Their ids are chosen here: rows whose answer was lost are the same events when they are sent again."""
        statement = (
            f"INSERT INTO {TABLE} SELECT n, jsonb_build_object('n', n) "
            f"FROM generate_series({numbers.start}, {numbers.stop - 1}) AS n ON CONFLICT DO NOTHING"
        )
        eventually(lambda: self._sent(statement), within=120, what="PostgreSQL takes the rows")

    def unacknowledged(self) -> int:
        return int(self.server.query(f"SELECT count(*) FROM {TABLE} WHERE done_at IS NULL"))

    def _sent(self, statement: str) -> bool:
        self.server.query(statement)
        return True


async def live_through(
    directory: Path, *, nats: NatsServer, chaos: Chaos, done: Done = "delete", standby: bool = False
) -> Outcome:
    """Send rows and let things fail; returns what became of them."""
    outbox = Outbox(PostgresServer())
    try:
        if standby:
            await asyncio.to_thread(outbox.follow)
        return await source_chaos.live_through(
            directory,
            outbox,
            module="attune_postgres",
            ref=REF,
            trigger_type=TYPE,
            config={"servers": {"default": {"url": outbox.addresses()}}},
            parameters=parameters_of(done),
            nats=nats,
            chaos=chaos,
        )
    finally:
        await asyncio.to_thread(outbox.remove)
