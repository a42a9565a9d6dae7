"""``attune up`` as a whole: what is started after what, and how it all ends.

What takes longest to start is started first: the API, while this process still loads the operator. Sensors follow as soon as the
manifests were read, with what they had in the run before, and the operator then reconciles everything.
"""

import asyncio
import contextlib
import importlib
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import structlog

from attune_contract import emitted, names
from attune_contract.local import Endpoint, Endpoints, write_endpoints
from attune_kit.logs import Style
from attune_local import logs
from attune_local.admission import STDIN
from attune_local.datadir import DataDir
from attune_local.display import Display, JsonLines, PlainLines, Started, program
from attune_local.errors import UpError
from attune_local.manifests import Reader
from attune_local.node import Node
from attune_local.node.pod import PodContext
from attune_local.node.volumes import write_private
from attune_local.objects.store import ObjectStore
from attune_local.processes import Guard, end_leftovers
from attune_local.services import (
    Service,
    ServiceFiles,
    actions_runner,
    api_server,
    emit_url_file,
    nats_server,
    write_kubeconfig,
)
from attune_local.signals import StopSignals
from attune_operator.public.objects import Object

_log = structlog.stdlib.get_logger(__name__)

Output = Literal["auto", "live", "plain", "json"]

#: Where the operator keeps its own Secrets, as with the chart.
NAMESPACE: Final = "attune-system"
#: Seconds that sensors, and then services, have to end.
_SENSOR_GRACE: Final = 10.0
_SERVICE_GRACE: Final = 10.0
_OPERATOR_GRACE: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What was asked for.

    Attributes:
        paths: files and folders with manifests; ``-`` for standard input.
        recursive: folders inside folders, too.
        data_dir: where state is kept between runs.
        fresh: without anything of earlier runs.
        output: what is shown; auto is live on a terminal and plain elsewhere.
        exit_after: seconds after which it ends by itself; None: never.
        api_port, nats_port, control_port: 0 for the one of the run before, or any.
        verbose: the log of ``attune up`` itself on stderr, too.
        log_format: how the log of ``attune up`` itself is written to stderr.
        quiet: sensors' output is not passed on; it is in the log files anyway.
    """

    paths: Sequence[Path]
    data_dir: Path
    recursive: bool = False
    fresh: bool = False
    output: Output = "auto"
    exit_after: float | None = None
    api_port: int = 0
    nats_port: int = 0
    control_port: int = 0
    verbose: bool = False
    log_format: Style = "text"
    quiet: bool = False


def run(options: Options) -> None:
    """Run until it is stopped (SIGINT, SIGTERM, the end of ``exit_after``).

    Raises:
        UpError: it cannot start or continue; one sentence says why. Nothing is left running.
    """
    for path in options.paths:
        if path != STDIN and not path.exists():
            raise UpError(f"There is no file or folder {path}.")
    stdin = _standard_input() if STDIN in options.paths else None
    data = DataDir.open(options.data_dir, fresh=options.fresh)
    try:
        ended = end_leftovers(str(data.path))
        live = options.output == "live" or (options.output == "auto" and sys.stdout.isatty())
        file = data.path / "logs" / "attune-up.log"
        logs.configure(file, verbose=options.verbose, stderr=not live, style=options.log_format)
        if ended:
            _log.warning("leftovers_ended", processes=ended)
        asyncio.run(_Up(options, data, live=live, stdin=stdin).run())
    finally:
        data.close()


def _standard_input() -> str:
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise UpError(f"Standard input cannot be read: {error}.") from None


class _Up:
    def __init__(self, options: Options, data: DataDir, *, live: bool, stdin: str | None) -> None:
        self._options = options
        self._stdin = stdin
        self._data = data
        self._ports = data.ports(
            {"api": options.api_port, "nats": options.nats_port, "control": options.control_port, "actions": 0}
        )
        self._tokens = {name: data.secret(name) for name in ("admin.token", "kubernetes.token")}
        # The operator's own NATS user lives in a temporary file: where the next run finds and removes what a killed one left.
        tempfile.tempdir = str(data.folder("tmp"))
        self._store = ObjectStore(data.path / "objects.db")
        self._guard = Guard(mark=str(data.path), lock=data.lock)
        self._display = self._chosen_display(live=live)
        self._stop = asyncio.Event()
        self._announced = asyncio.Event()
        self._system: Any = None
        self._node = Node(
            PodContext(
                store=self._store,
                guard=self._guard,
                pods=data.folder("pods"),
                log_file=self._log_file,
                working_directory=self._working_directory,
                on_line=self._output,
                notice=self._display.notice,
                on_listening=self._listening,
            )
        )
        self._nats, self._api, self._actions = self._services()

    def _chosen_display(self, *, live: bool) -> Display:
        if live:
            from attune_local.display.live import LiveView  # here: it is not needed in pipes

            return LiveView(self._store)
        kind = JsonLines if self._options.output == "json" else PlainLines
        return kind(outputs=not self._options.quiet)

    def _services(self) -> tuple[Service, Service, Service]:
        root = self._data.path
        control = f"http://127.0.0.1:{self._ports['control']}"
        nats = nats_server(root, port=self._ports["nats"], guard=self._guard)
        api = api_server(
            root,
            port=self._ports["api"],
            nats_url=self.nats_url,
            admin_token_file=root / "admin.token",
            control_url=control,
            control_token_file=root / "kubernetes.token",
            guard=self._guard,
        )

        emit_url_file(root).unlink(missing_ok=True)  # that of the run before: another program may have the port now
        kubeconfig = root / "actions" / "kubeconfig.json"
        actions = actions_runner(
            root,
            port=self._ports["actions"],
            nats_url=self.nats_url,
            api_url=self.api_url,
            admin_token_file=root / "admin.token",
            kubeconfig=kubeconfig,
            may_start=self._announced.is_set,
            guard=self._guard,
        )
        write_kubeconfig(kubeconfig, url=control, token=self._tokens["kubernetes.token"])

        def changed(file: str) -> None:
            if file == "nats/accounts.conf":
                nats.nudge()
                nats.restart()

        ServiceFiles(root, namespace=NAMESPACE, on_change=changed).follow(self._store)
        return nats, api, actions

    @property
    def nats_url(self) -> str:
        """NATS as everybody reaches it."""
        return f"nats://127.0.0.1:{self._ports['nats']}"

    @property
    def api_url(self) -> str:
        """The API as everybody reaches it."""
        return f"http://127.0.0.1:{self._ports['api']}"

    # -- what pods ask

    def _sensor(self, pod: Object) -> tuple[str, str]:
        metadata = pod["metadata"]
        return metadata["namespace"], (metadata.get("labels") or {}).get(names.SENSOR_LABEL, metadata["name"])

    def _log_file(self, pod: Object) -> Path:
        namespace, sensor = self._sensor(pod)
        return self._data.path / "logs" / f"{namespace}.{sensor}" / f"{pod['metadata']['name']}.log"

    def _working_directory(self, pod: Object) -> Path:
        namespace, sensor = self._sensor(pod)
        found = self._system.manifests.folder_of("Sensor", namespace, sensor) if self._system is not None else None
        return found if found is not None and found.is_dir() else Path.cwd()

    def _listening(self, pod: Object, ports: Mapping[str, int]) -> None:
        """What stands for the DNS name of a Sensor's Service, where another part must know it."""
        if self._sensor(pod) == (NAMESPACE, emitted.SENSOR_NAME) and (port := ports.get(emitted.PORT_NAME)):
            file = emit_url_file(self._data.path)
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_private(file, f"http://127.0.0.1:{port}".encode())

    def _output(self, pod: Object, line: str) -> None:
        self._display.output("/".join(self._sensor(pod)), line)

    # -- start, work, end

    async def run(self) -> None:
        StopSignals(self._stop_by).install()
        if self._options.exit_after is not None:
            asyncio.get_running_loop().call_later(self._options.exit_after, self._stop.set)
        await self._guard.start()
        tasks = {
            asyncio.create_task(self._guard.run(), name="guard"),
            asyncio.create_task(self._api.run(), name="api"),
            asyncio.create_task(self._nats.run(), name="nats"),
            asyncio.create_task(self._actions.run(), name="actions"),
            asyncio.create_task(self._display.run(), name="display"),
        }
        stop = asyncio.create_task(self._stop.wait(), name="stop")
        try:
            work = asyncio.create_task(self._work(), name="system")
            tasks.add(work)
            done, _ = await asyncio.wait({*tasks, stop}, return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stop}:
                self._judge(task)
        finally:
            await self._end(tasks, stop)

    @staticmethod
    def _judge(task: "asyncio.Task[Any]") -> None:
        """A part has ended that should not have.

        Raises:
            UpError: always, unless it only lost its reader.
        """
        error = _leaf(task.exception())
        if isinstance(error, UpError):
            raise error
        if isinstance(error, BrokenPipeError):
            return  # `attune up --output json | head`: the reader has closed the pipe
        _log.critical("part_ended", part=task.get_name(), exc_info=error)
        raise UpError(f"attune up cannot go on: its part {task.get_name()!r} ended ({error or 'without an error'}).")

    async def _work(self) -> None:
        # Loaded in threads, so that processes can be started meanwhile.
        system = await asyncio.to_thread(importlib.import_module, "attune_local.system")
        self._system = system.System(
            store=self._store,
            reader=Reader(self._options.paths, recursive=self._options.recursive, stdin=self._stdin),
            paths=self._options.paths,
            display=self._display,
            api_url=self.api_url,
            nats_url=self.nats_url,
            api_token=self._tokens["admin.token"],
            api_token_file=self._data.path / "admin.token",
            control_token=self._tokens["kubernetes.token"],
            log_file=self._log_file,
            position=self._data.path / "shown",
            namespace=NAMESPACE,
        )
        await self._system.load()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._node.run(), name="node")
            group.create_task(self._system.run(control_port=self._ports["control"]), name="operator")
            group.create_task(self._announce(), name="announce")

    async def _announce(self) -> None:
        await asyncio.gather(self._system.ready.wait(), self._api.ready.wait(), self._nats.ready.wait())
        root = self._data.path
        control = f"http://127.0.0.1:{self._ports['control']}"
        endpoints = Endpoints(
            pid=os.getpid(),
            kubernetes=Endpoint(url=control, token_file=str(root / "kubernetes.token")),
            api=Endpoint(url=self.api_url, token_file=str(root / "admin.token")),
            pages={
                "operator": self._system.operator_url,
                "actions": f"http://127.0.0.1:{self._ports['actions']}",
            },
        )
        await asyncio.to_thread(write_endpoints, root, endpoints)
        # Only now: what happened meanwhile is in the stream, and the start need not wait for this.
        self._announced.set()
        self._actions.nudge()
        called = program(sys.argv[0], found=shutil.which("attune"))
        where = Started(api_url=self.api_url, token_file=root / "admin.token", data_dir=root, program=called)
        self._display.started(where)

    def _stop_by(self, number: signal.Signals) -> None:
        _log.info("signal_received", signal=number.name)
        self._stop.set()

    async def _end(self, tasks: set["asyncio.Task[Any]"], stop: "asyncio.Task[Any]") -> None:
        """Sensors first, while the API takes what they have; then actions, the operator, the API and NATS."""
        self._stop.set()
        _log.info("stopping")
        if self._system is not None:
            self._system.stop_following_files()
        await self._node.stop(grace=_SENSOR_GRACE)
        await self._actions.stop(grace=_SERVICE_GRACE)
        if self._system is not None:
            with contextlib.suppress(BrokenPipeError):
                await self._system.last_events()
            await self._system.stop(timeout=_OPERATOR_GRACE)
        await self._api.stop(grace=_SERVICE_GRACE)
        await self._nats.stop(grace=_SERVICE_GRACE)
        for task in {*tasks, stop}:
            task.cancel()
        await asyncio.gather(*tasks, stop, return_exceptions=True)
        self._display.close()
        await self._guard.stop()
        self._store.close()
        _log.info("stopped")


def _leaf(error: BaseException | None) -> BaseException | None:
    """The first error inside groups of them."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
