"""Credentials in files that somebody else renews."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from attune_sensor.credentials import CredentialFile, parse_nats_credentials, parse_token
from attune_sensor.errors import CredentialsError


def jwt(**claims: object) -> str:
    part = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"e30.{part}.c2ln"


def test_token_is_read_with_its_expiry(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(jwt(exp=1_800_000_000) + "\n")
    token = CredentialFile(path=path, parse=parse_token).read()
    assert token.value == path.read_text().strip()
    assert token.expires_at == 1_800_000_000
    assert token.value not in repr(token)


@pytest.mark.parametrize("text", ["opaque", "a.b.c", "e30.W10.c2ln", jwt(exp="soon"), jwt(exp=True)])
def test_token_that_says_no_expiry_has_none(text: str) -> None:
    assert parse_token(text.encode()).expires_at is None


def test_renewed_file_is_seen_though_it_is_another_file(tmp_path: Path) -> None:
    """A Secret volume is renewed by pointing a symlink elsewhere."""
    for generation in ("one", "two"):
        (tmp_path / generation).mkdir()
        (tmp_path / generation / "token").write_text(generation)
    (tmp_path / "data").symlink_to(tmp_path / "one")
    file = CredentialFile(path=tmp_path / "data" / "token", parse=parse_token)
    assert file.read().value == "one"
    (tmp_path / "next").symlink_to(tmp_path / "two")
    (tmp_path / "next").replace(tmp_path / "data")
    assert file.read().value == "two"


def test_file_that_looks_unchanged_is_parsed_once(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("one")
    parsed: list[bytes] = []

    def parse(content: bytes) -> Any:
        parsed.append(content)
        return parse_token(content)

    file = CredentialFile(path=path, parse=parse)
    assert file.read() == file.read() == file.read(fresh=True)
    assert parsed == [b"one"]
    path.write_text("other")
    assert file.read().value == "other"


@pytest.mark.parametrize(("content", "reason"), [("", "empty"), ("  \n", "empty"), ("two words", "something else")])
def test_file_that_holds_no_token_is_a_clear_error(tmp_path: Path, content: str, reason: str) -> None:
    path = tmp_path / "token"
    path.write_text(content)
    with pytest.raises(CredentialsError, match=reason) as raised:
        CredentialFile(path=path, parse=parse_token).read()
    assert str(path) in str(raised.value)


def test_missing_file_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(CredentialsError, match="No such file"):
        CredentialFile(path=tmp_path / "absent", parse=parse_token).read()


CREDS = b"""-----BEGIN NATS USER JWT-----
eyJ0eXAi.part.sig
------END NATS USER JWT------

************************* IMPORTANT *************************
-----BEGIN USER NKEY SEED-----
SUAPM67TC4RHQLKBX55NIQXSMATZDOZK6FNEOSS36CAYA7F7TY66LP4BOM
------END USER NKEY SEED------
"""


def test_nats_credentials_are_read_and_sign() -> None:
    credentials = parse_nats_credentials(CREDS)
    assert credentials.jwt == b"eyJ0eXAi.part.sig"
    assert len(base64.b64decode(credentials.sign("nonce"))) == 64
    assert "SUAP" not in repr(credentials)


@pytest.mark.parametrize("content", [b"", CREDS[:60], CREDS.replace(b"SEED", b"SAND")])
def test_half_written_nats_credentials_are_an_error(content: bytes) -> None:
    with pytest.raises(ValueError, match="not NATS credentials"):
        parse_nats_credentials(content)


def test_seed_that_is_none_is_a_clear_error() -> None:
    with pytest.raises(CredentialsError, match="seed cannot be used") as raised:
        parse_nats_credentials(CREDS.replace(b"TC4RHQLKBX55NIQXSMATZDOZK6FNEOSS36CAYA7F7TY66LP4BOM", b"")).sign("nonce")
    assert "SUAP" not in str(raised.value)


def test_last_good_value_is_kept_while_the_file_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "token"
    file = CredentialFile(path=path, parse=parse_token)
    with pytest.raises(CredentialsError):
        file.latest()
    path.write_text("good")
    assert file.latest().value == "good"
    path.write_text("")
    assert file.latest().value == "good"
    path.unlink()
    assert file.latest().value == "good"
