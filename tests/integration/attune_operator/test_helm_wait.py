"""Helm 4 `install --wait` of Sensors and Rules: passes for good ones, and fails with the operator's sentence for others."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.eventually import until
from support.helm_chart import helm
from support.kubectl_user import KubectlUser

from attune_cluster.apiserver import ApiServer
from attune_operator.app import Operator

pytest_plugins = ["support.operator_fixtures"]
pytestmark = [pytest.mark.apiserver, pytest.mark.nats]

SENSOR: dict[str, Any] = {
    "apiVersion": "attune.dev/v1alpha1",
    "kind": "Sensor",
    "metadata": {"name": "core.timer"},
    "spec": {"image": "registry.invalid/sensor:1", "triggerTypes": [{"name": "core.intervaltimer"}]},
}
RULE: dict[str, Any] = {
    "apiVersion": "attune.dev/v1alpha1",
    "kind": "Rule",
    "metadata": {"name": "echo"},
    "spec": {"trigger": {"type": "acme.unheard"}},
}
MISSING = {"waiting": {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "registry.invalid/sensor:1"'}}
Kubelet = Callable[[KubectlUser], Awaitable[None]]


async def runs(user: KubectlUser) -> None:
    await user.run_pods()


async def finds_no_image(user: KubectlUser) -> None:
    await user.run_pods(ready=False, started=False, state=MISSING)


@contextlib.asynccontextmanager
async def playing(kubelet: Kubelet, user: KubectlUser) -> AsyncIterator[None]:
    """Play kubelet for the pods that come."""

    async def play() -> None:
        while True:
            await kubelet(user)
            await asyncio.sleep(0.5)

    task = asyncio.create_task(play())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def chart_of(folder: Path, *bodies: dict[str, Any]) -> Path:
    (folder / "templates").mkdir()
    (folder / "Chart.yaml").write_text(yaml.safe_dump({"apiVersion": "v2", "name": "team", "version": "1.0.0"}))
    (folder / "templates" / "objects.yaml").write_text(yaml.safe_dump_all(bodies))
    return folder


async def install(chart: Path, server: ApiServer, user: KubectlUser, *, within: str) -> tuple[int, str]:
    """Install the chart, and wait; returns the exit status and what helm said."""
    arguments = ["upgrade", "--install", "team", str(chart), "--namespace", user.namespace, "--wait"]
    more = ["--timeout", within, "--kubeconfig", str(server.kubeconfig)]
    done = await asyncio.to_thread(helm, *arguments, *more, check=False)
    return done.returncode, done.stdout + done.stderr


async def fails_with(chart: Path, server: ApiServer, user: KubectlUser, *words: str) -> None:
    """Helm never passes, and says the words as soon as the operator has looked at the object."""

    async def said() -> bool:
        status, text = await install(chart, server, user, within="10s")
        assert status != 0, text
        return all(word in text for word in words)

    await until(said, what=f"helm says {words}", within=180)


async def test_it_passes_for_a_sensor_that_runs_and_a_rule_that_is_disabled(
    tmp_path: Path, kubernetes: ApiServer, user: KubectlUser, operator: Operator
) -> None:
    rule = {**RULE, "spec": {"enabled": False, "trigger": {"type": "core.intervaltimer"}}}
    async with playing(runs, user):
        status, said = await install(chart_of(tmp_path, SENSOR, rule), kubernetes, user, within="150s")
    assert (status, "STATUS: deployed" in said) == (0, True), said


async def test_it_fails_with_the_sentence_for_a_sensor_whose_image_is_missing(
    tmp_path: Path, kubernetes: ApiServer, user: KubectlUser, operator: Operator
) -> None:
    async with playing(finds_no_image, user):
        chart = chart_of(tmp_path, SENSOR)
        await fails_with(
            chart, kubernetes, user, "core.timer not ready", "registry.invalid/sensor:1", "cannot be pulled"
        )


async def test_it_fails_with_the_sentence_for_a_rule_of_an_unknown_type(
    tmp_path: Path, kubernetes: ApiServer, user: KubectlUser, operator: Operator
) -> None:
    await fails_with(chart_of(tmp_path, RULE), kubernetes, user, "echo not ready", "acme.unheard")
