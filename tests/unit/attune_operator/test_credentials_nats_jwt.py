"""NATS keys and users: made, read, and refused when damaged."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from attune_contract.identity import SensorRef
from attune_operator.credentials import nats_auth, nats_jwt
from attune_operator.credentials.mint import DamagedError

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
REF = SensorRef("attune-system", "core.timer")
COUNTER = iter(range(1, 200))
KEYS = nats_auth.make_keys(now=NOW, new_seed=lambda: bytes([next(COUNTER)]) * 32)


def creds(seed: bytes = b"u" * 32) -> str:
    return nats_jwt.user_creds(
        user_seed=nats_jwt.make_seed("user", seed),
        signing_seed=KEYS.signing,
        account=nats_jwt.public_of(KEYS.account),
        name=REF.login,
        subject="uid-1",
        permissions=nats_auth.sensor_permissions(REF),
        issued_at=NOW,
        expires_at=NOW + timedelta(hours=1),
    )


def test_what_is_written_is_what_is_read() -> None:
    user = nats_jwt.read_creds(creds())
    assert (user.name, user.subject, user.expires_at) == (REF.login, "uid-1", NOW + timedelta(hours=1))
    assert user.issuer == nats_jwt.public_of(KEYS.signing)
    assert user.permissions == nats_auth.sensor_permissions(REF)


def test_a_sensor_is_allowed_four_subjects() -> None:
    assert nats_auth.sensor_permissions(REF) == nats_jwt.Permissions(
        publish=(
            "$JS.API.CONSUMER.CREATE.ATTUNE_RULES.*.attune.rules.attune-system.core_timer.>",
            "$JS.FC.ATTUNE_RULES.>",
            "attune.acks.attune-system.core_timer.>",
        ),
        subscribe=("_INBOX_attune-system_core_timer.>",),
    )


def test_damaged_credentials_are_refused_and_not_shown() -> None:
    good = creds()
    token = good.splitlines()[1]
    seed = good.splitlines()[5]
    other_seed = nats_jwt.make_seed("user", b"o" * 32)
    head, payload, signature = token.split(".")
    for text, why in (
        ("", "no NATS USER JWT"),
        (good.split("-----BEGIN USER")[0], "no USER NKEY SEED"),
        (good.replace(token, "a.b"), "cannot be read"),
        (good.replace(token, "a.b.c"), "cannot be read"),
        (good.replace(token, f"{head}.{payload}.{signature[:-6]}AAAAAA"), "does not verify"),
        (good.replace(seed, other_seed), "does not match"),
        (good.replace(seed, "SUNOTASEED"), "does not match"),
    ):
        with pytest.raises(DamagedError, match=why) as refused:
            nats_jwt.read_creds(text)
        assert seed not in str(refused.value)
        assert token not in str(refused.value)


def test_the_configuration_follows_from_the_keys_alone() -> None:
    assert nats_auth.server_config(KEYS) == nats_auth.server_config(nats_auth.load(nats_auth.dump(KEYS)))
    for secret in (KEYS.operator, KEYS.account, KEYS.signing, KEYS.system):
        assert secret not in nats_auth.server_config(KEYS)
        assert secret not in repr(KEYS)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"operator": "SOAB"}'])
def test_damaged_keys_are_refused(text: str) -> None:
    with pytest.raises(ValueError):
        nats_auth.load(text)


def test_keys_of_another_role_are_refused() -> None:
    with pytest.raises(ValueError, match="other roles"):
        nats_auth.load(nats_auth.dump(replace(KEYS, operator=KEYS.account)))
