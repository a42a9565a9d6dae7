"""The token in a file that the operator renews."""

import base64
import json
from pathlib import Path

import pytest

from attune_sensor._credentials import TokenFile, parse_token
from attune_sensor._errors import CredentialsError


def jwt(**claims: object) -> str:
    part = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"e30.{part}.c2ln"


def test_token_is_read_with_its_expiry(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(jwt(exp=1_800_000_000) + "\n")
    token = TokenFile(path).read()
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
    file = TokenFile(tmp_path / "data" / "token")
    assert file.read().value == "one"
    (tmp_path / "next").symlink_to(tmp_path / "two")
    (tmp_path / "next").replace(tmp_path / "data")
    assert file.read().value == "two"


@pytest.mark.parametrize(("content", "reason"), [("", "empty"), ("  \n", "empty"), ("two words", "something other")])
def test_file_that_holds_no_token_is_a_clear_error(tmp_path: Path, content: str, reason: str) -> None:
    path = tmp_path / "token"
    path.write_text(content)
    with pytest.raises(CredentialsError, match=reason) as raised:
        TokenFile(path).read()
    assert str(path) in str(raised.value)


def test_missing_file_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(CredentialsError, match="No such file"):
        TokenFile(tmp_path / "absent").read()


def test_last_good_value_is_kept_while_the_file_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "token"
    file = TokenFile(path)
    with pytest.raises(CredentialsError):
        file.latest()
    path.write_text("good")
    assert file.latest().value == "good"
    path.write_text("")
    assert file.latest().value == "good"
    path.unlink()
    assert file.latest().value == "good"
