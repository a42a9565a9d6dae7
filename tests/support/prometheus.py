"""A real Prometheus that scrapes processes of a test and evaluates the chart's alerts."""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from attune_local.ports import free_port

ALERTS = Path(__file__).parents[2] / "deploy" / "helm" / "attune" / "files" / "monitoring" / "alerts.yaml"


class Prometheus:
    """A running Prometheus."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/api/v1"

    async def firing(self) -> set[str]:
        """Names of the alerts that fire now."""
        found = await self._get("alerts")
        return {alert["labels"]["alertname"] for alert in found["alerts"] if alert["state"] == "firing"}

    async def value(self, query: str) -> float | None:
        """A query's value now; None when there is no series."""
        found = (await self._get("query", query=query))["result"]
        return float(found[0]["value"][1]) if found else None

    async def scraped(self) -> bool:
        """Whether every target has answered."""
        targets = (await self._get("targets"))["activeTargets"]
        return bool(targets) and all(target["health"] == "up" for target in targets)

    async def jobs(self) -> set[str]:
        """The jobs that have a target."""
        return {target["scrapePool"] for target in (await self._get("targets"))["activeTargets"]}

    async def _get(self, path: str, **query: str) -> dict[str, Any]:
        async with aiohttp.ClientSession() as session, session.get(f"{self._url}/{path}", params=query) as answer:
            found: dict[str, Any] = (await answer.json())["data"]
            return found


def hasty_alerts() -> str:
    """The chart's alerts, which fire as soon as their condition holds."""
    rules = yaml.safe_load(ALERTS.read_text())
    for group in rules["groups"]:
        for rule in group["rules"]:
            rule.pop("for", None)
    return yaml.safe_dump(rules)


@contextlib.asynccontextmanager
async def prometheus(
    directory: Path, targets: Mapping[str, int], *, more: Sequence[Mapping[str, Any]] = ()
) -> AsyncIterator[Prometheus]:
    """Run one until the end of the block.

    Args:
        directory: for its files.
        targets: ports on loopback by the name of what serves metrics there.
        more: further scrape configurations.
    """
    program, port = shutil.which("prometheus"), free_port()
    assert program is not None, "it comes with Debian's package prometheus"
    await asyncio.to_thread(configure, directory, targets, more)
    with (directory / "prometheus.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            program,
            f"--config.file={directory / 'prometheus.yaml'}",
            f"--storage.tsdb.path={directory / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield Prometheus(port)
    finally:
        process.terminate()
        await process.wait()


def configure(directory: Path, targets: Mapping[str, int], more: Sequence[Mapping[str, Any]]) -> None:
    """Write what it reads when it starts."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "alerts.yaml").write_text(hasty_alerts())
    configuration = {
        "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms"},
        "rule_files": ["alerts.yaml"],
        "scrape_configs": [
            {
                "job_name": name,
                "static_configs": [{"targets": [f"127.0.0.1:{target}"], "labels": {"namespace": "test", "pod": name}}],
            }
            for name, target in targets.items()
        ]
        + [dict(each) for each in more],
    }
    (directory / "prometheus.yaml").write_text(yaml.safe_dump(configuration))
