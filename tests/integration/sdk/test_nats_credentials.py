# ruff: noqa: ASYNC240 - these files are small, and nothing else runs in the loop
"""NATS credentials that are renewed, that expire, and that allow little, against a server in operator mode."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import structlog
from support.eventually import until
from support.nats_accounts import NatsAccounts
from support.nats_server import NatsServer
from support.rule_stream import RuleStream, rule_state

from attune_contract.messages import AckState
from attune_kit.nats.connection import NatsEndpoint
from attune_kit.nats.connector import NatsConnector
from attune_sensor._acks import AckPublisher
from attune_sensor._metrics import Metrics
from attune_sensor._rule_reader import RuleReader
from attune_sensor._rule_table import RuleTable
from attune_sensor._rules import Rule

pytest_plugins = ["support.sensor_fixtures"]
pytestmark = pytest.mark.nats

FILTER = "attune.rules.attune-system.core_timer.>"
INBOX = "_INBOX_attune-system_core_timer"
#: What a sensor's credentials allow (issue "Credentials"), and nothing else.
PUBLISH = [
    f"$JS.API.CONSUMER.CREATE.ATTUNE_RULES.*.{FILTER}",
    "$JS.API.CONSUMER.MSG.NEXT.ATTUNE_RULES.*",
    "$JS.API.CONSUMER.DELETE.ATTUNE_RULES.*",
    "attune.acks.attune-system.core_timer.>",
]
SUBSCRIBE = [f"{INBOX}.>"]


class Sensor:
    """The parts of a sensor that talk to NATS."""

    def __init__(self, url: str, creds: Path, *, request_timeout: float = 5.0) -> None:
        self.metrics = Metrics()
        log = structlog.get_logger()
        self.connector = NatsConnector(
            NatsEndpoint(url=url, inbox_prefix=INBOX, creds_file=creds, request_timeout=request_timeout),
            on_state=self.metrics.nats_connected.set,
        )
        self.acks = AckPublisher(
            connector=self.connector,
            prefix="attune.acks.attune-system.core_timer",
            instance="pod-1",
            metrics=self.metrics,
            log=log,
        )
        self.table = RuleTable()
        self.snapshots = 0
        self.reader = RuleReader(
            connector=self.connector,
            filter_subject=FILTER,
            table=self.table,
            on_changes=lambda _changes: None,
            on_snapshot=self._count,
            metrics=self.metrics,
            log=log,
            heartbeat_seconds=0.5,
        )

    def _count(self) -> None:
        self.snapshots += 1

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Sensor"]:
        tasks = [asyncio.create_task(part.run()) for part in (self.connector, self.reader, self.acks)]
        try:
            yield self
        finally:
            for task in reversed(tasks):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task


@pytest.fixture
def creds(tmp_path: Path) -> Path:
    return tmp_path / "nats.creds"


async def test_few_rights_are_enough(
    accounts_server: NatsServer, accounts_stream: RuleStream, accounts: NatsAccounts, creds: Path
) -> None:
    creds.write_text(accounts.creds(publish=PUBLISH, subscribe=SUBSCRIBE))
    await accounts_stream.put_many([rule_state(number) for number in range(1000)])
    async with Sensor(accounts_server.url, creds).running() as sensor:
        await until(lambda: len(sensor.table) == 1000)
        sensor.acks.publish(Rule(state=rule_state(1), since_us=0), AckState.ACTIVE)
        await accounts_stream.wait_ack(rule_state(1), AckState.ACTIVE)
        await accounts_stream.put(rule_state(5000))
        await until(lambda: len(sensor.table) == 1001)
    assert "Permissions Violation" not in accounts_server.log.read_text()


async def test_renewed_credentials_are_taken_up_before_the_old_ones_end(
    accounts_server: NatsServer, accounts_stream: RuleStream, accounts: NatsAccounts, creds: Path
) -> None:
    creds.write_text(accounts.creds(publish=PUBLISH, subscribe=SUBSCRIBE, ttl=3600))
    async with Sensor(accounts_server.url, creds).running() as sensor:
        await until(lambda: sensor.snapshots == 1)
        creds.write_text(accounts.creds(publish=PUBLISH, subscribe=SUBSCRIBE, ttl=7200))
        await until(lambda: sensor.snapshots == 2)
        await accounts_stream.put(rule_state(1))
        await until(lambda: len(sensor.table) == 1)


async def test_expired_credentials_are_survived(
    accounts_server: NatsServer, accounts_stream: RuleStream, accounts: NatsAccounts, creds: Path
) -> None:
    """nats-py closes for good when the server ends the connection for this; the SDK builds a new one."""
    creds.write_text(accounts.creds(publish=PUBLISH, subscribe=SUBSCRIBE, ttl=2))
    await accounts_stream.put(rule_state(1))
    async with Sensor(accounts_server.url, creds).running() as sensor:
        await until(lambda: sensor.snapshots == 1)
        await until(lambda: not sensor.connector.connected)
        assert len(sensor.table) == 1, "known rules stay"
        creds.write_text(accounts.creds(publish=PUBLISH, subscribe=SUBSCRIBE, ttl=3600))
        await accounts_stream.put(rule_state(2))
        await until(lambda: len(sensor.table) == 2)


@pytest.mark.parametrize("content", [None, "", "-----BEGIN NATS USER JWT-----\nabc\n"])
async def test_missing_or_half_written_credentials_are_waited_for(
    accounts_server: NatsServer, accounts_stream: RuleStream, accounts: NatsAccounts, creds: Path, content: str | None
) -> None:
    if content is not None:
        creds.write_text(content)
    async with Sensor(accounts_server.url, creds).running() as sensor:
        await until(lambda: sensor.connector._outage.ongoing)
        creds.write_text(accounts.creds(publish=PUBLISH, subscribe=SUBSCRIBE))
        await until(lambda: sensor.snapshots == 1)


async def test_file_that_is_damaged_while_connected_is_survived(
    accounts_server: NatsServer, accounts_stream: RuleStream, accounts: NatsAccounts, creds: Path
) -> None:
    creds.write_text(accounts.creds(publish=PUBLISH, subscribe=SUBSCRIBE))
    async with Sensor(accounts_server.url, creds).running() as sensor:
        await until(lambda: sensor.snapshots == 1)
        creds.write_text("damaged")
        sensor.connector.reconnect("the test says so")
        await until(lambda: sensor.snapshots == 2)


async def test_filter_that_is_not_allowed_is_said(
    accounts_server: NatsServer, accounts_stream: RuleStream, accounts: NatsAccounts, creds: Path
) -> None:
    creds.write_text(accounts.creds(publish=[p.replace("core_timer", "other") for p in PUBLISH], subscribe=SUBSCRIBE))
    async with Sensor(accounts_server.url, creds, request_timeout=0.3).running() as sensor:
        await until(lambda: sensor.reader._outage.ongoing)
        assert sensor.snapshots == 0
