"""The certificate that the operator makes, with a real API server and a real NATS server that serves it."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client, RawCredentials
from support.eventually import until
from support.kubectl_user import KubectlUser, running, secret_text, settings_for
from support.nats_server import NatsServer

from attune_contract.identity import SensorRef
from attune_kit.nats.connection import NatsEndpoint
from attune_operator.credentials import certificate_reload
from attune_operator.credentials.nats_auth import CONFIG_SECRET
from attune_operator.resources import kinds
from attune_operator.settings import Settings

pytest_plugins = ["support.operator_fixtures"]
pytestmark = [pytest.mark.apiserver, pytest.mark.nats]

SECRET, AUTHORITY = "attune-tls", "attune-tls-authority"
FILES = ("tls.crt", "tls.key", "ca.crt")


def secure_settings(user: KubectlUser, server: NatsServer, **changes: Any) -> Settings:
    url = f"tls://localhost:{server.port}"
    secure = {"nats_auth": "managed", "tls_secret": SECRET, "tls_hosts": "localhost", **changes}
    return settings_for(user, server, **{"nats_url": url, **secure})


async def mount(user: KubectlUser, directory: Path) -> None:
    """What kubelet does with the Secret in the server's pod."""
    secret = await user.get(kinds.SECRET, SECRET)
    for name in FILES:
        await asyncio.to_thread((directory / name).write_text, secret_text(secret, name))


@contextlib.asynccontextmanager
async def secure_nats(user: KubectlUser, directory: Path) -> AsyncIterator[NatsServer]:
    """An operator that makes the certificate, and a server that serves it."""
    server = NatsServer(directory)
    async with running(secure_settings(user, server)):
        await asyncio.to_thread(directory.mkdir, parents=True, exist_ok=True)
        await mount(user, directory)
        accounts = secret_text(await user.get(kinds.SECRET, CONFIG_SECRET), "accounts.conf")
        tls = f'tls {{ cert_file: "{directory / "tls.crt"}", key_file: "{directory / "tls.key"}" }}'
        server.extra_config = f"{accounts}\n{tls}"
        await asyncio.to_thread(server.start)
        try:
            yield server
        finally:
            await asyncio.to_thread(server.stop)


def served(server: NatsServer, authority: str) -> str:
    """The certificate that a new connection gets (PEM), verified with the authority."""
    context = ssl.create_default_context(cadata=authority)
    endpoint = NatsEndpoint(url=f"tls://localhost:{server.port}")
    found = asyncio.run(certificate_reload.served_certificate(endpoint, context))
    return ssl.DER_cert_to_PEM_cert(found)


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server is asked every second instead of every minute."""
    monkeypatch.setattr(certificate_reload, "INTERVAL", 1.0)


async def test_a_renewed_certificate_is_served_without_a_restart_and_connections_stay(
    user: KubectlUser, tmp_path: Path
) -> None:
    async with secure_nats(user, tmp_path) as server:
        await user.apply_sensor()

        async def synced() -> bool:
            return (await user.condition("RulesSynced")).get("status") == "True"

        await until(synced)
        first = await user.get(kinds.SECRET, SECRET)
        authority = secret_text(first, "ca.crt")
        assert await asyncio.to_thread(served, server, authority) == secret_text(first, "tls.crt")

        async def authority_of_the_pod() -> str | None:
            config = await user.find(kinds.CONFIG_MAP)
            return None if config is None else str(config["data"]["ca.crt"])

        assert await until(authority_of_the_pod) == authority

        async def credentials() -> str | None:
            secret = await user.find(kinds.SECRET)
            return None if secret is None else secret_text(secret, "nats.creds")

        creds = await until(credentials)
        ref, sensor = SensorRef(user.namespace, "core.timer"), Client()
        await sensor.connect(
            f"tls://localhost:{server.port}",
            user_credentials=RawCredentials(creds),
            inbox_prefix=ref.inbox_prefix.encode(),
            tls=ssl.create_default_context(cadata=authority),
            allow_reconnect=False,
            connect_timeout=60,
        )
        try:
            # Somebody spoils it, and the operator makes another.
            await user.edit(kinds.SECRET, {"data": {"tls.crt": "bm8="}}, name=SECRET)

            async def renewed() -> bool:
                text = secret_text(await user.get(kinds.SECRET, SECRET), "tls.crt")
                return text not in ("no", secret_text(first, "tls.crt"))

            await until(renewed)
            second = await user.get(kinds.SECRET, SECRET)
            assert secret_text(second, "ca.crt") == authority
            await mount(user, tmp_path)

            async def served_now() -> bool:
                return await asyncio.to_thread(served, server, authority) == secret_text(second, "tls.crt")

            await until(served_now)
            assert sensor.is_connected
            await sensor.flush(timeout=60)
        finally:
            await sensor.close()


async def test_deleted_secrets_come_back_with_the_same_authority(user: KubectlUser, tmp_path: Path) -> None:
    server = NatsServer(tmp_path)
    async with running(secure_settings(user, server)):
        first = await user.get(kinds.SECRET, SECRET)
        authority = await user.get(kinds.SECRET, AUTHORITY)
        await user.delete(kinds.SECRET, SECRET)
        await user.delete(kinds.SECRET, AUTHORITY)

        async def back() -> bool:
            again = await user.find(kinds.SECRET, SECRET), await user.find(kinds.SECRET, AUTHORITY)
            return [found and found["data"] for found in again] == [first["data"], authority["data"]]

        await until(back)
    async with running(secure_settings(user, server, tls_hosts="localhost,nats.example")):
        again = await user.get(kinds.SECRET, SECRET)
        assert secret_text(again, "ca.crt") == secret_text(first, "ca.crt")
        assert secret_text(again, "tls.crt") != secret_text(first, "tls.crt"), "it has another name"
