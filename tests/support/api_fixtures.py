"""Fixtures of the API's tests: ``pytest_plugins = ["support.api_fixtures"]``."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text
from support.api_process import ApiProcess
from support.postgres import PostgresServer

from attune_api.settings import Settings
from attune_api.storage.opening import open_database


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server for the whole run; tests take databases of it."""
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.remove()


def _empty_database(kind: str, request: pytest.FixtureRequest, directory: Path) -> str:
    if kind == "sqlite":
        return f"sqlite:///{directory}/attune.db"
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.create_database()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind, so that one test runs on both."""
    return _empty_database(request.param, request, tmp_path)


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ApiProcess]:
    """The API on SQLite, of this test's own."""
    with ApiProcess(tmp_path / "api") as process:
        yield process


@pytest.fixture(scope="module")
def shared_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiProcess]:
    """The API on SQLite, for the tests of a module that do not mind what others left in it."""
    with ApiProcess(tmp_path_factory.mktemp("api")) as process:
        yield process


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def _shared_on_each(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiProcess]:
    directory = tmp_path_factory.mktemp("api")
    with ApiProcess(directory, database_url=_empty_database(request.param, request, directory)) as process:
        yield process


@pytest.fixture
async def api_on_each(_shared_on_each: ApiProcess) -> ApiProcess:
    """The API on SQLite and on PostgreSQL, with no events in it. One process serves a module; starting one takes seconds."""
    database = open_database(Settings(database_url=_shared_on_each.database_url).database_url)
    await database.write(lambda connection: connection.execute(text("DELETE FROM events")))
    await database.close()
    return _shared_on_each
