"""The SDK's rule reader at work, without the rest of a sensor."""

import asyncio
from collections.abc import Callable

import structlog

from attune_contract import subjects
from attune_contract.identity import SensorRef
from attune_sensor.connection import NatsConnection
from attune_sensor.metrics import Metrics
from attune_sensor.rule_reader import RuleReader
from attune_sensor.rule_table import RuleChange, RuleTable
from attune_sensor.tasks import end


class SensorReader:
    """A sensor's rule state, read as the SDK does."""

    def __init__(
        self,
        ref: str,
        url: str,
        *,
        on_changes: Callable[[list[RuleChange]], None] = lambda _: None,
        resync_seconds: float = 1.0,
    ) -> None:
        self.table = RuleTable()
        metrics, log = Metrics(), structlog.get_logger()
        self._connection = NatsConnection(
            url=url,
            name=ref,
            inbox_prefix=SensorRef.parse(ref).inbox_prefix,
            credentials=None,
            metrics=metrics,
            log=log,
        )
        self._reader = RuleReader(
            connection=self._connection,
            filter_subject=subjects.rules_filter(SensorRef.parse(ref)),
            table=self.table,
            on_changes=on_changes,
            on_snapshot=lambda: None,
            metrics=metrics,
            log=log,
            resync_seconds=resync_seconds,
            heartbeat_seconds=0.3,
            absence_seconds=0.3,
        )
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._connection.run()), asyncio.create_task(self._reader.run())]

    async def stop(self) -> None:
        await end(*self._tasks, patience=0.2)

    def state(self) -> dict[str, tuple[int, bool]]:
        return {each.uid: (each.state.generation, each.state.enabled) for each in self.table}
