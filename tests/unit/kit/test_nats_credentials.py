"""NATS credentials are read from a file, and sign without showing their seed."""

import base64

import pytest

from attune_kit.nats.credentials import parse_nats_credentials

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
    with pytest.raises(ValueError, match="holds no NATS credentials"):
        parse_nats_credentials(content)


def test_seed_that_is_none_is_a_clear_error() -> None:
    with pytest.raises(ValueError, match="seed in the NATS credentials is not valid") as raised:
        parse_nats_credentials(CREDS.replace(b"TC4RHQLKBX55NIQXSMATZDOZK6FNEOSS36CAYA7F7TY66LP4BOM", b"")).sign("nonce")
    assert "SUAP" not in str(raised.value)
