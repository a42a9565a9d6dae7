"""Apache Camel as a process, with its parts as Maven resolves them."""

import asyncio
import os
from pathlib import Path

from support.jars import jars

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "camel"


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
