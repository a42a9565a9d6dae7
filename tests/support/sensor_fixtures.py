"""Fixtures for sensors as processes: a scripted API, the rule stream, and a NATS server in operator mode."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from support.nats_accounts import NatsAccounts
from support.nats_server import NatsServer
from support.rule_stream import RuleStream
from support.scripted_api import ScriptedApi


@pytest.fixture
async def scripted_api() -> AsyncIterator[ScriptedApi]:
    """A server in the API's place."""
    server = ScriptedApi()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def stream(nats_server: NatsServer) -> AsyncIterator[RuleStream]:
    """The operator's side of an open NATS server."""
    writer = RuleStream(nats_server.url)
    await writer.connect()
    await writer.make_streams()
    yield writer
    await writer.close()


@pytest.fixture
def accounts() -> NatsAccounts:
    """Keys of a NATS operator and its account."""
    return NatsAccounts()


@pytest.fixture
def accounts_server(accounts: NatsAccounts, tmp_path: Path) -> Iterator[NatsServer]:
    """A NATS server that takes credentials of these accounts only."""
    directory = tmp_path / "nats"
    directory.mkdir()
    server = NatsServer(directory, extra_config=accounts.server_config())
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def accounts_stream(
    accounts_server: NatsServer, accounts: NatsAccounts, tmp_path: Path
) -> AsyncIterator[RuleStream]:
    """The operator's side of that server."""
    admin = tmp_path / "admin.creds"
    admin.write_text(accounts.creds())
    writer = RuleStream(accounts_server.url, creds=admin)
    await writer.connect()
    await writer.make_streams()
    yield writer
    await writer.close()
