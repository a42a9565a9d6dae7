"""The SDK's client for tokens, against a running API."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jwt
import pytest
from support.api_process import ADMIN_TOKEN, ApiProcess

from attune_local.ports import free_port
from attune_sensor import TokenClient, TokenClientError


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiProcess]:
    with ApiProcess(tmp_path_factory.mktemp("api")) as started:
        yield started


async def test_it_gets_a_token_and_keeps_it_out_of_its_representation(api: ApiProcess) -> None:
    async with TokenClient(api.url + "/", token=ADMIN_TOKEN) as client:
        minted = await client.create_sensor_token("factory/door", ["acme.door"], ttl=timedelta(hours=1))
        again = await client.create_sensor_token("factory/door", ["acme.door"])
    assert minted.sensor_ref == "factory/door"
    assert minted.trigger_types == ("acme.door",)
    assert abs(minted.expires_at - datetime.now(UTC) - timedelta(hours=1)) < timedelta(seconds=30)
    claims = jwt.decode(minted.token, options={"verify_signature": False})
    assert claims["login"] == "sensor:factory/door"
    assert minted.token not in repr(minted)
    assert again.identity_id == minted.identity_id
    assert again.token != minted.token


@pytest.mark.parametrize(
    ("token", "ref", "ttl", "status", "words"),
    [
        ("", "factory/door", timedelta(hours=1), 401, "Check the token"),
        ("wrong", "factory/door", timedelta(hours=1), 401, "Check the token"),
        (ADMIN_TOKEN, "door", timedelta(hours=1), 422, "Correct the request"),
        (ADMIN_TOKEN, "factory/door", timedelta(hours=73), 422, "ttl_seconds"),
    ],
)
async def test_a_refusal_says_why_and_what_to_do(
    api: ApiProcess, token: str, ref: str, ttl: timedelta, status: int, words: str
) -> None:
    async with TokenClient(api.url, token=token) as client:
        with pytest.raises(TokenClientError, match=words) as refused:
            await client.create_sensor_token(ref, ["acme.door"], ttl=ttl)
    assert refused.value.status == status
    if token:
        assert token not in str(refused.value)


async def test_health_is_told(api: ApiProcess) -> None:
    async with TokenClient(api.url) as client:
        assert (await client.health_check()).ready


async def test_what_is_wrong_with_the_api_is_told(tmp_path: Path) -> None:
    with ApiProcess(tmp_path) as api:
        api.stop()
        api.environment["ATTUNE_API_JWKS_FILE"] = str(tmp_path / "missing.json")
        api.start()
        async with TokenClient(api.url) as client:
            health = await client.health_check()
    assert not health.ready
    assert "keys" in health.problems


async def test_an_api_that_is_not_there_is_named() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    async with TokenClient(url, token="x") as client:
        with pytest.raises(TokenClientError, match="cannot be reached") as refused:
            await client.health_check()
    assert url in str(refused.value)
    assert refused.value.status == 0


async def test_something_else_than_the_api_is_told_apart(api: ApiProcess) -> None:
    async with TokenClient(api.url + "/nowhere", token=ADMIN_TOKEN) as client:
        with pytest.raises(TokenClientError, match="Check the address") as refused:
            await client.create_sensor_token("factory/door", ["acme.door"])
    assert refused.value.status == 404
