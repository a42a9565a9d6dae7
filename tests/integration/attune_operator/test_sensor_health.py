"""A sensor that serves no rule, or cannot reach API or NATS, says so in its Sensor's conditions and once in its log: the whole
operator with a real kube-apiserver, a real NATS server, the real API, and the timer as a process. Kubelet is played.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from support.api_outage import TimerProcess
from support.api_process import ApiProcess
from support.eventually import until
from support.kubectl_user import KubectlUser
from support.nats_server import NatsServer
from support.tcp_relay import TcpRelay

from attune_operator.app import Operator
from attune_operator.resources import kinds

pytest_plugins = ["support.operator_fixtures", "support.api_fixtures"]
pytestmark = [pytest.mark.apiserver, pytest.mark.nats, pytest.mark.timeout(900)]

#: Seconds: generous, for a busy machine.
SOON = 40.0


class Scene:
    """A Sensor with one pod, and the program that runs in it."""

    def __init__(self, user: KubectlUser, timer: TimerProcess) -> None:
        self.user = user
        self.timer = timer

    async def healthy(self, status: str, reason: str) -> str:
        """Wait until the condition is so; what it says then."""

        async def is_so() -> dict[str, Any] | None:
            found = await self.user.condition("Healthy")
            return found if (found.get("status"), found.get("reason")) == (status, reason) else None

        try:
            found = await until(is_so, within=SOON)
        except AssertionError:
            raise AssertionError(
                f"not {status} {reason}, but {await self.user.condition('Healthy')}\n{self.timer.log.read_text()}"
            ) from None
        return str(found["message"])

    async def apply_rule(self, interval: float) -> None:
        await self.user.client.call(
            "PATCH",
            kinds.RULE.path(self.user.namespace, "echo"),
            query={"fieldManager": "kubectl", "force": "true"},
            body={
                "apiVersion": "attune.dev/v1alpha1",
                "kind": "Rule",
                "metadata": {"name": "echo", "namespace": self.user.namespace},
                "spec": {"trigger": {"type": "core.intervaltimer", "parameters": {"interval": interval}}},
            },
            content_type="application/apply-patch+yaml",
        )


@pytest.fixture
async def relay(nats_server: NatsServer) -> AsyncIterator[TcpRelay]:
    async with TcpRelay(nats_server.port) as made:
        yield made


@pytest.fixture
async def scene(
    operator: Operator, user: KubectlUser, api: ApiProcess, nats_server: NatsServer, relay: TcpRelay, tmp_path: Path
) -> AsyncIterator[Scene]:
    await user.apply_sensor()
    pods = await until(user.pods, within=SOON)
    await user.run_pods()
    timer = TimerProcess(
        tmp_path,
        api=api,
        nats=nats_server,
        ATTUNE_SENSOR_REF=f"{user.namespace}/core.timer",
        ATTUNE_SENSOR_INSTANCE=pods[0]["metadata"]["name"],
        ATTUNE_NATS_URL=f"nats://127.0.0.1:{relay.port}",
        ATTUNE_HEALTH_SECONDS="1",
    )
    await timer.start()
    yield Scene(user, timer)
    await timer.kill()


async def test_a_sensor_without_rules_says_so_and_says_when_it_has_one(scene: Scene) -> None:
    assert "No Rule is bound to it, so it reports no events" in await scene.healthy("True", "NoRules")
    await scene.apply_rule(3600)
    assert await scene.healthy("True", "Healthy") == "It reaches the API and NATS. 1 Rule is bound to it."
    await scene.user.delete(kinds.RULE, "echo")
    await scene.healthy("True", "NoRules")
    assert [len(scene.timer.logged(name)) for name in ("sensor_serves_no_rule", "sensor_serves_rules")] == [2, 1]


async def test_a_sensor_that_cannot_reach_the_api_says_so_even_when_it_has_nothing_to_report(
    scene: Scene, api: ApiProcess
) -> None:
    await scene.apply_rule(3600)
    await scene.healthy("True", "Healthy")
    api.kill()
    said = await scene.healthy("False", "ApiUnavailable")
    assert "cannot reach" in said
    assert api.url in said
    assert "(since 20" in said
    events = await until(lambda: warnings(scene.user, "ApiUnavailable"), within=SOON, what="an Event that tells of it")
    assert len(events) == 1
    api.start()
    await scene.healthy("True", "Healthy")
    assert [len(scene.timer.logged(name)) for name in ("api_unavailable", "api_recovered")] == [1, 1]


async def test_a_sensor_that_cannot_reach_nats_is_missed(scene: Scene, relay: TcpRelay) -> None:
    await scene.apply_rule(3600)
    await scene.healthy("True", "Healthy")
    await relay.cut()
    assert "over NATS: it cannot reach the server" in await scene.healthy("False", "NatsUnavailable")
    await until(lambda: said_once(scene.timer, "nats_unavailable"), within=SOON)
    await relay.mend()
    await scene.healthy("True", "Healthy")
    # A lost connection and refused attempts are different errors, each said once.
    said = [line["kind"] for line in scene.timer.logged("nats_unavailable")]
    assert len(said) == len(set(said))
    assert len(scene.timer.logged("nats_recovered")) == 1


async def warnings(user: KubectlUser, reason: str) -> list[dict[str, Any]]:
    return [event for event in await user.events() if event["reason"] == reason and event["type"] == "Warning"]


async def said_once(timer: TimerProcess, name: str) -> bool:
    return bool(timer.logged(name))
