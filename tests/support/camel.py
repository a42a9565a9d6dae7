"""Apache Camel as a process, with its parts as Maven resolves them."""

import asyncio
import hashlib
import os
import shutil
from pathlib import Path

from support.environments import CACHE
from support.known_programs import run

SOAK = Path(__file__).resolve().parents[1] / "soak"
EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "camel"


async def jars(name: str) -> Path:
    """What ``tests/soak/<name>/pom.xml`` asks for, with what that needs."""
    pom = SOAK / name / "pom.xml"
    digest = hashlib.sha256(await asyncio.to_thread(pom.read_bytes)).hexdigest()[:12]
    folder = CACHE / f"{name}-{digest}"
    if not await asyncio.to_thread(folder.exists):
        place = CACHE / f"{name}-pom"
        await asyncio.to_thread(shutil.copytree, pom.parent, place, dirs_exist_ok=True)
        command = ["mvn", "-q", "-B", "-f", str(place / "pom.xml"), "dependency:copy-dependencies"]
        await run(*command, f"-DoutputDirectory={folder}.part")
        await asyncio.to_thread(os.rename, f"{folder}.part", folder)
    return folder


class Camel:
    """Runs a route of examples/camel.

    Args:
        route: the file's name.
        variables: what the route takes from the environment.
        log: the file for what it prints.
    """

    def __init__(self, route: str, variables: dict[str, str], *, log: Path) -> None:
        self._route = EXAMPLES / route
        self._variables = variables
        self._log = log
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        options = ["-XX:TieredStopAtLevel=1", "-Xmx128m", "-cp", f"{await jars('camel')}/*"]
        route = f"-Dcamel.main.routesIncludePattern=file:{self._route}"
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                "java", *options, route, "org.apache.camel.main.Main",
                env={**os.environ, **self._variables}, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    async def kill(self) -> None:
        """End it at once (SIGKILL); without effect when it does not run."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
