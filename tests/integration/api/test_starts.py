"""Databases that cannot be used: one line of the log says what is wrong and what to do, and holds no password."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, text
from support.certificates import Authority
from support.postgres import PostgresServer

from attune_api.settings import Settings
from attune_api.storage.faults import OUTAGES, explain
from attune_api.storage.opening import open_database
from attune_local.ports import free_port

pytest_plugins = ["support.api_fixtures"]

SECRET = "geheim-geheim"


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """A server with TLS, which asks some for a password, with the CA's file ``ca.pem`` in its directory."""
    authority = Authority()
    certificate, key = authority.issue("localhost")
    server = PostgresServer()
    for name, content in {
        "ca.pem": authority.pem,
        "other.pem": Authority().pem,
        "tls.crt": certificate,
        "tls.key": key,
        "hba": "host all secret all scram-sha-256\nhost all all all trust\nlocal all all trust\n",
    }.items():
        server.place(name, content)
    server.configure(
        ssl="on",
        ssl_cert_file=str(server.directory / "tls.crt"),
        ssl_key_file=str(server.directory / "tls.key"),
        hba_file=str(server.directory / "hba"),
    )
    try:
        server.start()
        server.create_database()
        server.query(f"CREATE ROLE secret LOGIN PASSWORD '{SECRET}'")
        server.query("CREATE ROLE poor LOGIN")
        yield server
    finally:
        server.remove()


async def _connect(url: str) -> str:
    """What the application is called that the server sees, or why it cannot be connected to."""
    settings = Settings(database_url=url)
    assert SECRET not in json.dumps(settings.masked())
    database = open_database(settings.database_url)
    try:
        return await database.write(lambda connection: str(connection.execute(text("SHOW application_name")).scalar()))
    except OUTAGES as error:
        said = explain(error)
        assert SECRET not in said
        assert "\n" not in said
        return said
    finally:
        await database.close()


async def test_urls_of_a_server_with_tls_and_passwords(strict: PostgresServer) -> None:
    where, folder = f"localhost:{strict.port}/test_1", strict.directory
    good = f"sslmode=verify-full&sslrootcert={folder}/ca.pem"
    for url, said in {
        f"postgresql://secret:{SECRET}@{where}": "attune-api",
        f"postgresql://secret:{SECRET}@{where}?{good}&channel_binding=require&application_name=mine": "mine",
        f"postgres://secret:{SECRET}@{where}?sslmode=require&options=-c%20application_name%3Dours": "attune-api",
        f"postgresql:///test_1?host={folder}&port={strict.port}&user=attune": "attune-api",
        f"postgresql://attune@%2F{str(folder)[1:].replace('/', '%2F')}:{strict.port}/test_1": "attune-api",
        f"postgresql://127.0.0.1:{free_port()},{where}?user=secret&password={SECRET}&{good}": "attune-api",
    }.items():
        assert await _connect(url) == said, url
    for url, said in {
        f"postgresql://secret:{SECRET}x@{where}": "check the user and the password",
        f"postgresql://secret@{where}": "password",
        f"postgresql://attune@localhost:{strict.port}/nobody": "create the database",
        f"postgresql://attune@{where}?sslmode=verify-full&sslrootcert={folder}/other.pem": "sslrootcert",
        f"postgresql://attune@{where}?sslmode=verify-full&sslrootcert={folder}/none.pem": "No such file",
        f"postgresql://attune@127.0.0.1:{strict.port}/test_1?{good}": "sslrootcert",
        f"postgresql://attune@127.0.0.1:{free_port()}/test_1": "nothing listens there",
    }.items():
        assert said in await _connect(url), url


async def test_sessions_have_their_settings_without_asking_for_them_while_connecting(postgres: PostgresServer) -> None:
    """Poolers refuse what they do not know while connecting."""
    database = open_database(Settings(database_url=postgres.create_database()).database_url)

    def shown(connection: Connection) -> dict[str, str]:
        names = ("statement_timeout", "enable_bitmapscan", "TimeZone", "application_name")
        return {name: str(connection.execute(text(f"SHOW {name}")).scalar_one()) for name in names}

    both = {"TimeZone": "UTC", "application_name": "attune-api"}
    try:
        assert await database.read(shown) == {"statement_timeout": "10s", "enable_bitmapscan": "off", **both}
        assert await database.write(shown) == {"statement_timeout": "0", "enable_bitmapscan": "on", **both}
    finally:
        await database.close()


async def test_a_server_without_tls(postgres: PostgresServer) -> None:
    url = postgres.create_database()
    assert "has no TLS" in await _connect(f"{url}?sslmode=require")


def _start(command: str, url: str) -> tuple[int, str, dict[str, object]]:
    environment = {
        "PATH": os.environ["PATH"],
        "ATTUNE_API_DATABASE_URL": url,
        "ATTUNE_API_HOST": "127.0.0.1",
        "ATTUNE_API_PORT": "0",
        "ATTUNE_API_KUBERNETES_AUTH": "off",
    }
    done = subprocess.run(
        [sys.executable, "-m", "attune_api", command], env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.stderr == ""
    settings, failed = (json.loads(line) for line in done.stdout.splitlines())
    assert settings["event"] == "settings"
    assert failed["event"] == "failed"
    return done.returncode, done.stdout, failed


@pytest.mark.parametrize("command", ["serve", "migrate"])
def test_a_start_that_fails_is_one_line(strict: PostgresServer, tmp_path: Path, command: str) -> None:
    status, output, failed = _start(command, f"postgresql://secret:{SECRET}x@localhost:{strict.port}/test_1\n")
    assert status == 1
    assert "check the user and the password" in str(failed["error"])
    assert SECRET not in output
    if command == "migrate":
        _, _, failed = _start(command, f"postgresql://poor@localhost:{strict.port}/test_1")
        assert "GRANT USAGE, CREATE ON SCHEMA public" in str(failed["error"])
        return
    (tmp_path / "attune.db").write_text("this is no database at all, but text that is long enough to be looked at" * 20)
    _, _, failed = _start(command, f"sqlite:///{tmp_path}/attune.db")
    assert "restore a backup" in str(failed["error"])
