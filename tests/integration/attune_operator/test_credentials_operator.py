"""Credentials over their whole life, with a real API server and a real NATS server."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import nats
import nats.errors
import pytest
from nats.aio.client import Client, RawCredentials
from support.eventually import until
from support.kubectl_user import KubectlUser, running, secret_text, settings_for
from support.nats_client import connect
from support.nats_server import NatsServer

from attune_contract import claims, messages, subjects
from attune_contract.claims import SensorClaims
from attune_contract.identity import SensorRef
from attune_contract.messages import IdentityState
from attune_operator.app import Operator
from attune_operator.credentials import nats_jwt
from attune_operator.credentials.keystore import JWKS_CONFIG_MAP, KEYS_SECRET
from attune_operator.credentials.nats_accounts import RESOLVER_DIRECTORY
from attune_operator.credentials.nats_auth import API_SECRET, AUTH_SECRET, CONFIG_SECRET
from attune_operator.resources import kinds

pytest_plugins = ["support.operator_fixtures"]
pytestmark = [pytest.mark.apiserver, pytest.mark.nats]

TYPES = [{"name": "core.intervaltimer"}, {"name": "core.crontimer"}]


def at(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True)
class Token:
    """A token from a Secret, verified as the API does it: with the published keys and nothing else."""

    text: str
    claims: SensorClaims
    kid: str


async def published(user: KubectlUser) -> list[dict[str, str]]:
    config_map = await user.get(kinds.CONFIG_MAP, JWKS_CONFIG_MAP)
    keys: list[dict[str, str]] = json.loads(config_map["data"]["jwks.json"])["keys"]
    return keys


async def token(user: KubectlUser, name: str = "core.timer") -> Token:
    text = secret_text(await user.get(kinds.SECRET, f"sensor-{name}"), "token")
    return await verified(user, text)


async def verified(user: KubectlUser, text: str) -> Token:
    kid = jwt.get_unverified_header(text)["kid"]
    [key] = [key for key in await published(user) if key["kid"] == kid]
    payload = jwt.decode(
        text, jwt.PyJWK(key).key, algorithms=["EdDSA"], audience=claims.AUDIENCE, issuer=claims.DEFAULT_ISSUER
    )
    return Token(text, SensorClaims.from_payload(payload), kid)


async def another_than(user: KubectlUser, old: Token, *, within: float = 10) -> Token:
    async def look() -> Token | None:
        new = await token(user)
        return new if new.text != old.text else None

    renewed: Token = await until(look, within=within, what="another token")
    return renewed


async def first_token(user: KubectlUser) -> Token:
    async def look() -> Token:
        assert (await user.condition("CredentialsValid"))["status"] == "True"
        return await token(user)

    found: Token = await until(look, what="the first token")
    return found


class Accepted:
    """The stream ATTUNE_IDENTITIES as the API reads it."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def of(self, ref: SensorRef) -> IdentityState:
        message = await self._client.jetstream(timeout=60).get_last_msg(
            subjects.IDENTITIES_STREAM, subjects.identity_subject(ref)
        )
        return messages.decode_identity(message.data or b"")

    async def accepts(self, found: Token) -> bool:
        """Whether the API would still take this token."""
        state = await self.of(found.claims.sensor)
        issued_at = int(found.claims.issued_at.timestamp())
        return (
            not state.deleted
            and state.uid == found.claims.subject
            and (state.not_before is None or issued_at >= state.not_before)
        )


@pytest.fixture
async def accepted(nats_server: NatsServer) -> AsyncIterator[Accepted]:
    client = await connect(nats_server.url)
    yield Accepted(client)
    await client.close()


async def test_the_token_says_who_and_what_for_how_long(user: KubectlUser, operator: Operator) -> None:
    sensor = await user.apply_sensor(triggerTypes=TYPES, token={"ttl": "1h"})
    found = await first_token(user)
    assert found.claims.sensor == SensorRef(user.namespace, "core.timer")
    assert found.claims.subject == sensor["metadata"]["uid"]
    assert found.claims.trigger_types == ("core.intervaltimer", "core.crontimer")
    assert found.claims.expires_at - found.claims.issued_at == timedelta(hours=1)
    status = (await user.get(kinds.SENSOR, "core.timer"))["status"]["token"]
    assert status["expiresAt"] == at(found.claims.expires_at)
    assert status["keyId"] == found.kid
    assert at(found.claims.issued_at) < status["rotatesAt"] < status["expiresAt"]


@pytest.mark.alone
async def test_it_is_renewed_at_two_thirds_of_its_life_and_the_pods_are_told(
    user: KubectlUser, operator: Operator
) -> None:
    await user.apply_sensor(token={"ttl": "30s"})
    first = await first_token(user)
    await until(user.pods)
    second = await another_than(user, first, within=30)
    age = (second.claims.issued_at - first.claims.issued_at).total_seconds()
    assert 18 <= age <= 27
    assert await verified(user, first.text), "the old one is good until its own end"

    async def touched() -> bool:
        return any(
            "attune.dev/credentials-renewed-at" in pod["metadata"].get("annotations", {}) for pod in await user.pods()
        )

    await until(touched)


async def test_a_renewal_is_had_for_the_asking(user: KubectlUser, operator: Operator, accepted: Accepted) -> None:
    await user.apply_sensor()
    first = await first_token(user)
    await user.annotate(rotate_at=at(first.claims.issued_at + timedelta(seconds=1)))
    await another_than(user, first)
    assert await accepted.accepts(first), "to rotate is not to revoke"


async def test_an_annotation_that_is_no_time_is_answered(user: KubectlUser, operator: Operator) -> None:
    await user.apply_sensor()
    first = await first_token(user)
    await user.annotate(rotate_at="tomorrow")

    async def answered() -> bool:
        condition = await user.condition("CredentialsValid")
        return condition["status"] == "True" and "attune.dev/rotate-at is not a time" in condition["message"]

    await until(answered)
    assert (await token(user)).text == first.text


@pytest.mark.alone
async def test_revoked_tokens_are_refused_at_once(user: KubectlUser, operator: Operator, accepted: Accepted) -> None:
    await user.apply_sensor()
    first = await first_token(user)
    assert await accepted.accepts(first)
    await user.annotate(revoke_before=at(first.claims.issued_at + timedelta(seconds=1)))

    async def refused() -> bool:
        return not await accepted.accepts(first)

    await until(refused, within=2)
    second = await another_than(user, first)
    assert await accepted.accepts(second)


async def test_a_revocation_that_lies_ahead_does_not_lock_the_sensor_out(
    user: KubectlUser, operator: Operator, accepted: Accepted
) -> None:
    await user.apply_sensor()
    first = await first_token(user)
    await user.annotate(revoke_before=at(datetime.now(UTC) + timedelta(hours=1)))
    await user.annotate(rotate_at="nonsense")  # answered when the Sensor was looked at again

    async def answered() -> bool:
        return "not a time" in (await user.condition("CredentialsValid"))["message"]

    await until(answered)
    assert await accepted.accepts(first)


@pytest.mark.alone
async def test_narrowed_it_loses_the_old_token_at_once(
    user: KubectlUser, operator: Operator, accepted: Accepted
) -> None:
    await user.apply_sensor(triggerTypes=TYPES)
    first = await first_token(user)
    await user.apply_sensor(triggerTypes=TYPES[:1])

    async def refused() -> bool:
        state = await accepted.of(first.claims.sensor)
        return state.trigger_types == ("core.intervaltimer",) and not await accepted.accepts(first)

    await until(refused, within=2)
    second = await another_than(user, first)
    assert second.claims.trigger_types == ("core.intervaltimer",)
    assert await accepted.accepts(second)


async def test_widened_it_gets_a_new_token_and_keeps_the_old(
    user: KubectlUser, operator: Operator, accepted: Accepted
) -> None:
    await user.apply_sensor(triggerTypes=TYPES[:1])
    first = await first_token(user)
    await user.apply_sensor(triggerTypes=TYPES)
    second = await another_than(user, first)
    assert second.claims.trigger_types == ("core.intervaltimer", "core.crontimer")
    assert await accepted.accepts(first)


async def test_what_was_refused_stays_refused_whatever_is_lost(
    user: KubectlUser, nats_server: NatsServer, accepted: Accepted
) -> None:
    async with running(settings_for(user, nats_server)):
        await user.apply_sensor(triggerTypes=TYPES)
        first = await first_token(user)
        await user.apply_sensor(triggerTypes=TYPES[:1])
        second = await another_than(user, first)
    await user.delete(kinds.SECRET)
    async with running(settings_for(user, nats_server)):
        third = await another_than(user, second)
        assert not await accepted.accepts(first)
        assert await accepted.accepts(third)


@pytest.mark.alone
async def test_a_deleted_sensors_token_is_refused_at_once(
    user: KubectlUser, operator: Operator, accepted: Accepted
) -> None:
    await user.apply_sensor()
    first = await first_token(user)
    await user.delete(kinds.SENSOR, "core.timer")

    async def refused() -> bool:
        return (await accepted.of(first.claims.sensor)).deleted

    await until(refused, within=2)


async def test_so_is_one_that_was_deleted_while_nobody_looked(
    user: KubectlUser, nats_server: NatsServer, accepted: Accepted
) -> None:
    async with running(settings_for(user, nats_server)):
        await user.apply_sensor()
        first = await first_token(user)
    await user.delete(kinds.SENSOR, "core.timer")
    async with running(settings_for(user, nats_server)):

        async def refused() -> bool:
            return (await accepted.of(first.claims.sensor)).deleted

        await until(refused)


async def test_and_the_one_that_came_before_another_of_its_name(
    user: KubectlUser, operator: Operator, accepted: Accepted
) -> None:
    await user.apply_sensor()
    first = await first_token(user)
    await user.delete(kinds.SENSOR, "core.timer")
    await user.apply_sensor()
    second = await another_than(user, first)
    assert second.claims.subject != first.claims.subject

    async def changed_over() -> bool:
        return await accepted.accepts(second) and not await accepted.accepts(first)

    await until(changed_over)


async def test_a_wiped_stream_is_filled_again(user: KubectlUser, operator: Operator, nats_server: NatsServer) -> None:
    await user.apply_sensor(triggerTypes=TYPES)
    await first_token(user)
    await user.apply_sensor(triggerTypes=TYPES[:1])
    nats_server.wipe()
    nats_server.start()

    async def filled() -> bool:
        client = await connect(nats_server.url)
        try:
            state = await Accepted(client).of(SensorRef(user.namespace, "core.timer"))
        except nats.errors.Error as error:
            raise LookupError("not yet") from error
        finally:
            await client.close()
        return state.not_before is not None

    await until(filled, within=20, every=0.3)


async def test_without_nats_tokens_are_renewed_all_the_same(
    user: KubectlUser, operator: Operator, nats_server: NatsServer
) -> None:
    nats_server.stop()
    await user.apply_sensor()
    first = await first_token(user)
    await user.annotate(rotate_at=at(first.claims.issued_at + timedelta(seconds=1)))
    await another_than(user, first)


async def test_a_ttl_below_the_least_is_raised_and_that_is_said(user: KubectlUser, operator: Operator) -> None:
    await user.apply_sensor(token={"ttl": "2s"})
    found = await first_token(user)
    assert found.claims.expires_at - found.claims.issued_at == timedelta(seconds=5)
    assert "the shortest lifetime is" in (await user.condition("CredentialsValid"))["message"]


async def test_restart_rolls_the_pods_with_each_renewal(user: KubectlUser, operator: Operator) -> None:
    await user.apply_sensor(token={"onRotate": "Restart"})
    first = await first_token(user)
    template = (await user.get(kinds.DEPLOYMENT))["spec"]["template"]
    await user.annotate(rotate_at=at(first.claims.issued_at + timedelta(seconds=1)))
    await another_than(user, first)

    async def rolled() -> bool:
        return bool((await user.get(kinds.DEPLOYMENT))["spec"]["template"] != template)

    await until(rolled)


# -- signing keys ------------------------------------------------------------------------------------------------------


async def test_a_new_signing_key_is_published_before_it_signs(user: KubectlUser, nats_server: NatsServer) -> None:
    async with running(settings_for(user, nats_server, signing_key_lead="2s")):
        await user.apply_sensor()
        first = await first_token(user)
        now = {"metadata": {"annotations": {"attune.dev/rotate-keys": "please"}}}
        await user.edit(kinds.SECRET, now, name=KEYS_SECRET)

        async def two() -> bool:
            return len(await published(user)) == 2

        await until(two)
        assert (await token(user)).text == first.text, "nothing is signed with a key that nobody has seen"
        second = await another_than(user, first)
        assert second.kid != first.kid
        assert await verified(user, first.text)


async def test_when_the_signing_keys_are_lost_new_ones_take_over_and_no_token_fails(
    user: KubectlUser, nats_server: NatsServer
) -> None:
    async with running(settings_for(user, nats_server, signing_key_lead="2s")):
        await user.apply_sensor()
        first = await first_token(user)
        await user.delete(kinds.SECRET, KEYS_SECRET)
        second = await another_than(user, first)
        assert second.kid != first.kid
        assert await verified(user, first.text)


async def test_damaged_signing_keys_are_replaced_too(user: KubectlUser, nats_server: NatsServer) -> None:
    async with running(settings_for(user, nats_server, signing_key_lead="1s")):
        await user.apply_sensor()
        first = await first_token(user)
        await user.edit(kinds.SECRET, {"data": {"signing-keys.json": "bm8="}}, name=KEYS_SECRET)
        second = await another_than(user, first)
        assert second.kid != first.kid


async def test_a_lost_key_list_is_published_again(user: KubectlUser, operator: Operator) -> None:
    await user.apply_sensor()
    first = await first_token(user)
    await user.delete(kinds.CONFIG_MAP, JWKS_CONFIG_MAP)

    async def back() -> Any:
        return await verified(user, first.text)

    await until(back, within=5)


# -- NATS users --------------------------------------------------------------------------------------------------------


async def test_with_managed_nats_everybody_has_a_user_and_nobody_else_gets_in(
    user: KubectlUser, tmp_path: Path
) -> None:
    server = NatsServer(tmp_path)
    async with running(settings_for(user, server, nats_auth="managed")):
        # The server's pod waits for its configuration, and the operator for the server.
        config = secret_text(await user.get(kinds.SECRET, CONFIG_SECRET), "accounts.conf")
        server.extra_config = config
        server.start()
        try:
            await user.apply_sensor()
            first = await first_token(user)

            await until(lambda: synced(user), within=20)
            creds = secret_text(await user.get(kinds.SECRET), "nats.creds")
            nats_user = nats_jwt.read_creds(creds)
            assert nats_user.expires_at == first.claims.expires_at
            ref = SensorRef(user.namespace, "core.timer")
            sensor = await connect(
                server.url, user_credentials=RawCredentials(creds), inbox_prefix=ref.inbox_prefix.encode()
            )
            stored = await sensor.jetstream(timeout=60).publish(subjects.ack_subject(ref, "uid"), b"{}")
            assert stored.stream == subjects.ACKS_STREAM
            await sensor.close()
            api = await connect(
                server.url,
                user_credentials=RawCredentials(secret_text(await user.get(kinds.SECRET, API_SECRET), "nats.creds")),
            )
            assert (await Accepted(api).of(ref)).uid == first.claims.subject
            await api.close()
            env = (await user.get(kinds.DEPLOYMENT))["spec"]["template"]["spec"]["containers"][0]["env"]
            assert {"name": "ATTUNE_NATS_CREDS_FILE", "value": "/var/run/attune/credentials/nats.creds"} in env
            # Renewed together with the token.
            await user.annotate(rotate_at=at(first.claims.issued_at + timedelta(seconds=1)))
            second = await another_than(user, first)
            renewed = secret_text(await user.get(kinds.SECRET), "nats.creds")
            assert renewed != creds
            assert nats_jwt.read_creds(renewed).expires_at == second.claims.expires_at
            # Deleted, each comes back as it was, or works as it did.
            for name in (AUTH_SECRET, CONFIG_SECRET, API_SECRET):
                await user.delete(kinds.SECRET, name)

            async def back() -> bool:
                again = secret_text(await user.get(kinds.SECRET, CONFIG_SECRET), "accounts.conf")
                return again == config and await user.find(kinds.SECRET, API_SECRET) is not None

            await until(back)
        finally:
            server.stop()


@contextlib.asynccontextmanager
async def managed_nats(user: KubectlUser, directory: Path) -> AsyncIterator[NatsServer]:
    """An operator that manages NATS's accounts, and the server with its configuration."""
    server = NatsServer(directory)
    async with running(settings_for(user, server, nats_auth="managed")):
        server.extra_config = secret_text(await user.get(kinds.SECRET, CONFIG_SECRET), "accounts.conf")
        await asyncio.to_thread(server.start)
        try:
            yield server
        finally:
            await asyncio.to_thread(server.stop)


@contextlib.asynccontextmanager
async def connected_sensor(server: NatsServer, ref: SensorRef, creds: str) -> AsyncIterator[Client]:
    """A connection with a sensor's credentials that does not come back by itself."""
    client = Client()
    try:
        await client.connect(
            server.url,
            user_credentials=RawCredentials(creds),
            inbox_prefix=ref.inbox_prefix.encode(),
            allow_reconnect=False,
            error_cb=ignored,
        )
        yield client
    finally:
        await client.close()


async def ignored(_: Exception) -> None:
    """The server refuses the connection, or ends it, on purpose."""


async def let_in(server: NatsServer, ref: SensorRef, creds: str) -> bool:
    try:
        async with connected_sensor(server, ref, creds):
            return True
    except nats.errors.Error:
        return False


@pytest.mark.parametrize("how", ["revoked", "narrowed", "deleted"])
async def test_what_ends_a_token_ends_the_connection_to_nats(user: KubectlUser, tmp_path: Path, how: str) -> None:
    """Within two seconds, also the connection that stands; the credentials that follow work."""
    async with managed_nats(user, tmp_path) as server:
        ref = SensorRef(user.namespace, "core.timer")
        await user.apply_sensor(triggerTypes=TYPES)
        first = await first_token(user)
        await until(lambda: synced(user), within=20)
        old = secret_text(await user.get(kinds.SECRET), "nats.creds")
        async with connected_sensor(server, ref, old) as connection:
            # An `iat` is whole seconds: what was issued in the second of the revocation is still accepted.
            await until(lambda: datetime.now(UTC) > first.claims.issued_at + timedelta(seconds=1.5))
            match how:
                case "revoked":
                    await user.annotate(revoke_before=at(datetime.now(UTC)))
                case "narrowed":
                    await user.apply_sensor(triggerTypes=TYPES[:1])
                case _:
                    await user.delete(kinds.SENSOR, "core.timer")
            await until(lambda: connection.is_closed, within=2)
        assert not await let_in(server, ref, old)
        if how == "deleted":
            await user.apply_sensor(triggerTypes=TYPES)
        await another_than(user, first)
        new = secret_text(await user.get(kinds.SECRET), "nats.creds")
        await until(lambda: let_in(server, ref, new), within=10)
        assert not await let_in(server, ref, old)


async def synced(user: KubectlUser) -> bool:
    return (await user.condition("RulesSynced")).get("status") == "True"


async def revoked(user: KubectlUser, server: NatsServer, ref: SensorRef) -> tuple[Token, str]:
    """A Sensor's first token and NATS credentials, which are refused now."""
    await user.apply_sensor(triggerTypes=TYPES)
    first = await first_token(user)
    await until(lambda: synced(user), within=20)
    old = secret_text(await user.get(kinds.SECRET), "nats.creds")
    await until(lambda: datetime.now(UTC) > first.claims.issued_at + timedelta(seconds=1.5))
    await user.annotate(revoke_before=at(datetime.now(UTC)))

    async def refused() -> bool:
        return not await let_in(server, ref, old)

    await until(refused)
    return first, old


async def test_a_revocation_is_kept_when_operator_and_server_start_again(user: KubectlUser, tmp_path: Path) -> None:
    ref = SensorRef(user.namespace, "core.timer")
    async with managed_nats(user, tmp_path / "one") as server:
        first, old = await revoked(user, server, ref)
        await another_than(user, first)

        async def stored() -> bool:
            return secret_text(await user.get(kinds.SECRET, AUTH_SECRET), "revocations.json") != "{}"

        await until(stored)
    # The server has lost all that it kept: the operator publishes the revocation again.
    async with managed_nats(user, tmp_path / "two") as server:

        async def refused_again() -> bool:
            return not await let_in(server, ref, old)

        await until(refused_again)


async def test_a_server_that_keeps_a_revocation_but_does_not_go_by_it_is_told_again(
    user: KubectlUser, tmp_path: Path
) -> None:
    """As after a first login to the account in the moment in which the revocation was published."""
    ref = SensorRef(user.namespace, "core.timer")
    async with managed_nats(user, tmp_path / "one") as server:
        _, old = await revoked(user, server, ref)
        kept = kept_accounts(tmp_path / "one")
    other = NatsServer(tmp_path / "two", port=server.port)
    other.extra_config = server.extra_config
    await asyncio.to_thread(other.start)
    try:
        assert await let_in(other, ref, old), "it starts with the accounts of its configuration"
        for name, text in kept.items():
            (tmp_path / "two" / RESOLVER_DIRECTORY / name).write_text(text)
        assert await let_in(other, ref, old), "what it keeps is not what it goes by"
        async with running(settings_for(user, other, nats_auth="managed")):

            async def refused_again() -> bool:
                return not await let_in(other, ref, old)

            await until(refused_again)
    finally:
        await asyncio.to_thread(other.stop)


def kept_accounts(directory: Path) -> dict[str, str]:
    """The accounts' JWTs that a server keeps, by their files' names."""
    return {path.name: path.read_text() for path in (directory / RESOLVER_DIRECTORY).glob("*.jwt")}


async def test_keys_and_rules_of_a_version_without_accounts_are_taken_over(user: KubectlUser, tmp_path: Path) -> None:
    """An upgrade: the server keeps its operator and account, and the rule stream moves to an account of its own."""
    async with managed_nats(user, tmp_path / "before") as server:
        await user.apply_sensor(triggerTypes=TYPES)
        await until(lambda: synced(user), within=20)
    secret = await user.get(kinds.SECRET, AUTH_SECRET)
    keys = json.loads(secret_text(secret, "nats-auth.json"))
    for name in ("rules", "sensors", "sensors_signing"):
        del keys[name]
    await user.edit(
        kinds.SECRET,
        {"data": None, "stringData": {"nats-auth.json": json.dumps(keys)}},
        name=AUTH_SECRET,
    )
    async with managed_nats(user, tmp_path / "after") as server:
        again = json.loads(secret_text(await user.get(kinds.SECRET, AUTH_SECRET), "nats-auth.json"))
        assert {name: again[name] for name in keys} == keys
        await until(lambda: synced(user), within=20)
        assert nats_jwt.public_of(again["account"]) in server.extra_config
