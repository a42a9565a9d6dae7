"""The supervisor as the process that runs in a pod: as a program, and as one file for a bare python3; with a real NATS server."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from support.eventually import until
from support.nats_accounts import NatsAccounts
from support.nats_server import NatsServer
from support.rule_stream import SENSOR, RuleStream, changed, rule_state
from support.scripted_api import ScriptedApi
from support.stdio_programs import alive, python, shell

from attune_contract.events import event_id
from attune_contract.messages import AckState
from attune_local.ports import free_port
from attune_zipapp.__main__ import write

pytest_plugins = ["support.sensor_fixtures"]
pytestmark = pytest.mark.nats

#: What a sensor's credentials allow in the pod.
PUBLISH = [
    "$JS.API.CONSUMER.CREATE.ATTUNE_RULES.*.attune.rules.attune-system.core_timer.>",
    "$JS.API.CONSUMER.MSG.NEXT.ATTUNE_RULES.*",
    "$JS.API.CONSUMER.DELETE.ATTUNE_RULES.*",
    "attune.acks.attune-system.core_timer.>",
]
TICK = shell(
    'n=0; while :; do n=$((n+1)); echo "{\\"payload\\": {\\"n\\": $n}, \\"occurrence\\": $n}"; sleep 0.05; done'
)


@pytest.fixture(scope="module")
def zipapp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("zipapp") / "attune-stdio.pyz"
    write(target)
    return target


@pytest.fixture(params=["program", "zipapp"])
def supervisor(request: pytest.FixtureRequest, zipapp: Path) -> list[str]:
    if request.param == "program":
        return [sys.executable, "-m", "attune_stdio"]
    # -S besides: not even what is installed beside this python3 is there.
    return [str(Path(sys.base_prefix) / "bin" / "python3"), "-I", "-S", str(zipapp)]


@pytest.fixture
def environment(
    accounts_server: NatsServer, accounts: NatsAccounts, scripted_api: ScriptedApi, tmp_path: Path
) -> dict[str, str]:
    token, creds = tmp_path / "token", tmp_path / "nats.creds"
    token.write_text("a-secret-token")
    creds.write_text(accounts.creds(publish=PUBLISH, subscribe=["_INBOX_attune-system_core_timer.>"]))
    return {
        "PATH": os.environ["PATH"],
        "ATTUNE_SENSOR_REF": str(SENSOR),
        "ATTUNE_TRIGGER_TYPES": "core.intervaltimer",
        "ATTUNE_API_URL": scripted_api.url,
        "ATTUNE_API_TOKEN_FILE": str(token),
        "ATTUNE_NATS_URL": accounts_server.url,
        "ATTUNE_NATS_CREDS_FILE": str(creds),
        "ATTUNE_SPOOL_DIR": str(tmp_path / "spool"),
        "ATTUNE_METRICS_HOST": "127.0.0.1",
        "ATTUNE_METRICS_PORT": str(free_port()),
    }


class Running:
    """A supervisor that runs, and its log so far."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.log: list[dict[str, Any]] = []

    async def read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.log.append(json.loads(line))

    def said(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.log if line["event"] == event]


@contextlib.asynccontextmanager
async def running(command: list[str], environment: dict[str, str]) -> AsyncIterator[Running]:
    process = await asyncio.create_subprocess_exec(
        *command, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    found = Running(process)
    reading = asyncio.create_task(found.read())
    try:
        yield found
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), 150)
            if process.returncode is None:
                process.kill()
        await process.wait()
        await reading


async def test_rules_become_processes_and_lines_become_events(
    supervisor: list[str],
    accounts_stream: RuleStream,
    scripted_api: ScriptedApi,
    environment: dict[str, str],
    accounts_server: NatsServer,
) -> None:
    rule = rule_state(parameters={"interval": 1})
    await accounts_stream.put(rule)
    async with running([*supervisor, "--", *TICK], environment) as sensor:
        await scripted_api.wait_for(lambda: len(scripted_api.events) >= 3, within=40)
        await accounts_stream.wait_ack(rule, AckState.ACTIVE)
        first = scripted_api.events[0]
        assert (first["rule_uid"], first["payload"], first["id"]) == (rule.uid, {"n": 1}, str(event_id(rule.uid, "1")))
        assert scripted_api.requests[0].token == "a-secret-token"
        # A rule that fails says so in its ack, with the program's last words.
        await accounts_stream.put(changed(rule, enabled=False))
        await accounts_stream.wait_ack(changed(rule, enabled=False), AckState.STOPPED)
        sensor.process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(sensor.process.wait(), 150) == 0
    assert sensor.log[-1]["event"] == "sensor_stopped"
    assert sensor.log[-1]["events_lost"] == 0
    assert "Permissions Violation" not in accounts_server.log.read_text()


async def test_a_program_that_fails_says_so_in_the_ack(
    supervisor: list[str], accounts_stream: RuleStream, environment: dict[str, str]
) -> None:
    rule = rule_state(parameters={})
    await accounts_stream.put(rule)
    async with running([*supervisor, "--", *shell("echo no queue >&2; exit 3")], environment) as sensor:
        ack = await accounts_stream.wait_ack(rule, AckState.FAILING, within=40)
        assert "ended with status 3" in ack.message
        assert ack.message.endswith("It said last: no queue")
        await until(lambda: [line["line"] for line in sensor.said("program_said")][:1] == ["no queue"])


async def test_what_is_found_before_the_end_is_delivered_also_by_the_next_process(
    supervisor: list[str], accounts_stream: RuleStream, scripted_api: ScriptedApi, environment: dict[str, str]
) -> None:
    program = python(
        """
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
say({"at": "start"}, occurrence="start")
signal.sigwait([signal.SIGTERM])
say({"at": "end"}, occurrence="end")
"""
    )
    environment["ATTUNE_GRACE_SECONDS"] = "8"  # for so long it tries to deliver, before the spool has to do
    await accounts_stream.put(rule_state(parameters={}))
    async with running([*supervisor, "--", *program], environment) as sensor:
        await scripted_api.wait_for(lambda: len(scripted_api.events) == 1, within=40)
        await scripted_api.stop()
        sensor.process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(sensor.process.wait(), 150) == 0
    await scripted_api.start()
    async with running([*supervisor, "--", *program], environment):
        await scripted_api.wait_for(lambda: len(scripted_api.events) == 2, within=40)
    assert [event["payload"]["at"] for event in scripted_api.events] == ["start", "end"]


async def test_orphans_are_reaped_and_end_with_the_supervisor(
    accounts_stream: RuleStream, scripted_api: ScriptedApi, environment: dict[str, str]
) -> None:
    # Each daemon is orphaned at once and ends soon after: as the first process of a container its parent is the supervisor.
    program = python(
        """
for n in range(20):
    if (child := os.fork()) == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(0.1)
        os._exit(0)
    os.waitpid(child, 0)
time.sleep(0.2)
say({"pid": os.getpid()})
hold()
"""
    )
    await accounts_stream.put(rule_state(parameters={}))
    async with running([sys.executable, "-m", "attune_stdio", "--", *program], environment) as sensor:
        await scripted_api.wait_for(lambda: len(scripted_api.events) == 1, within=40)
        pid = scripted_api.events[0]["payload"]["pid"]
        children = Path(f"/proc/{sensor.process.pid}/task/{sensor.process.pid}/children")
        await until(lambda: children.read_text().split() == [str(pid)])
        assert alive(pid)
    assert not alive(pid)


async def test_wrong_settings_end_it_with_a_sentence(supervisor: list[str], environment: dict[str, str]) -> None:
    async with running(supervisor, {**environment, "ATTUNE_STDIO_MODE": "perPod"}) as sensor:
        assert await asyncio.wait_for(sensor.process.wait(), 150) == 2
    [said] = sensor.said("sensor_misconfigured")
    assert "no command; write it after --" in said["error"]
    assert "ATTUNE_STDIO_MODE: unknown value 'perPod'; expected one of: perRule, perSensor" in said["error"]


def test_the_zipapp_is_small_the_same_each_time_and_has_nothing_compiled(zipapp: Path, tmp_path: Path) -> None:
    import zipfile

    write(tmp_path / "again.pyz")
    assert (tmp_path / "again.pyz").read_bytes() == zipapp.read_bytes()
    assert zipapp.stat().st_size < 2_000_000
    names = zipfile.ZipFile(zipapp).namelist()
    assert not [name for name in names if not name.endswith(".py") and not name.startswith("licenses/")]
    assert [name for name in names if name.startswith("licenses/aiohttp/")]
