from pathlib import Path

import pytest

from attune_kit.secret_files import MissingSecretError
from attune_kit.server_secrets import ServerSecrets
from attune_kit.tls import TlsError


@pytest.fixture
def secrets(tmp_path: Path) -> ServerSecrets:
    folder = tmp_path / "orders"
    folder.mkdir()
    (folder / "password").write_text("s3cret\n")
    (folder / "ca.crt").write_text("no certificate")
    return ServerSecrets(tmp_path)


def test_what_is_referred_to_is_given(secrets: ServerSecrets, tmp_path: Path) -> None:
    assert secrets.text("a", "password", "orders/password") == "s3cret"
    assert secrets.file("a", "ca", "orders/ca.crt") == tmp_path / "orders" / "ca.crt"


def test_a_field_that_is_not_set_gives_nothing(secrets: ServerSecrets) -> None:
    assert secrets.text("a", "password", None) is None
    assert secrets.file("a", "ca", None) is None
    assert secrets.tls("a", None).check_hostname


def test_a_missing_one_is_told_with_its_place(secrets: ServerSecrets) -> None:
    place = r"spec\.config\.servers\.a\.%s of the Sensor: orders/none is not mounted"
    with pytest.raises(MissingSecretError, match=place % "password"):
        secrets.text("a", "password", "orders/none")
    with pytest.raises(MissingSecretError, match=place % "ca"):
        secrets.tls("a", "orders/none")


def test_an_authority_without_a_certificate_is_refused(secrets: ServerSecrets) -> None:
    with pytest.raises(TlsError):
        secrets.tls("a", "orders/ca.crt")
