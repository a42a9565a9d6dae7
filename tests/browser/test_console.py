"""The console of a real ``attune up`` in a real Chromium."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import yaml
from support.attune_up import ATTUNE, AttuneUp, attune_up
from support.console_checks import ConsoleChecks, Stage, rules

from attune_contract.local import read_endpoints
from attune_local.ports import free_port

pytest_plugins = ["support.console_fixtures"]
pytestmark = [pytest.mark.nats, pytest.mark.timeout(600)]

PACK = Path(__file__).parents[2] / "packs" / "core"


class _Hook(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@dataclass(kw_only=True)
class Local(Stage):
    """The console of ``attune up``; nobody listens on ``port`` until it is mended."""

    up: AttuneUp
    port: int

    def token(self) -> str:
        return (self.up.data_dir / "admin.token").read_text().strip()

    @contextmanager
    def link(self) -> Iterator[str]:
        command = [str(ATTUNE), "ui", "--no-open"]
        done = subprocess.run(command, cwd=self.up.folder, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        yield done.stdout.strip()

    @contextmanager
    def mended(self) -> Iterator[None]:
        with ThreadingHTTPServer(("127.0.0.1", self.port), _Hook) as server:
            Thread(target=server.serve_forever, daemon=True).start()
            try:
                yield
            finally:
                server.shutdown()


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder, port, one, other = tmp_path_factory.mktemp("console"), free_port(), "team-a", "team-b"
    shutil.copy(PACK / "core.timer.yaml", folder)
    made = rules(one, other, f"http://127.0.0.1:{port}/hook")
    (folder / "rules.yaml").write_text(yaml.safe_dump_all(made))
    with attune_up(folder) as up:
        endpoints = read_endpoints(up.data_dir)
        assert endpoints is not None
        yield Local(url=endpoints.api.url, kube=up.kube, one=one, other=other, up=up, port=port)


class TestConsole(ConsoleChecks):
    """Under ``attune up``."""
