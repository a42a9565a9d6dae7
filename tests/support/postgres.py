"""A real PostgreSQL server on loopback, from Debian's package, run by an unprivileged user in a directory of its own."""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from support.eventually import eventually
from support.process_figures import children

from attune_local.ports import free_port

_USER = "attune"


def _programs() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    if on_path := shutil.which("postgres"):
        return Path(on_path).parent
    raise RuntimeError(
        "these tests need a PostgreSQL server; install Debian's package 'postgresql' (apt-get install it)"
    )


def unprivileged_account() -> pwd.struct_passwd | None:
    """Whom root runs what refuses to be run by root; nobody else needs one."""
    if os.geteuid() != 0:
        return None
    names = {account.pw_name for account in pwd.getpwall()}
    return next(pwd.getpwnam(name) for name in ("postgres", "nobody") if name in names)


def wait_until_ready(process: subprocess.Popen[bytes], program: str | Path, port: int, *, log: Path, what: str) -> None:
    """Return when what speaks PostgreSQL's protocol answers on loopback.

    Args:
        process: what should answer.
        program: ``pg_isready``.
        port: where.
        log: what it prints.
        what: its name.

    Raises:
        RuntimeError: it has ended; the text has the log.
    """
    ready = [program, "-q", "-h", "127.0.0.1", "-p", str(port)]
    eventually(
        lambda: process.poll() is not None or subprocess.run(ready, check=False, cwd="/").returncode == 0,
        within=30,
        every=0.05,
        what=f"{what} answers",
    )
    if process.poll() is not None:
        raise RuntimeError(f"{what} did not start:\n{log.read_text()}")


class PostgresServer:
    """One server process with its cluster. PostgreSQL refuses to run as root, so root runs it as another user.

    Args:
        directory: where its cluster is, or is made; not given, a new one.
        settings: further settings of the server.
    """

    def __init__(self, directory: Path | None = None, **settings: str) -> None:
        self._bin = _programs()
        if directory is not None:
            directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory or Path(tempfile.mkdtemp(prefix="attune-postgres-"))
        self._settings = settings
        self.port = free_port()
        self._as_user: dict[str, Any] = {}
        if account := unprivileged_account():
            os.chown(self.directory, account.pw_uid, account.pw_gid)
            self._as_user = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        self._process: subprocess.Popen[bytes] | None = None
        self._databases = 0

    def start(self) -> None:
        """Make the cluster, if there is none, start the server, and return when it answers."""
        data = self.directory / "data"
        if not (data / "PG_VERSION").exists():
            self._run("initdb", "-D", data, "-U", _USER, "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self.directory),
            "fsync": "off",  # tests end processes, not the machine
            "max_connections": "60",
            "shared_buffers": "32MB",
            **self._settings,
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with (self.directory / "postgres.log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._bin / "postgres", "-D", data, *options],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd="/",
                **self._as_user,
            )
        log_file = self.directory / "postgres.log"
        wait_until_ready(self._process, self._bin / "pg_isready", self.port, log=log_file, what="PostgreSQL")

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """End it (fast shutdown); connections are cut."""
        if self._process is not None and self._process.poll() is None:
            self.thaw()
            self._process.send_signal(signal.SIGINT)
            self._process.wait(120)

    def kill(self) -> None:
        """End all its processes at once (SIGKILL). The first goes first, so that it cannot start others again."""
        assert self._process is not None, "it was not started"
        others = children(self._process.pid)
        self._process.kill()
        for pid in others:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait(120)

    def place(self, name: str, content: str) -> None:
        """Put a file that only it can read into its directory."""
        path = self.directory / name
        path.touch(mode=0o600)
        path.write_text(content)
        if self._as_user:
            os.chown(path, self._as_user["user"], self._as_user["group"])

    def configure(self, **settings: str) -> None:
        """Set what it has from its next start on."""
        self._settings |= settings

    def freeze(self) -> None:
        """Have it stand still (SIGSTOP), with its connections: it answers nothing more, and does not say so."""
        assert self._process is not None, "it was not started"
        os.kill(self._process.pid, signal.SIGSTOP)  # first, so that it starts no others
        for pid in children(self._process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Have it go on."""
        assert self._process is not None, "it was not started"
        for pid in [*children(self._process.pid), self._process.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def standby(self) -> "PostgresServer":
        """A copy of it that follows it, each commit before it is acknowledged (synchronous replication). It is running."""
        copy = PostgresServer()
        data = copy.directory / "data"
        self._run("pg_basebackup", "-h", "127.0.0.1", "-p", str(self.port), "-U", _USER, "-D", data, "-R", "-c", "fast")
        copy.start()
        self.set("synchronous_standby_names", "*")
        eventually(
            lambda: self.query("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'") == "1",
            within=30,
            what="the standby follows",
        )
        return copy

    def promote(self) -> None:
        """Make a standby the primary, and return when it takes writes."""
        self._run("pg_ctl", "promote", "-D", self.directory / "data", "--no-wait")
        eventually(
            lambda: self.query("SELECT pg_is_in_recovery()") == "f", within=30, every=0.02, what="it is promoted"
        )

    def demote(self) -> None:
        """Have it be a standby from its next start on, though nothing comes from the new primary."""
        (self.directory / "data" / "standby.signal").touch()

    def set(self, name: str, value: str) -> None:
        """Change a setting while it runs; new transactions go by it."""
        self.query(f"ALTER SYSTEM SET {name} = '{value}'")
        self.query("SELECT pg_reload_conf()")
        eventually(lambda: self.query(f"SHOW {name}") == value, within=30, what=f"{name} is {value}")

    def query(self, statement: str, database: str = "postgres", *, port: int | None = None) -> str:
        """What a statement returns, as ``psql`` shows it; by another port, through what stands there."""
        connection = ("-h", "127.0.0.1", "-p", str(port or self.port), "-U", _USER, "-d", database)
        return self._run("psql", "-X", "-A", "-t", *connection, "-c", statement).strip()

    def end_connections(self, database: str) -> None:
        """Cut all connections to a database, and return when they are gone."""
        cut = self.query(f"SELECT string_agg(pid::text, ',') FROM pg_stat_activity WHERE datname = '{database}'") or "0"
        self.query(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid IN ({cut})")
        left = f"SELECT count(*) FROM pg_stat_activity WHERE pid IN ({cut})"
        eventually(lambda: self.query(left) == "0", within=30, every=0.02, what="they are cut")

    def backends(self) -> list[int]:
        """Its processes that serve a connection: those whose title names the client's address."""
        assert self._process is not None, "it was not started"
        found = children(self._process.pid)
        return [pid for pid in found if b" 127.0.0.1(" in Path(f"/proc/{pid}/cmdline").read_bytes()]

    @property
    def pid(self) -> int:
        """Its first process."""
        assert self._process is not None, "it was not started"
        return self._process.pid

    def remove(self) -> None:
        """End it and delete its files."""
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def create_database(self) -> str:
        """URL of a new, empty database."""
        self._databases += 1
        name = f"test_{self._databases}"
        self._run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", _USER, name)
        return self.url(name)

    def url(self, name: str) -> str:
        """URL of a database."""
        return f"postgresql://{_USER}@127.0.0.1:{self.port}/{name}"

    def _run(self, program: str, *arguments: str | Path) -> str:
        done = subprocess.run(
            [self._bin / program, *arguments], capture_output=True, text=True, check=False, cwd="/", **self._as_user
        )
        if done.returncode != 0:
            raise RuntimeError(f"{program} failed:\n{done.stdout}{done.stderr}")
        return str(done.stdout)
