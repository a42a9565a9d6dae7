"""A real PgBouncer on loopback, from Debian's package, in front of a PostgreSQL server."""

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from support.postgres import PostgresServer, unprivileged_account, wait_until_ready

from attune_local.ports import free_port

#: Another one than Debian's by ``PGBOUNCER``.
PROGRAM: Final = os.environ.get("PGBOUNCER") or shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")


def version() -> tuple[int, int]:
    """Of the installed program."""
    assert PROGRAM is not None
    shown = subprocess.run([PROGRAM, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"PgBouncer (\d+)\.(\d+)", shown)
    assert found is not None, shown
    return int(found[1]), int(found[2])


class PgBouncer:
    """One process. Port and directory stay the same over restarts.

    Args:
        postgres: the server behind it.
        mode: its ``pool_mode``: ``session`` or ``transaction``.
        pool_size: connections to the server, for each database and user.
    """

    def __init__(self, postgres: PostgresServer, *, mode: str, pool_size: int) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="attune-pgbouncer-"))
        self.port = free_port()
        settings = {
            "listen_addr": "127.0.0.1",
            "listen_port": str(self.port),
            "unix_socket_dir": "",
            "auth_type": "any",
            "pool_mode": mode,
            "default_pool_size": str(pool_size),
            "max_client_conn": "200",
            "logfile": str(self.directory / "pgbouncer.log"),
        }
        if account := unprivileged_account():  # it refuses to be root
            settings["user"] = account.pw_name
            os.chown(self.directory, account.pw_uid, -1)
        self._config = self.directory / "pgbouncer.ini"
        self._config.write_text(
            f"[databases]\n* = host=127.0.0.1 port={postgres.port} user=attune\n\n[pgbouncer]\n"
            + "".join(f"{name} = {value}\n" for name, value in settings.items())
        )
        self._config.chmod(0o644)
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, direct: str, *, application_name: str) -> str:
        """The URL of a database through it, from that of the database itself."""
        return f"{re.sub(r':[0-9]+/', f':{self.port}/', direct)}?application_name={application_name}"

    def start(self) -> None:
        """Start it, and return when it answers."""
        assert PROGRAM is not None, "install Debian's package 'pgbouncer'"
        output = self.directory / "output.log"
        with output.open("ab") as log:
            self._process = subprocess.Popen(
                [PROGRAM, "-q", str(self._config)], stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd="/"
            )
        wait_until_ready(self._process, "pg_isready", self.port, log=output, what="PgBouncer")

    def kill(self) -> None:
        """End it at once (SIGKILL), and its connections with it."""
        assert self._process is not None, "it was not started"
        self._process.kill()
        self._process.wait(120)

    def remove(self) -> None:
        """End it and delete its files."""
        if self._process is not None and self._process.poll() is None:
            self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)
