"""The chart's alerts in a real Prometheus that scrapes a real operator."""

from pathlib import Path

import pytest
from support.eventually import until
from support.kubectl_user import KubectlUser
from support.nats_server import NatsServer
from support.operator_process import operator_process
from support.prometheus import Prometheus, prometheus

from attune_cluster.apiserver import ApiServer
from attune_operator.resources import kinds
from attune_operator.resources.kinds import Object

pytest_plugins = ["support.operator_fixtures"]
pytestmark = [pytest.mark.apiserver, pytest.mark.nats]


async def fires(server: Prometheus, *alerts: str) -> None:
    async def look() -> bool:
        return set(alerts) <= await server.firing()

    await until(look, what=f"{', '.join(alerts)} fire")


async def ends(server: Prometheus, *alerts: str) -> None:
    async def look() -> bool:
        return not set(alerts) & await server.firing()

    await until(look, what=f"{', '.join(alerts)} end")


def rule(user: KubectlUser, name: str) -> Object:
    trigger = {"type": "core.intervaltimer", "parameters": {"unit": "seconds", "interval": 1}}
    metadata = {"name": name, "namespace": user.namespace}
    return {"apiVersion": "attune.dev/v1alpha1", "kind": "Rule", "metadata": metadata, "spec": {"trigger": trigger}}


async def test_what_goes_wrong_in_the_operator_fires_its_alert_and_ends_it(
    kubernetes: ApiServer, user: KubectlUser, nats_server: NatsServer, tmp_path: Path
) -> None:
    settings = {
        "NAMESPACE": user.namespace,
        "WATCH_NAMESPACES": user.namespace,
        "NATS_URL": nats_server.url,
        "SWEEP_INTERVAL": "2s",
    }
    # Somebody else's: the operator does not replace it, so that Sensor `taken` gets no token.
    foreign = {"metadata": {"name": "sensor-taken", "namespace": user.namespace}, "stringData": {"key": "value"}}
    await user.client.create(kinds.SECRET, {"apiVersion": "v1", "kind": "Secret", **foreign})
    async with (
        operator_process(kubernetes.kubeconfig, tmp_path, **settings) as operator,
        prometheus(tmp_path / "prometheus", {"operator": operator.metrics}) as server,
    ):

        async def connected() -> bool:
            return await server.value("attune_rule_stream_connected") == 1

        await until(connected)
        await ends(server, "AttuneOperatorWithoutNats")
        await user.apply_sensor()
        await user.client.create(kinds.RULE, rule(user, "waits"))
        await fires(server, "AttuneRulesAwaitSensor", "AttuneSensorNotReady")
        await user.apply_sensor("taken")
        await fires(server, "AttuneTokensNotRenewed")
        nats_server.stop()
        await fires(server, "AttuneOperatorWithoutNats")
        nats_server.start()
        await ends(server, "AttuneOperatorWithoutNats")
        await user.delete(kinds.RULE, "waits")
        await ends(server, "AttuneRulesAwaitSensor")
        firing = await server.firing()
        assert not firing & {"AttuneRuleFailing", "AttuneTokenNearItsEnd", "AttuneOperatorStuck"}
