"""The conformance kit's checks of the PostgreSQL sensor, beside a real server. It needs no cluster, and takes a minute or two."""

import asyncio
from pathlib import Path

import pytest
from support.postgres import PostgresServer
from support.source_conformance import assert_conforms

pytestmark = pytest.mark.nats

#: Makes the table of each rule, and adds a row.
SEND = """
import asyncio, asyncpg
async def add(tables):
    connection = await asyncpg.connect(os.environ["POSTGRES"], timeout=10)
    try:
        for table in tables:
            await connection.execute(f'CREATE TABLE IF NOT EXISTS "{table}" (id bigserial PRIMARY KEY)')
            await connection.execute(f'INSERT INTO "{table}" DEFAULT VALUES')
    finally:
        await connection.close()
def send(rules):
    asyncio.run(add([rule["table"] for rule in rules if "table" in rule]))
"""


async def test_the_postgresql_sensor_conforms(tmp_path: Path) -> None:
    server = PostgresServer(client_min_messages="warning")
    await asyncio.to_thread(server.start)
    try:
        url = await asyncio.to_thread(server.create_database)
        await assert_conforms(
            tmp_path,
            module="attune_postgres",
            trigger_type="core.postgres",
            parameters={"mode": "table", "table": "$rule", "done": "delete"},
            bad_parameters={"mode": "table", "table": "t", "done": "delete", "server": "unknown"},
            occurrence="id",
            config={"servers": {"default": {"url": url}}},
            send=SEND,
            POSTGRES=url,
        )
    finally:
        await asyncio.to_thread(server.remove)
