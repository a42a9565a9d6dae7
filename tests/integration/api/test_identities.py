"""Revocation at once, tokens for sensors outside the cluster, and whom they were minted for."""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from nats.js.api import StreamConfig
from nats.js.client import JetStreamContext
from support.api_process import SENSOR, TYPE, ApiProcess, Minter, report, write_jwks
from support.eventually import until
from support.nats_client import connect
from support.nats_server import NatsServer

from attune_api.identity.revocation import load_states
from attune_api.settings import Settings
from attune_api.storage.opening import open_database
from attune_contract.messages import IdentityState, encode
from attune_contract.subjects import ALL_IDENTITIES, IDENTITIES_STREAM, identity_subject

pytest_plugins = ["support.api_fixtures"]

UID = "9a2f0c1e-1f7b-4b52-9f57-8c3e5f0f7a01"


class Operator:
    """What the operator is to the API: the stream, and somebody who writes to it.

    Each word goes over a connection of its own, so that it does not matter when the server was last killed.
    """

    def __init__(self, url: str) -> None:
        self._url = url

    @asynccontextmanager
    async def _jetstream(self) -> AsyncIterator[JetStreamContext]:
        client = await connect(self._url)
        yield client.jetstream(timeout=60)
        await client.close()

    async def make_stream(self) -> None:
        config = StreamConfig(name=IDENTITIES_STREAM, subjects=[ALL_IDENTITIES], max_msgs_per_subject=1)
        async with self._jetstream() as jetstream:
            await jetstream.add_stream(config)

    async def delete_stream(self) -> None:
        async with self._jetstream() as jetstream:
            await jetstream.delete_stream(IDENTITIES_STREAM)

    async def say(self, **changes: Any) -> None:
        state = IdentityState(**{"sensor_ref": str(SENSOR), "uid": UID, "trigger_types": (TYPE,), **changes})
        await self.publish(encode(state))

    async def publish(self, body: bytes) -> None:
        async with self._jetstream() as jetstream:
            await jetstream.publish(identity_subject(SENSOR), body)


@pytest.fixture
async def operator(nats_server: NatsServer) -> Operator:
    """The operator, with its stream."""
    operator = Operator(nats_server.url)
    await operator.make_stream()
    return operator


async def _within(seconds: float, question: Callable[[], Awaitable[httpx.Response]], status: int) -> httpx.Response:
    """The first answer with this status; it must come in time."""

    async def wanted() -> httpx.Response:
        answer = await question()
        assert answer.status_code == status, answer.text
        return answer

    return await until(wanted, within=seconds)


@pytest.mark.nats
@pytest.mark.alone
async def test_what_the_operator_says_is_enforced_within_two_seconds(
    tmp_path: Path, nats_server: NatsServer, operator: Operator
) -> None:
    with ApiProcess(tmp_path / "api", nats_url=nats_server.url, check_rules="false") as api:
        old = api.minter.token(iat=int(time.time()) - 100)
        new = api.minter.token(iat=int(time.time()))
        async with api.client(old) as first, api.client(new) as second:

            async def refused_everywhere(client: httpx.AsyncClient) -> bool:
                """Each route that a sensor may call, over the connection that stands."""
                answers = [
                    await client.request(method, path, json=body)
                    for method, path, body in (
                        ("POST", "/api/v1/events/batch", {"events": [report()]}),
                        ("GET", "/api/v1/sensor/last-events?rule_uid=x", None),
                        ("GET", "/api/v1/sensor/events?rule_uid=x&namespace=default&name=x", None),
                        ("GET", "/api/v1/sensor/states/x", None),
                        ("PUT", "/api/v1/sensor/states/x", {"generation": 1, "position": 1, "state": "AA=="}),
                        ("DELETE", "/api/v1/sensor/states/x", None),
                        ("GET", "/auth/whoami", None),
                        ("GET", "/api/v1/events/stream", None),
                    )
                ]
                return [answer.status_code for answer in answers] == [401] * len(answers)

            def post(client: httpx.AsyncClient) -> Callable[[], Awaitable[httpx.Response]]:
                return lambda: client.post("/api/v1/events", json=report())

            assert (await post(first)()).status_code == 201
            # Revoked: what was issued before.
            await operator.say(not_before=int(time.time()) - 50)
            refused = await _within(2, post(first), 401)
            assert 'error="invalid_token"' in refused.headers["www-authenticate"]
            assert "revoked" in refused.json()["detail"]
            assert await refused_everywhere(first)
            assert (await post(second)()).status_code == 200
            # Narrowed: the trigger type is no longer the sensor's.
            await operator.say(trigger_types=("core.other",))
            narrowed = await _within(2, post(second), 403)
            assert narrowed.json()["type"] == "urn:attune:problem:trigger-type-not-allowed"
            await operator.say()
            await _within(2, post(second), 200)
            # Made again under the same name: the old one's uid.
            await operator.say(uid="another")
            assert "earlier sensor" in (await _within(2, post(second), 401)).json()["detail"]
            assert await refused_everywhere(second)
            await operator.say()
            await _within(2, post(second), 200)
            # Deleted.
            await operator.say(deleted=True)
            await _within(2, post(second), 401)
            assert await refused_everywhere(second)
            # A sensor of which nothing was ever said is judged by its token alone.
            async with api.client(api.minter.token(login="sensor:default/edge", sub="x")) as outside:
                assert (await outside.get("/auth/whoami")).status_code == 200


async def _kept(database_url: str) -> None:
    """Wait until the sensor's deletion is in the database: it is in force a moment before."""
    database = open_database(Settings(database_url=database_url).database_url)

    async def is_kept() -> bool:
        return any(state.deleted for state in (await database.read(load_states)).values())

    try:
        await until(is_kept, within=30)
    finally:
        await database.close()


@pytest.mark.nats
async def test_a_revocation_holds_over_restarts_with_nats_away_and_over_a_wiped_stream(
    tmp_path: Path, nats_server: NatsServer, operator: Operator, database_url: str
) -> None:
    api = ApiProcess(tmp_path / "api", database_url=database_url, nats_url=nats_server.url, check_rules="false")
    with api:
        async with api.client() as sensor:

            async def ask() -> httpx.Response:
                return await sensor.get("/auth/whoami")

            await operator.say(deleted=True)
            await _within(5, ask, 401)
            await _kept(database_url)
            nats_server.wipe()
            api.kill()
            api.start()
            assert (await ask()).status_code == 401
            nats_server.start()
            await operator.make_stream()
            assert (await ask()).status_code == 401
            await operator.say()  # applied again, with the same uid
            await _within(10, ask, 200)


@pytest.mark.nats
async def test_it_hears_again_after_nats_was_killed_or_the_stream_was_made_anew(
    tmp_path: Path, nats_server: NatsServer, operator: Operator
) -> None:
    with ApiProcess(tmp_path / "api", nats_url=nats_server.url, check_rules="false") as api:
        async with api.client() as sensor:

            async def ask() -> httpx.Response:
                return await sensor.get("/auth/whoami")

            await operator.say(uid="another")
            await _within(5, ask, 401)
            nats_server.kill()
            nats_server.start()
            await operator.say()
            await _within(10, ask, 200)
            await operator.delete_stream()
            await operator.make_stream()
            await operator.say(uid="another")
            await _within(10, ask, 401)
            # What makes no sense is said and passed over.
            await operator.publish(b"nonsense")
            await operator.say()
            await _within(10, ask, 200)
            assert api.events_logged("identity_message_invalid")


def _request(**changes: Any) -> dict[str, Any]:
    return {"sensor_ref": "default/edge", "trigger_types": ["edge.heat", "edge.cold"], "ttl_seconds": 3600, **changes}


async def test_a_minted_token_works_and_its_identity_is_reused(api_on_each: ApiProcess) -> None:
    async with api_on_each.reader() as admin:
        first = (await admin.post("/auth/sensor-token", json=_request())).json()["data"]
        again = await admin.post("/auth/sensor-token", json=_request(trigger_types=["edge.heat"], ttl_seconds=259200))
        second = again.json()["data"]
        assert again.status_code == 201
        assert again.headers["cache-control"] == "no-store"
        assert set(first) == {"identity_id", "sensor_ref", "token", "expires_at", "trigger_types"}
        assert first["identity_id"] == second["identity_id"]
        claims = jwt.decode(first["token"], options={"verify_signature": False})
        assert claims["sub"] == first["identity_id"]
        assert claims["login"] == "sensor:default/edge"
        assert claims["exp"] - claims["iat"] == 3600
        listed = (await admin.get("/api/v1/identities")).json()["data"]
        assert [(identity["login"], identity["attributes"]["trigger_types"]) for identity in listed] == [
            ("sensor:default/edge", ["edge.heat"])
        ]
    async with api_on_each.client(first["token"]) as sensor:
        posted = await sensor.post("/api/v1/events", json=report(trigger_type="edge.cold"))
        assert posted.status_code == 201
        assert (await sensor.post("/api/v1/events", json=report(2))).status_code == 403


async def test_identities_come_in_pages(shared_api: ApiProcess) -> None:
    async with shared_api.reader() as admin:
        for name in "abcde":
            await admin.post("/auth/sensor-token", json=_request(sensor_ref=f"pages/{name}"))
        logins: list[str] = []
        query: dict[str, str] = {"limit": "2"}
        while True:
            page = (await admin.get("/api/v1/identities", params=query)).json()
            logins += [identity["login"] for identity in page["data"]]
            if page["next_cursor"] is None:
                break
            query["cursor"] = page["next_cursor"]
        assert [login for login in logins if "pages/" in login] == [f"sensor:pages/{name}" for name in "abcde"]
        assert (await admin.get("/api/v1/identities", params={"cursor": "%"})).status_code == 400
        assert (await admin.get("/api/v1/identities", params={"cursor": "abcd"})).status_code == 400


@pytest.mark.parametrize(
    "changes",
    [
        {"ttl_seconds": 259201},
        {"ttl_seconds": 599},
        {"ttl_seconds": 0},
        {"ttl_seconds": "3600"},
        {"ttl_seconds": 10**30},
        {"sensor_ref": "edge"},
        {"sensor_ref": "default/../edge"},
        {"trigger_types": []},
        {"trigger_types": ["*"]},
        {"trigger_types": "edge.heat"},
        {"trigger_types": ["edge.heat"] * 101},
        {"scope": "admin"},
    ],
)
async def test_a_token_that_nobody_should_have_is_not_minted(shared_api: ApiProcess, changes: dict[str, Any]) -> None:
    async with shared_api.reader() as admin:
        answer = await admin.post("/auth/sensor-token", json=_request(sensor_ref="default/refused") | changes)
        assert answer.status_code == 422, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        assert "Value error" not in answer.text
        logins = [identity["login"] for identity in (await admin.get("/api/v1/identities")).json()["data"]]
    assert "sensor:default/refused" not in logins


@pytest.mark.nats
async def test_a_token_for_a_sensor_of_the_cluster_is_that_sensors_or_none(
    tmp_path: Path, nats_server: NatsServer, operator: Operator
) -> None:
    with ApiProcess(tmp_path / "api", nats_url=nats_server.url, check_rules="false") as api:
        body = _request(sensor_ref=str(SENSOR), trigger_types=[TYPE])
        async with api.reader() as admin, api.client(api.minter.token(sub="stale")) as stale:
            await operator.say()
            await _within(5, lambda: stale.get("/auth/whoami"), 401)  # so the state has arrived
            minted = (await admin.post("/auth/sensor-token", json=body)).json()["data"]
            assert jwt.decode(minted["token"], options={"verify_signature": False})["sub"] == UID
            beyond = await admin.post("/auth/sensor-token", json={**body, "trigger_types": [TYPE, "core.other"]})
            assert beyond.status_code == 409
            assert "core.other" in beyond.json()["detail"]
            await operator.say(deleted=True)
            async with api.client(minted["token"]) as sensor:
                await _within(5, lambda: sensor.get("/auth/whoami"), 401)
            assert (await admin.post("/auth/sensor-token", json=body)).status_code == 409


async def test_signing_keys_change_without_a_restart(api: ApiProcess) -> None:
    new = Minter(f"key-{uuid.uuid4()}")
    async with api.reader() as admin:
        api.signing_keys_file.write_text(json.dumps({"keys": [new.private_jwk()], "active": new.kid}))
        unpublished = await admin.post("/auth/sensor-token", json=_request())
        assert unpublished.status_code == 503
        assert unpublished.json()["type"] == "urn:attune:problem:key-not-published"
        write_jwks(api.jwks_file, api.minter, new)
        token = (await admin.post("/auth/sensor-token", json=_request())).json()["data"]["token"]
        assert jwt.get_unverified_header(token)["kid"] == new.kid
        api.signing_keys_file.write_text(json.dumps({"keys": [new.private_jwk()], "active": "lost"}))
        broken = await admin.post("/auth/sensor-token", json=_request())
        assert broken.status_code == 503
        assert new.private_jwk()["d"] not in broken.text + api.log.read_text()


@pytest.mark.nats
async def test_payloads_are_checked_by_the_schema_that_the_operator_published(
    tmp_path: Path, nats_server: NatsServer, operator: Operator
) -> None:
    api = ApiProcess(tmp_path / "api", nats_url=nats_server.url, check_rules="false")
    with api:
        async with api.client() as sensor, api.reader() as reader:
            await operator.say(payload_schemas={TYPE: '{"properties": {"k": {"type": "integer", "maximum": 5}}}'})

            def post() -> Awaitable[httpx.Response]:
                return sensor.post("/api/v1/events", json=report(9))

            refused = await _within(5, post, 422)
            assert refused.json()["type"] == "urn:attune:problem:invalid-payload"
            assert "payload.k: 9 is greater than the maximum of 5" in refused.json()["detail"]
            stored = (await reader.get("/api/v1/events")).json()["data"]
            batch = {"events": [report(k) for k in (4, 8, 5)]}
            answer = (await sensor.post("/api/v1/events/batch", json=batch)).json()["data"]
            assert [each["status"] for each in answer] == ["stored", "refused", "stored"]
            # It holds over a restart with NATS away.
            nats_server.kill()
            api.kill()
            await asyncio.to_thread(api.start)
            assert (await sensor.post("/api/v1/events", json=report(10))).status_code == 422
            after = (await reader.get("/api/v1/events")).json()["data"]
            assert len(after) == len(stored) + 2
