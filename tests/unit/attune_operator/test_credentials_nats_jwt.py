"""NATS keys and users: made, read, and refused when damaged."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from attune_contract.claims import MAX_TTL
from attune_contract.identity import SensorRef
from attune_operator.credentials import nats_accounts, nats_jwt, nats_keys, nats_permissions, nats_revocations
from attune_operator.credentials.mint import DamagedError

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
REF = SensorRef("attune-system", "core.timer")
COUNTER = iter(range(1, 200))
KEYS = nats_keys.make_keys(now=NOW, new_seed=lambda: bytes([next(COUNTER)]) * 32)


def loaded(text: str) -> nats_keys.NatsKeys:
    return nats_keys.load(text, new_seed=lambda: b"n" * 32)


def creds(seed: bytes = b"u" * 32) -> str:
    return nats_jwt.user_creds(
        user_seed=nats_jwt.make_seed("user", seed),
        signing_seed=KEYS.signing,
        account=nats_jwt.public_of(KEYS.account),
        name=REF.login,
        subject="uid-1",
        permissions=nats_permissions.sensor_permissions(REF, uid="uid-1"),
        issued_at=NOW,
        expires_at=NOW + timedelta(hours=1),
    )


def test_what_is_written_is_what_is_read() -> None:
    user = nats_jwt.read_creds(creds())
    assert (user.name, user.subject, user.expires_at) == (REF.login, "uid-1", NOW + timedelta(hours=1))
    assert user.issuer == nats_jwt.public_of(KEYS.signing)
    assert user.permissions == nats_permissions.sensor_permissions(REF, uid="uid-1")


def test_a_sensor_is_allowed_the_calls_on_consumers_of_its_names_and_its_acks() -> None:
    permissions = nats_permissions.sensor_permissions(REF, uid="uid-1")
    names = [f"uid-1-{number}" for number in range(24)]
    assert permissions == nats_jwt.Permissions(
        publish=(
            *(
                f"attune.js.CONSUMER.CREATE.ATTUNE_RULES.{name}.attune.rules.attune-system.core_timer.>"
                for name in names
            ),
            *(f"attune.js.CONSUMER.MSG.NEXT.ATTUNE_RULES.{name}" for name in names),
            *(f"attune.js.CONSUMER.DELETE.ATTUNE_RULES.{name}" for name in names),
            "attune.acks.attune-system.core_timer.>",
        ),
        subscribe=("_INBOX_attune-system_core_timer.>",),
        subscriptions=64,
        payload=64 * 1024,
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
    assert nats_accounts.server_config(KEYS) == nats_accounts.server_config(loaded(nats_keys.dump(KEYS)))
    for secret in (
        getattr(KEYS, each)
        for each in ("operator", "account", "signing", "system", "rules", "sensors", "sensors_signing")
    ):
        assert secret not in nats_accounts.server_config(KEYS)
        assert secret not in repr(KEYS)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"operator": "SOAB"}'])
def test_damaged_keys_are_refused(text: str) -> None:
    with pytest.raises(ValueError):
        loaded(text)


def test_keys_of_another_role_are_refused() -> None:
    with pytest.raises(ValueError, match="other roles"):
        loaded(nats_keys.dump(replace(KEYS, operator=KEYS.account)))


def test_keys_of_a_version_without_accounts_of_sensors_keep_what_they_are() -> None:
    document = json.loads(nats_keys.dump(KEYS))
    for name in ("rules", "sensors", "sensors_signing"):
        del document[name]
    keys = loaded(json.dumps(document))
    assert (keys.operator, keys.account, keys.signing, keys.system) == (
        KEYS.operator,
        KEYS.account,
        KEYS.signing,
        KEYS.system,
    )
    assert all(nats_jwt.public_of(seed).startswith("A") for seed in (keys.rules, keys.sensors, keys.sensors_signing))


def test_a_sensors_key_follows_from_its_uid() -> None:
    one, same, other = (nats_keys.sensor_seed(KEYS, uid) for uid in ("uid-1", "uid-1", "uid-2"))
    assert one == same != other
    assert nats_jwt.public_of(one).startswith("U")


def test_accounts_that_differ_in_when_they_were_issued_are_the_same() -> None:
    def sensors(issued_at: datetime, revoked: dict[str, int]) -> str:
        accounts = nats_accounts.account_jwts(KEYS, issued_at=issued_at, revoked=revoked)
        return accounts[nats_jwt.public_of(KEYS.sensors)]

    later = NOW + timedelta(hours=1)
    assert sensors(NOW, {}) != sensors(later, {})
    assert nats_jwt.same_account(sensors(NOW, {}), sensors(later, {}))
    assert not nats_jwt.same_account(sensors(NOW, {}), sensors(NOW, {"UABC": 1}))
    with pytest.raises(ValueError, match="not an account"):
        nats_jwt.same_account("nothing", "nothing")


class TestRevocations:
    def test_a_later_one_goes_further_and_an_earlier_one_changes_nothing(self) -> None:
        known = nats_revocations.revoke({}, uid="u", issued_until=100, now=NOW)
        assert nats_revocations.revoke(known, uid="u", issued_until=99, now=NOW) is known
        assert nats_revocations.revoke(known, uid="u", issued_until=101, now=NOW)["u"].issued_until == 101

    def test_one_is_kept_until_the_last_credentials_have_expired(self) -> None:
        until = int(NOW.timestamp())
        known = nats_revocations.revoke({}, uid="u", issued_until=until, now=NOW)
        assert nats_revocations.current(known, now=NOW + MAX_TTL) == known
        assert nats_revocations.current(known, now=NOW + MAX_TTL + timedelta(seconds=1)) == {}

    def test_what_is_written_is_what_is_read_and_two_are_merged(self) -> None:
        one = nats_revocations.revoke({}, uid="u", issued_until=100, now=NOW)
        other = nats_revocations.revoke({}, uid="v", issued_until=7, now=NOW)
        merged = nats_revocations.merge(one, other)
        assert nats_revocations.load(nats_revocations.dump(merged)) == merged
        assert nats_revocations.load("") == {}
        assert set(merged) == {"u", "v"}

    @pytest.mark.parametrize("text", ["[]", "{", '{"u": 1}', '{"u": ["a", 1]}'])
    def test_damaged_ones_are_refused(self, text: str) -> None:
        with pytest.raises(ValueError, match="revocations"):
            nats_revocations.load(text)
