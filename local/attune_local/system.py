"""What works in this process: the operator over the store, the manifests, the control API, and who follows the events.

A module of its own since it loads what takes long to load; :mod:`.up` has started the API by then.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Final

import structlog

from attune_local.admission import Problem
from attune_local.control import Control
from attune_local.display import Display
from attune_local.errors import UpError
from attune_local.event_follower import EventFollower
from attune_local.manifests import Manifests, Reader
from attune_local.notices import Notices
from attune_local.objects import LocalBackend, ObjectStore
from attune_operator.public.backend import Backend, ClusterError
from attune_operator.public.objects import Object
from attune_operator.public.program import Operator, RulesOptions, Settings, TaskDiedError

_log = structlog.stdlib.get_logger(__name__)

#: A store in memory takes thousands of writes a second, and has no other clients.
_RULES: Final = RulesOptions(
    status_rate=5000.0,
    last_event_interval=1.0,
    times_rate=50.0,
    times_sensor_rate=10.0,
    summary_interval=0.1,
    backoff_limit=2.0,
)


class System:
    """The parts that run in one event loop. :attr:`ready` is set when the operator has looked at everything once."""

    def __init__(
        self,
        *,
        store: ObjectStore,
        reader: Reader,
        paths: Sequence[Path],
        display: Display,
        api_url: str,
        nats_url: str,
        api_token: str,
        api_token_file: Path,
        control_token: str,
        log_file: Callable[[Object], Path],
        position: Path,
        namespace: str,
    ) -> None:
        self._store = store
        self._display = display
        self._reader = reader
        self.manifests = Manifests(
            paths, store, reader=reader, on_problem=lambda problem: self._problem(display, problem)
        )
        self._operator = Operator(
            Settings(
                namespace=namespace,
                watch_namespaces=(),
                trusted_sensor_namespaces=("*",),  # one user owns all of them
                nats_url=nats_url,
                nats_auth="managed",
                sensor_api_url=api_url,
                api_url=api_url,
                api_token_file=api_token_file,
                run_counts_interval=timedelta(seconds=2),
                network_policies=False,
                bind_address="127.0.0.1",
                metrics_port=0,
                liveness_port=0,
                sweep_interval=timedelta(seconds=30),
                instance="attune-up",
            ),
            connect=self._connect,
            rules=_RULES,
        )
        self._control = Control(store, token=control_token, log_file=log_file)
        self._follower = EventFollower(url=api_url, token=api_token, position=position, on_events=display.events)
        self._notices = Notices(find=self.manifests.find, say=display.notice)
        self._following: asyncio.Task[None] | None = None
        self._operating: asyncio.Task[None] | None = None

    @property
    def ready(self) -> asyncio.Event:
        """Set when the operator has looked at everything once."""
        return self._operator.ready

    @property
    def operator_url(self) -> str:
        """Where the operator serves its metrics, once :attr:`ready` is set."""
        return f"http://127.0.0.1:{self._operator.server.metrics_port}"

    @staticmethod
    def _problem(display: Display, problem: Problem) -> None:
        display.notice(str(problem))

    async def _connect(self, _: Settings) -> Backend:
        return LocalBackend(self._store)

    async def load(self) -> None:
        """Read the manifests.

        Raises:
            UpError: a path does not exist (any more).
        """
        self._store.subscribe(self._notices.on_change)
        try:
            await self.manifests.load()
        except FileNotFoundError as error:
            raise UpError(str(error)) from None
        for note in await asyncio.to_thread(lambda: self._reader.found().notes):
            self._display.notice(f"{note.path}: {note.message}.")
        if not self.manifests.scan.objects and not self.manifests.scan.problems:
            self._display.notice("There is no manifest yet. `attune new rule` and `attune new sensor` write one.")

    async def run(self, *, control_port: int) -> None:
        """Work until cancelled.

        Raises:
            UpError: a part of it ended that should not have.
        """
        try:
            await self._control.start(port=control_port)
        except OSError as error:
            raise UpError(f"Port {control_port} of 127.0.0.1 cannot be listened on: {error.strerror}.") from error
        async with asyncio.TaskGroup() as group:
            self._operating = group.create_task(self._operate(), name="operator")
            self._following = group.create_task(self.manifests.run(), name="manifests")
            group.create_task(self._follower.run(), name="events")

    async def _operate(self) -> None:
        try:
            await self._operator.run()
        except (TaskDiedError, ClusterError) as error:
            raise UpError(f"The operator cannot go on: {error}.") from error

    def stop_following_files(self) -> None:
        """From now on an edit changes nothing."""
        if self._following is not None:
            self._following.cancel()

    async def last_events(self) -> None:
        """Show what came in before the API goes."""
        await self._follower.read_rest()

    async def stop(self, *, timeout: float) -> None:  # noqa: ASYNC109 - it bounds the wait, not the caller
        """End the operator in order, and then the rest."""
        self._operator.stop()
        if self._operating is not None:
            await asyncio.wait({self._operating}, timeout=timeout)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2):
                await self._control.stop()
