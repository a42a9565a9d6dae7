"""Settings, supervision, waiting, documentation: what holds the program together."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, OperationalError, StatementError

from attune_api.app import create_app
from attune_api.settings import Settings
from attune_api.storage.faults import is_about_a_row, is_dead, is_outage
from attune_kit.postgres.connect import ConnectError


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("ATTUNE_API_", "KUBERNETES_"))]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("given_url", "used"),
    [
        ("sqlite:////data/a.db", "sqlite:////data/a.db"),
        ("sqlite+aiosqlite:////data/a.db", "sqlite:////data/a.db"),
        (" sqlite:////data/a.db\n", "sqlite:////data/a.db"),
        ("postgres://u:p@h/d", "postgresql://u:p@h/d"),
        ("postgresql://u:p@h:5433/d", "postgresql://u:p@h:5433/d"),
        ("postgresql+asyncpg://h/d", "postgresql://h/d"),
        ("postgresql://u:p@h/d \r\n", "postgresql://u:p@h/d"),
    ],
)
def test_databases_that_can_be_used(given_url: str, used: str) -> None:
    assert Settings(database_url=given_url).database_url == used


@pytest.mark.parametrize(
    "url",
    [
        "mysql://u:geheim@h/d",
        "sqlite://",
        "sqlite:///:memory:",
        "u:geheim@h",
        "'postgresql://u:geheim@h/d'",
        "postgresql://u:ein@geheim@h/d",
        "postgresql://u:ein/geheim@h/d",
        "postgresql://u:ein?geheim@h/d",
        "postgresql://u:1?geheim@h/d",
        "postgresql://u:1/geheim@h/d",
        "postgresql://u:ein#geheim@h/d",
        "postgresql://u:geheim@h:port/d",
    ],
)
def test_others_are_refused_without_repeating_a_password(url: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Settings(database_url=url)
    assert "geheim" not in str(caught.value)


def test_settings_are_shown_without_secrets() -> None:
    settings = Settings(database_url="postgresql://u:geheim@h/d", nats_url="nats://u:geheim@n:4222")
    assert "geheim" not in json.dumps(settings.masked())
    assert "@h:5432/d" in settings.masked()["database_url"]
    settings = Settings(database_url="postgresql://h/d?user=u&password=geheim&sslmode=verify-full&sslpassword=geheim")
    assert "geheim" not in json.dumps(settings.masked())
    assert "sslmode=verify-full" in settings.masked()["database_url"]


def test_tables_are_migrated_at_start_on_sqlite_only_unless_told() -> None:
    assert Settings().migrates_at_start
    assert not Settings(database_url="postgresql://h/d").migrates_at_start
    assert Settings(database_url="postgresql://h/d", migrate_at_start=True).migrates_at_start


def test_the_cluster_is_found_where_a_service_account_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    token = tmp_path / "token"
    assert Settings(kubernetes_token_file=token).kubernetes_server() is None
    with pytest.raises(ValueError, match="ATTUNE_API_KUBERNETES_AUTH"):
        Settings(kubernetes_auth="on").kubernetes_server()
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "6443")
    assert Settings(kubernetes_token_file=token).kubernetes_server() is None
    token.write_text("t")
    assert Settings(kubernetes_token_file=token).kubernetes_server() == "https://[fd00::1]:6443"
    assert Settings(kubernetes_token_file=token, kubernetes_auth="off").kubernetes_server() is None


def test_a_setting_that_is_wrong_is_named_and_the_program_ends() -> None:
    environment = {"ATTUNE_API_PORT": "many", "ATTUNE_API_DATABASE_URL": "mysql://u:geheim@h/d"}
    done = subprocess.run(
        [sys.executable, "-m", "attune_api"], env=environment, capture_output=True, text=True, check=False, timeout=240
    )
    assert done.returncode == 2
    assert "ATTUNE_API_PORT: " in done.stderr
    assert "ATTUNE_API_DATABASE_URL: " in done.stderr
    assert "geheim" not in done.stderr + done.stdout


def _driver_error(kind: type[DBAPIError], *, sqlstate: str | None = None) -> DBAPIError:
    original = Exception()
    original.sqlstate = sqlstate  # type: ignore[attr-defined]
    return kind("statement", None, original)


def test_only_what_is_about_a_row_refuses_it() -> None:
    for error in (
        _driver_error(DataError),
        _driver_error(IntegrityError),
        _driver_error(DBAPIError, sqlstate="22P05"),
        _driver_error(DBAPIError, sqlstate="23505"),
        StatementError("a value", "statement", None, TypeError()),
    ):
        assert is_about_a_row(error)
        assert not is_outage(error)
    # Away, read-only, full, no connection left, shutting down, a file that cannot be read.
    codes = ("08006", "25006", "53100", "53300", "57P01", "57P03", "58030")
    outages = [_driver_error(DBAPIError, sqlstate=code) for code in codes]
    for outage in (*outages, _driver_error(OperationalError), OSError(), TimeoutError(), ConnectError("no")):
        assert is_outage(outage)
        assert not is_about_a_row(outage)
    assert [error.orig.sqlstate for error in outages if is_dead(error)] == ["08006", "25006", "57P01", "57P03"]  # type: ignore[union-attr]
    assert not is_outage(_driver_error(DBAPIError, sqlstate="57014"))  # a query that was cancelled
    # A damaged database: neither, so its events are neither refused nor promised.
    assert not is_about_a_row(_driver_error(DBAPIError, sqlstate="XX001"))


def _document() -> dict[str, Any]:
    return create_app().openapi()


def test_every_operation_is_documented_for_generators() -> None:
    document = _document()
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    ids = [operation["operationId"] for operation in operations]
    assert len(ids) == len(set(ids))
    for operation in operations:
        assert operation["summary"]
        for status, answer in operation["responses"].items():
            if int(status) >= 400 and operation["tags"] != ["operations"]:
                assert set(answer["content"]) == {"application/problem+json"}, operation["operationId"]


def test_every_reference_of_the_documentation_leads_somewhere() -> None:
    document = _document()
    schemas = document["components"]["schemas"]
    references = {part.split('"')[0] for part in json.dumps(document).split('"$ref": "')[1:]}
    assert references <= {f"#/components/schemas/{name}" for name in schemas}


def test_what_needs_a_token_says_so() -> None:
    document = _document()
    secured = {
        f"{method.upper()} {path}": [next(iter(scheme)) for scheme in operation.get("security", [])]
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    assert {name for name, schemes in secured.items() if not schemes} == {
        "GET /.well-known/jwks.json",
        "GET /health",
        "GET /ready",
        "GET /metrics",
    }
    assert secured["POST /api/v1/events"] == ["sensorToken"]
    assert secured["POST /auth/sensor-token"] == ["callerToken"]
