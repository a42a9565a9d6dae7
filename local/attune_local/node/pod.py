"""One pod: a process that is started, probed, started again when it ends, and whose state is written into the pod's status.

What the operator reads there is what kubelet would write: a container's state and last state, how often it was restarted, and the
condition Ready; its last log lines stand for the reason when it ended badly.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import structlog

from attune_contract import environment, names
from attune_kit.backoff import Backoff
from attune_local.node import container as containers
from attune_local.node import probes, volumes
from attune_local.node.container import ContainerError
from attune_local.objects.store import ObjectStore, timestamp
from attune_local.ports import free_port, port_like
from attune_local.processes import Guard, Process, Program
from attune_operator.public.objects import POD, STDIO_COPIER, Kind, Object

_log = structlog.stdlib.get_logger(__name__)

#: Seconds before the first restart, and the longest wait. kubelet takes 10 s to 5 min, but here a person waits.
_RETRY: Final = Backoff(initial=0.1, maximum=10.0, factor=3.0)
#: A process that ran so long starts afresh: its next end is the first again.
_STEADY: Final = 10.0
#: Seconds between probes while somebody waits for the answer.
_EAGER: Final = 0.1
_MESSAGE: Final = 2048
#: Seconds between looks at what a container that cannot be started waits for, where nothing is heard of it.
_RECHECK: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PodContext:
    """What pods are run in.

    Attributes:
        store: where their objects are.
        guard: told of every process.
        pods: folder with a folder for each pod.
        log_file: where a pod's output goes.
        working_directory: where a pod's process starts.
        on_line: told each line of a pod's output.
        notice: told what somebody should know.
        on_listening: told on which ports of loopback a pod listens, by their names, when it starts.
    """

    store: ObjectStore
    guard: Guard
    pods: Path
    log_file: Callable[[Object], Path]
    working_directory: Callable[[Object], Path]
    on_line: Callable[[Object, str], None]
    notice: Callable[[str], None]
    on_listening: Callable[[Object, Mapping[str, int]], None]


class Pod:
    """Runs the pod named so until it is deleted, or :meth:`stop`."""

    def __init__(self, namespace: str, name: str, *, context: PodContext) -> None:
        self._namespace = namespace
        self._name = name
        self._context = context
        self._changed = asyncio.Event()
        self._stopping: float | None = None
        self._restarts = 0
        self._failures = 0
        self._last: Object = {}
        self._reported_ports: dict[str, int] = {}
        self._listens: dict[str, int] = {}
        self._ready_since: tuple[bool, str] = (False, "")
        self._folder = context.pods / f"{namespace}.{name}"

    def changed(self) -> None:
        """The pod, or something that it mounts, is another than it was."""
        self._changed.set()

    def stop(self, *, grace: float) -> None:
        """End the process, within so many seconds; the pod stays, for the next run."""
        self._stopping = grace
        self._changed.set()

    @property
    def _object(self) -> Object | None:
        return self._context.store.get(POD, self._namespace, self._name)

    def _going(self) -> bool:
        found = self._object
        return self._stopping is not None or found is None or "deletionTimestamp" in found["metadata"]

    def _find(self, kind: Kind, name: str) -> Object | None:
        return self._context.store.get(kind, self._namespace, name)

    async def run(self) -> None:
        """Work until the pod is deleted, or until :meth:`stop`."""
        self._restarts = self._counted_before()
        while not self._going():
            self._changed.clear()
            try:
                process = await self._start()
            except ContainerError as error:
                self._report_waiting(error.reason, str(error))
                await self._wait(_RECHECK)
                continue
            except OSError as error:
                self._failures += 1
                self._report_waiting("CreateContainerError", f"{error.strerror}: {error.filename}")
                await self._wait(_RETRY.delay(attempt=self._failures))
                continue
            except Exception as error:
                # What a manifest says must not end more than the pod that it is about.
                self._failures += 1
                _log.exception("pod_not_prepared", pod=self._name, namespace=self._namespace)
                self._report_waiting("CreateContainerError", f"The pod cannot be prepared: {error}")
                await self._wait(_RETRY.delay(attempt=self._failures))
                continue
            await self._attend(process)
            if not self._going():
                self._report_waiting("CrashLoopBackOff", "It ended and is started again.")
                await self._wait(_RETRY.delay(attempt=self._failures))
        found = self._object
        if self._stopping is None and found is not None:
            self._context.store.remove(POD, found)
            await asyncio.to_thread(volumes.remove, self._folder)

    def _counted_before(self) -> int:
        statuses = ((self._object or {}).get("status") or {}).get("containerStatuses") or ()
        return int(statuses[0].get("restartCount") or 0) if statuses else 0

    async def _wait(self, seconds: float) -> None:
        """Wait, unless something changes."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()

    # -- start and end

    async def _start(self) -> Process:
        """Start the process.

        Raises:
            ContainerError: something that it needs is not there.
            OSError: its program cannot be started.
        """
        pod = self._object
        if pod is None:
            raise ContainerError("ContainerCreating", "The pod is gone.")
        container = self._container(pod)
        await asyncio.to_thread(volumes.prepare, pod, self._folder, self._find)
        folders = volumes.folders(pod, self._folder)
        mounted = containers.mounts(container, folders)
        mounted |= await asyncio.to_thread(volumes.gather, self._folder / "secrets", environment.SECRETS_MOUNT, mounted)
        asked = containers.variables(container, pod, self._find, mounted)
        self._port = free_port()
        ports = {name: port_like(number) for name, number in containers.listening_ports(container).items()}
        directory = self._context.working_directory(pod)
        tmp = self._folder / "tmp"
        tmp.mkdir(mode=0o700, exist_ok=True)
        process = Process(
            Program(
                name=f"{self._namespace}/{self._name}",
                arguments=containers.command(container, asked, mounted),
                environment=containers.process_environment(
                    asked, port=self._port, ports=ports, tmp=tmp, inherited=os.environ
                ),
                directory=directory,
                log=self._context.log_file(pod),
            ),
            guard=self._context.guard,
            on_line=lambda line: self._context.on_line(pod, line),
        )
        await process.start()
        self._listens = {"metrics": self._port, **ports}
        self._report_ports(pod, ports)
        return process

    def _report_ports(self, pod: Object, ports: dict[str, int]) -> None:
        if ports and ports != self._reported_ports:
            self._reported_ports = ports
            self._context.on_listening(pod, ports)
            sensor = (pod["metadata"].get("labels") or {}).get(names.SENSOR_LABEL, self._name)
            where = ", ".join(f"{name} at 127.0.0.1:{number}" for name, number in ports.items())
            self._context.notice(f"Sensor {self._namespace}/{sensor} listens: {where}.")

    def _container(self, pod: Object) -> dict[str, Any]:
        spec = pod["spec"]
        # What puts the supervisor of `runner: Stdio` into other people's images is not needed: it is installed here.
        before = [found for found in spec.get("initContainers") or () if found["name"] != STDIO_COPIER]
        if len(spec["containers"]) != 1 or before:
            raise ContainerError("CreateContainerError", "attune up runs pods of one container only.")
        container: dict[str, Any] = spec["containers"][0]
        return container

    async def _attend(self, process: Process) -> None:
        """Look after the running process until it has ended."""
        started = datetime.now(UTC)
        loop = asyncio.get_running_loop()
        began = loop.time()
        ended = asyncio.create_task(process.wait())
        probing = asyncio.create_task(self._probe(process, started), name=f"probes of {self._name}")
        try:
            while not ended.done() and not self._going():
                self._changed.clear()
                change = asyncio.create_task(self._changed.wait())
                await asyncio.wait({ended, change, probing}, return_when=asyncio.FIRST_COMPLETED)
                change.cancel()
                if probing.done() and not ended.done():
                    # It has been dead for longer than its probes allow.
                    break
                await self._refresh()
            probing.cancel()
            await asyncio.gather(probing, return_exceptions=True)
            if not ended.done():
                await process.stop(grace=self._grace(), ended=ended)
        finally:
            probing.cancel()
            if not ended.done():
                process.kill()
            status = await ended
        self._failures = 1 if loop.time() - began > _STEADY else self._failures + 1
        self._restarts += 1
        self._last = {
            "terminated": {
                "exitCode": status if status >= 0 else 128 - status,
                "reason": "Completed" if status == 0 else "Error",
                "message": process.tail[-_MESSAGE:],
                "startedAt": timestamp(started),
                "finishedAt": timestamp(datetime.now(UTC)),
            }
        }
        level = _log.info if self._going() else _log.warning
        level("sensor_ended", pod=self._name, namespace=self._namespace, status=status, restarts=self._restarts)

    def _grace(self) -> float:
        wanted = float(((self._object or {}).get("spec") or {}).get("terminationGracePeriodSeconds", 30))
        return wanted if self._stopping is None else min(wanted, self._stopping)

    async def _refresh(self) -> None:
        """Bring files up to date: credentials are renewed under a running sensor."""
        pod = self._object
        if pod is None:
            return
        try:
            await asyncio.to_thread(volumes.prepare, pod, self._folder, self._find)
        except Exception as error:
            # As kubelet: what is there stays.
            _log.warning("files_not_refreshed", pod=self._name, error=str(error))

    # -- probes and status

    async def _probe(self, process: Process, started: datetime) -> None:
        """Ask the probes, and report; returns when the process has to be ended."""
        pod = self._object
        container = pod["spec"]["containers"][0] if pod is not None else {}
        startup, live = container.get("startupProbe"), container.get("livenessProbe")
        self._report_running(started, live=False, ready=False)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _patience(startup)
        while startup is not None and not await self._ask(startup, container):
            if loop.time() > deadline:
                _log.warning("sensor_does_not_start", pod=self._name, seconds=_patience(startup))
                return
            await asyncio.sleep(_EAGER)
        dead_since: float | None = None
        ready, wrong = False, 0
        while True:
            wanted = container.get("readinessProbe")
            yes = wanted is None or await self._ask(wanted, container)
            wrong = 0 if yes else wrong + 1
            if yes or wrong >= int((wanted or {}).get("failureThreshold", 3)):
                ready = yes
            self._report_running(started, live=True, ready=ready)
            if live is not None and not yes:
                alive = await self._ask(live, container)
                dead_since = None if alive else dead_since or loop.time()
                if dead_since is not None and loop.time() - dead_since > _patience(live):
                    _log.warning("sensor_does_not_answer", pod=self._name, seconds=_patience(live))
                    return
            else:
                dead_since = None
            await asyncio.sleep(min(1.0, float((wanted or {}).get("periodSeconds", 1))) if ready else _EAGER)

    async def _ask(self, probe: Object, container: Object) -> bool:
        asked = probe.get("httpGet")
        if asked is None:
            return True
        port = asked.get("port")
        for known in container.get("ports") or ():
            if port in (known.get("name"), known.get("containerPort")):
                port = known["containerPort"]
        number = self._port if port == environment.DEFAULT_METRICS_PORT else int(port)
        return await probes.answers_yes(
            port=number, path=asked.get("path", "/"), timeout=float(probe.get("timeoutSeconds", 1))
        )

    def _report_running(self, started: datetime, *, live: bool, ready: bool) -> None:
        self._report({"running": {"startedAt": timestamp(started)}}, started=live, ready=ready)

    def _report_waiting(self, reason: str, message: str) -> None:
        self._report({"waiting": {"reason": reason, "message": message}}, started=False, ready=False)

    def _report(self, state: Object, *, started: bool, ready: bool) -> None:
        pod = self._object
        if pod is None:
            return
        if self._ready_since[0] != ready or not self._ready_since[1]:
            self._ready_since = (ready, timestamp(datetime.now(UTC)))
        container = pod["spec"]["containers"][0]
        condition = {"status": "True" if ready else "False", "lastTransitionTime": self._ready_since[1]}
        status = {
            "phase": "Running" if "running" in state else "Pending",
            "podIP": "127.0.0.1",
            "hostIP": "127.0.0.1",
            "conditions": [
                {"type": "PodScheduled", "status": "True", "lastTransitionTime": pod["metadata"]["creationTimestamp"]},
                {"type": "ContainersReady", **condition},
                {"type": "Ready", **condition},
            ],
            "containerStatuses": [
                {
                    "name": container["name"],
                    "image": container["image"],
                    "ready": ready,
                    "started": started,
                    "restartCount": self._restarts,
                    "state": state,
                    "lastState": self._last,
                    # Not Kubernetes': here a port need not be the one that the container names.
                    "localPorts": self._listens if "running" in state else {},
                }
            ],
        }
        self._context.store.set_status(POD, self._namespace, self._name, status)


def _patience(probe: Object | None) -> float:
    """Seconds that a probe may fail."""
    found = probe or {}
    return float(found.get("periodSeconds", 10)) * float(found.get("failureThreshold", 3))
