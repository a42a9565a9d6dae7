"""NATS, the API and the runner of actions as processes, with what the chart gives them in a cluster.

What the operator writes for them (NATS's authorisation, the keys, the API's NATS user) is put into their files whenever it
changes; the API reads its own again, and NATS is started again when it would trust the wrong keys.
"""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import structlog

from attune_contract import emitted, environment, names, subjects
from attune_kit.backoff import Backoff
from attune_local.errors import UpError
from attune_local.node.probes import answers_yes
from attune_local.node.volumes import contents, write_private
from attune_local.objects.store import ObjectStore
from attune_local.processes import Guard, Process, Program
from attune_operator.public.backend import WatchEventType
from attune_operator.public.objects import CONFIG_MAP, SECRET, Kind, Object

_log = structlog.stdlib.get_logger(__name__)

_RETRY: Final = Backoff(initial=0.1, maximum=5.0)
#: Ends in a row, before it ever answered, after which it is given up.
_GIVE_UP: Final = 4
_PROBE: Final = 0.05

#: The operator's objects and the files that services find them in (deploy/helm/attune, api.yaml and nats.yaml).
_FILES: Final[dict[tuple[Kind, str, str], str]] = {
    (SECRET, "attune-nats-config", "accounts.conf"): "nats/accounts.conf",
    (SECRET, "attune-nats-api", "nats.creds"): "api/nats.creds",
    (SECRET, "attune-nats-actions", "nats.creds"): "actions/nats.creds",
    # The Sensor core.event and the runner of actions share its token.
    (SECRET, names.sensor_object_name(emitted.SENSOR_NAME), environment.TOKEN_KEY): "actions/emit/token",
    (SECRET, "attune-signing-keys", "signing-keys.json"): "api/signing-keys.json",
    (CONFIG_MAP, "attune-jwks", "jwks.json"): "api/jwks.json",
}


class ServiceFiles:
    """Writes what services read. ``on_change`` is called with the file's name."""

    def __init__(self, root: Path, *, namespace: str, on_change: Callable[[str], None]) -> None:
        self._root = root
        self._namespace = namespace
        self._on_change = on_change

    def follow(self, store: ObjectStore) -> None:
        """Write what there is, and each change."""
        for kind, name, _ in _FILES:
            if (body := store.get(kind, self._namespace, name)) is not None:
                self.write(kind, None, body)
        store.subscribe(self.write)

    def write(self, kind: Kind, event: WatchEventType, body: Object) -> None:
        """Write an object's files. A deleted object keeps its files until the operator has created it again."""
        metadata = body["metadata"]
        if event == "DELETED" or metadata.get("namespace") != self._namespace:
            return
        for (of, name, key), file in _FILES.items():
            if of != kind or name != metadata["name"]:
                continue
            content = contents(kind, body).get(key)
            path = self._root / file
            if content is not None and not (path.exists() and path.read_bytes() == content):
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                write_private(path, content)
                self._on_change(file)


class Service:
    """Keeps one program running. ``ready`` is set while it answers; ``may_start`` when what it needs is there."""

    def __init__(
        self, program: Program, *, guard: Guard, answers: Callable[[], Awaitable[bool]], may_start: Callable[[], bool]
    ) -> None:
        self._program = program
        self._guard = guard
        self._answers = answers
        self._may_start = may_start
        self._process: Process | None = None
        self._wake = asyncio.Event()
        self._stopping = False
        self._task: asyncio.Task[None] | None = None
        self.ready = asyncio.Event()

    def nudge(self) -> None:
        """What it needs may be there now."""
        self._wake.set()

    def restart(self) -> None:
        """Start it again: its configuration is another one."""
        if self._process is not None:
            self._process.terminate()

    async def run(self) -> None:
        """Keep it running until :meth:`stop`.

        Raises:
            UpError: it ends again and again before it has ever answered.
        """
        self._task = asyncio.current_task()
        failures, answered = 0, False
        while not self._stopping:
            while not self._may_start():
                self._wake.clear()
                await self._wake.wait()
            process = Process(self._program, guard=self._guard, on_line=lambda _: None)
            try:
                await process.start()
            except OSError as error:
                raise UpError(f"{self._program.name} cannot be started: {error}.") from error
            self._process = process
            ended = asyncio.create_task(process.wait())
            watching = asyncio.create_task(self._watch())
            try:
                status = await asyncio.shield(ended)
            except asyncio.CancelledError:
                process.kill()
                await ended
                raise
            finally:
                watching.cancel()
                self._process = None
                was_ready = self.ready.is_set()
                self.ready.clear()
            answered = answered or was_ready
            failures = 1 if was_ready else failures + 1
            if self._stopping:
                return
            _log.warning("service_ended", service=self._program.name, status=status, then="it is started again")
            if not answered and failures >= _GIVE_UP:
                said = " ".join(process.tail.split())[-500:]
                raise UpError(
                    f"{self._program.name} ended with status {status} before it ever answered; it said last: {said} "
                    f"(all of it: {self._program.log})"
                )
            await asyncio.sleep(_RETRY.delay(attempt=failures))

    async def _watch(self) -> None:
        while not await self._answers():  # noqa: ASYNC110 - another process sends no notification
            await asyncio.sleep(_PROBE)
        self.ready.set()
        _log.info("service_ready", service=self._program.name)

    async def stop(self, *, grace: float) -> None:
        """End it."""
        self._stopping = True
        process, task = self._process, self._task
        if process is not None:
            process.terminate()
        if task is None or task.done():
            return
        if process is None:
            task.cancel()  # it waits for something
        await asyncio.wait({task}, timeout=grace)
        if not task.done():
            _log.warning("service_killed", service=self._program.name, after_seconds=grace)
            task.cancel()
            await asyncio.wait({task}, timeout=5)


def _clean_environment(*prefixes: str) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}


def nats_server(root: Path, *, port: int, guard: Guard) -> Service:
    """The NATS server with JetStream, bound to loopback. It waits for the operator's ``accounts.conf``."""
    folder = root / "nats"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    config = folder / "nats.conf"
    text = f'listen: "127.0.0.1:{port}"\njetstream {{ store_dir: "{folder / "data"}" }}\ninclude "accounts.conf"\n'
    write_private(config, text.encode())
    server = Path(sys.executable).with_name("nats-server")
    program = Program(
        name="The NATS server",
        arguments=[str(server), "--config", str(config)],
        environment=_clean_environment("ATTUNE_"),
        directory=folder,
        log=root / "logs" / "nats.log",
        what="service",
    )

    async def answers() -> bool:
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(1):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                try:
                    return await reader.readexactly(4) == b"INFO"
                except asyncio.IncompleteReadError:
                    return False
                finally:
                    writer.close()
        return False

    return Service(program, guard=guard, answers=answers, may_start=(folder / "accounts.conf").exists)


def api_server(
    root: Path,
    *,
    port: int,
    nats_url: str,
    admin_token_file: Path,
    control_url: str,
    control_token_file: Path,
    guard: Guard,
) -> Service:
    """The API on SQLite, bound to loopback. It needs nothing to start, and reads keys and credentials when they come."""
    folder = root / "api"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    settings = {
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "DATABASE_URL": f"sqlite:///{folder / 'attune.db'}",
        "JWKS_FILE": str(folder / "jwks.json"),
        "SIGNING_KEYS_FILE": str(folder / "signing-keys.json"),
        "ADMIN_TOKEN_FILE": str(admin_token_file),
        "KUBERNETES_AUTH": "off",
        "NATS_URL": nats_url,
        "NATS_CREDS_FILE": str(folder / "nats.creds"),
        "NATS_RULES_API": subjects.RULES_API,
        "CONSOLE": "true",
        "CONSOLE_KUBERNETES_URL": control_url,
        "CONSOLE_KUBERNETES_TOKEN_FILE": str(control_token_file),
    }
    program = Program(
        name="The API",
        arguments=[sys.executable, "-m", "attune_api"],
        # Other settings of the API, such as its log level, may be set in the shell.
        environment={
            **_clean_environment("ATTUNE_SENSOR", "ATTUNE_OPERATOR", "ATTUNE_NATS"),
            **{f"ATTUNE_API_{name}": value for name, value in settings.items()},
        },
        directory=folder,
        log=root / "logs" / "api.log",
        what="service",
    )
    return Service(
        program,
        guard=guard,
        answers=lambda: answers_yes(port=port, path="/ready", timeout=2),
        may_start=lambda: True,
    )


def emit_url_file(root: Path) -> Path:
    """Where the runner of actions reads at which port the Sensor ``core.event`` listens.

    Args:
        root: the data directory.
    """
    return root / "actions" / "emit" / "url"


def actions_runner(
    root: Path,
    *,
    port: int,
    nats_url: str,
    api_url: str,
    admin_token_file: Path,
    kubeconfig: Path,
    may_start: Callable[[], bool],
    guard: Guard,
) -> Service:
    """The runner of actions. It reaches what it likes: everything is on this machine, and so is who wrote the Rules.

    Args:
        root: the data directory.
        port: of its probes.
        nats_url: NATS.
        api_url: the API.
        admin_token_file: the API's token.
        kubeconfig: how it reaches our own store, as if it were a cluster.
        may_start: whether it may be started.
        guard: ends it.
    """
    folder = root / "actions"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    settings = {
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "NATS_URL": nats_url,
        "NATS_CREDS_FILE": str(folder / "nats.creds"),
        "API_URL": api_url,
        "API_TOKEN_FILE": str(admin_token_file),
        "EMIT_URL_FILE": str(emit_url_file(root)),
        "EMIT_TOKEN_FILE": str(folder / "emit" / "token"),
        "LOCAL": "true",
        "LOCAL_JOBS": str(folder / "jobs"),
        "ALLOWED_NETWORKS": "0.0.0.0/0,::/0",
        "GRACE": "5",
    }
    program = Program(
        name="The runner of actions",
        arguments=[sys.executable, "-m", "attune_actions"],
        environment={
            **_clean_environment("ATTUNE_SENSOR", "ATTUNE_OPERATOR", "ATTUNE_NATS", "ATTUNE_API", "KUBERNETES_SERVICE"),
            "KUBECONFIG": str(kubeconfig),
            **{f"ATTUNE_ACTIONS_{name}": value for name, value in settings.items()},
        },
        directory=folder,
        log=root / "logs" / "actions.log",
        what="service",
    )
    return Service(
        program,
        guard=guard,
        answers=lambda: answers_yes(port=port, path="/ready", timeout=2),
        may_start=may_start,
    )


def write_kubeconfig(path: Path, *, url: str, token: str) -> None:
    """Write how our own part of the Kubernetes API is reached."""
    text = json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "attune-up", "cluster": {"server": url}}],
            "users": [{"name": "attune-up", "user": {"token": token}}],
            "contexts": [{"name": "attune-up", "context": {"cluster": "attune-up", "user": "attune-up"}}],
            "current-context": "attune-up",
        }
    )
    write_private(path, text.encode())
