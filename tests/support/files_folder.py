"""A folder as something that a sensor reads, and its sensor in trouble."""

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

from support.api_process import ApiProcess
from support.eventually import eventually
from support.nats_server import NatsServer
from support.sensor_process import stored_events
from support.source_chaos import RULES, Chaos, Outcome, ServerQueue, go_through, sensor_of

from attune_contract.identity import SensorRef

REF = SensorRef("attune-system", "core.files")
TYPE = "core.filescomplete"


class Mount:
    """A folder that can be away, as when its volume is not mounted."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._aside = path.with_name("away")

    def start(self) -> None:
        """Have it there, with what it has."""
        if self._aside.exists():
            self._aside.rename(self.path)
        else:
            self.path.mkdir()

    def kill(self) -> None:
        """Have it away."""
        self.path.rename(self._aside)

    def stop(self) -> None:
        """Nothing."""


class FilesFolder(ServerQueue[Mount]):
    """A folder into which files are moved.

    Args:
        mount: the folder.
        api: where the events of its files arrive.
        staging: a folder of the same file system, where files are written.
    """

    def __init__(self, mount: Mount, *, api: ApiProcess, staging: Path) -> None:
        super().__init__(mount)
        self._api = api
        self._staging = staging
        self._sent = 0
        staging.mkdir()

    def make(self) -> None:
        """Nothing: the folder is there."""

    def send(self, numbers: range) -> None:
        """Move files into the folder, one by one, as soon as it is there."""
        for number in numbers:
            written = self._staging / f"{number:06}.json"
            written.write_text(f'{{"n": {number}}}')
            eventually(partial(self._move, written), within=120, what="the folder is there", every=0.02)
        self._sent = numbers.stop

    def unacknowledged(self) -> int:
        """Files whose events are not stored: nothing acknowledges in a folder."""
        return self._sent * RULES - len(asyncio.run(stored_events(self._api)))

    def _move(self, written: Path) -> bool:
        written.rename(self.server.path / written.name)
        return True


async def live_through(directory: Path, *, nats: NatsServer, chaos: Chaos) -> Outcome:
    """Move files into a folder and let things fail; returns what became of them."""
    api = ApiProcess(directory / "api")
    await asyncio.to_thread(api.start)
    mount = Mount(directory / "inbox")
    mount.start()
    try:
        config: dict[str, Any] = {"folders": {"default": {"path": str(mount.path), "scanEvery": "1s"}}}
        sensor, replica = (
            sensor_of("attune_files", directory / name, api=api, nats=nats, config=config, ref=REF, trigger_type=TYPE)
            for name in ("sensor", "replica")
        )
        parameters = {"content": "inline", "settle": "200ms", "first": "report"}
        folder = FilesFolder(mount, api=api, staging=directory / "staging")
        return await go_through(chaos, folder, sensor, replica, api, parameters=parameters)
    finally:
        await asyncio.to_thread(api.stop)
