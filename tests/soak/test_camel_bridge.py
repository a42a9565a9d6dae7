"""Apache Camel as a bridge (examples/camel/files.yaml) in front of the webhook sensor, with a folder and with a real SFTP server:
Camel and the sensor are killed while files come. Each file must be one event. It needs Java, Maven and no cluster.
"""

import asyncio
import contextlib
import os
import shutil
from collections import Counter
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support.api_process import ApiProcess
from support.camel import Camel
from support.environments import environment
from support.eventually import until
from support.known_programs import server
from support.nats_server import NatsServer
from support.sensor_process import drained, serve, stored_events
from support.webhook_outage import webhook_process

from attune_local.ports import free_port

ASYNCSSH = "asyncssh==2.21.0"
FILES = int(os.environ.get("SOAK_FILES", "300"))
KILLS = 4
TOKEN = "a-token-of-this-test"
PASSWORD = "a-password-of-this-test"

pytestmark = pytest.mark.skipif(not shutil.which("mvn") or not shutil.which("java"), reason="needs Java and Maven")

#: Serves the folder that it is given, by SFTP.
_SFTP = """
import asyncio, sys, asyncssh
class Server(asyncssh.SSHServer):
    def begin_auth(self, username): return True
    def password_auth_supported(self): return True
    def validate_password(self, username, password): return password == sys.argv[3]
async def main():
    key = asyncssh.generate_private_key("ssh-rsa", key_size=3072)
    factory = lambda channel: asyncssh.SFTPServer(channel, chroot=sys.argv[2])
    await asyncssh.listen("127.0.0.1", int(sys.argv[1]), server_factory=Server, server_host_keys=[key], sftp_factory=factory)
    await asyncio.Event().wait()
asyncio.run(main())
"""


@contextlib.asynccontextmanager
async def sftp(folder: Path, directory: Path) -> AsyncIterator[str]:
    """An SFTP server of the folder; yields the address for Camel."""
    python = await asyncio.to_thread(environment, "asyncssh", ASYNCSSH)
    port = free_port()
    program = [str(python), "-c", _SFTP, str(port), str(folder), PASSWORD]
    async with server(*program, port=port, directory=directory):
        options = f"username=attune&password={PASSWORD}&strictHostKeyChecking=no&useUserKnownHostsFile=false"
        yield f"sftp://127.0.0.1:{port}/?{options}"


@contextlib.asynccontextmanager
async def local(folder: Path, _: Path) -> AsyncIterator[str]:
    """The folder itself."""
    yield f"file:{folder}"


def put(folder: Path, aside: Path, numbers: range) -> None:
    """Files that are complete when they appear."""
    for number in numbers:
        written = aside / f"f{number}"
        written.write_text(f"content of {number}")
        written.rename(folder / f"f{number}")


@pytest.mark.parametrize("where", ["file", "sftp"])
async def test_each_file_is_one_event(where: str, nats_server: NatsServer, tmp_path: Path) -> None:
    folder, aside = tmp_path / "incoming", tmp_path / "aside"
    folder.mkdir()
    aside.mkdir()
    secrets = tmp_path / "secrets" / "hooks"
    secrets.mkdir(parents=True)
    (secrets / "files").write_text(TOKEN)
    async with (sftp if where == "sftp" else local)(folder, tmp_path) as address:
        with ApiProcess(tmp_path / "api") as api:
            sensor, url = webhook_process(tmp_path, api=api, nats=nats_server, ATTUNE_SECRETS_DIR=str(secrets.parent))
            variables = {"FILES": address, "WEBHOOK": f"{url}/files", "TOKEN": TOKEN}
            camel = Camel("files.yaml", variables, log=tmp_path / "camel.log")
            stream = await sensor.stream()
            try:
                auth = {"type": "bearer", "secrets": ["hooks/files"]}
                rate = {"perSecond": 10_000, "burst": 20_000}
                parameters = {"path": "/files", "auth": auth, "rate": rate, "headers": ["X-File-Name"]}
                await sensor.start()
                await serve(stream, [sensor.rule(1, parameters)], within=60)
                await camel.start()
                part = FILES // (KILLS + 1)
                for kill in range(KILLS):
                    await asyncio.to_thread(put, folder, aside, range(kill * part, (kill + 1) * part))
                    # Some of them were taken, and some were not.
                    await until(partial(_fewer, folder, part - part // 4), within=120, every=0.01)
                    await camel.kill()
                    await sensor.kill()
                    await camel.start()
                    await sensor.start()
                await asyncio.to_thread(put, folder, aside, range(KILLS * part, FILES))
                await until(partial(_fewer, folder, 1), within=300, every=0.1)
                await drained(sensor, within=120)
                assert await sensor.stop() == 0
            finally:
                await camel.kill()
                await sensor.kill()
                await stream.close()
            events = await stored_events(api)
    times = Counter(name_of(event) for event in events)
    print(f"\n{where}: {FILES} files, {KILLS} kills of both, {len(events)} events; load {os.getloadavg()[0]:.0f}")
    assert [number for number in range(FILES) if times[f"f{number}"] != 1] == []


def name_of(event: dict[str, Any]) -> str:
    """The name of the file in an event."""
    headers = event["payload"]["headers"]
    return str({name.lower(): value for name, value in headers.items()}["x-file-name"])


def _fewer(folder: Path, number: int) -> bool:
    return len(list(folder.iterdir())) < number
