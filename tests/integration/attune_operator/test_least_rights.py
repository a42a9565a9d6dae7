"""The operator with the chart's rights where Sensors run in some namespaces only: it reads no Secret of any other."""

import asyncio
import base64
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from support.chart_account import ROLE_BINDING, install_operators_account
from support.eventually import until
from support.kubectl_user import KubectlUser
from support.nats_server import NatsServer
from support.operator_process import OperatorProcess, operator_process

from attune_cluster.apiserver import ApiServer
from attune_contract import names
from attune_operator.credentials.certificate_store import CertificateStore
from attune_operator.credentials.keystore import KEYS_SECRET
from attune_operator.credentials.nats_auth import CONFIG_SECRET
from attune_operator.resources import kinds
from attune_operator.runtime import kube_client
from attune_operator.runtime.client import ClusterError
from attune_operator.runtime.kube_client import KubeClient

pytest_plugins = ["support.operator_fixtures"]
pytestmark = [pytest.mark.apiserver, pytest.mark.nats]

EVERYWHERE = {"namespaces": {"from": "All"}}


@dataclass
class Installation:
    """An operator that watches all namespaces, with Sensors in two of them."""

    operator: OperatorProcess
    account: KubeClient  #: with the operator's rights
    home: KubectlUser
    sensors: KubectlUser
    more_sensors: KubectlUser
    others: KubectlUser  #: somebody else's namespace, with Rules


@pytest.fixture
async def installation(
    kubernetes: ApiServer, user: KubectlUser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Installation]:
    home, more, others = (KubectlUser(user.client, f"{user.namespace}-{name}") for name in ("home", "more", "others"))
    for each in (home, more, others):
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": each.namespace}}
        await user.client.create(kinds.NAMESPACE, body)
        # Whoever works there has a Secret of their own, with the label that the operator gives to its own.
        labels = {names.MANAGED_BY_LABEL: names.MANAGED_BY}
        metadata = {"name": "private", "namespace": each.namespace, "labels": labels}
        await user.client.create(kinds.SECRET, {"apiVersion": "v1", "kind": "Secret", "metadata": metadata})
    run_in = (user.namespace, more.namespace)
    kubeconfig = await install_operators_account(
        kubernetes, user, tmp_path, f"sensorNamespaces={{{','.join(run_in)}}}", home=home.namespace
    )
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    account = KubeClient(kube_client.load_access())

    async def granted() -> bool:
        """The API server learns of new Roles a moment later."""
        for namespace in run_in:
            await account.list_objects(kinds.SECRET, namespace)
        await account.list_objects(kinds.SENSOR)
        await account.get(kinds.SECRET, home.namespace, KEYS_SECRET)
        return True

    await until(granted, what="the account has its rights")
    server = NatsServer(tmp_path)
    settings = {
        "NAMESPACE": home.namespace,
        "SENSOR_NAMESPACES": ",".join(run_in),
        "TRUSTED_SENSOR_NAMESPACES": user.namespace,
        "NATS_URL": server.url,
        "NATS_AUTH": "managed",
        "SWEEP_INTERVAL": "2s",
        "SIGNING_KEY_LEAD": "1s",
    }
    async with operator_process(kubeconfig, tmp_path, **settings) as operator:

        async def config() -> Any:
            return await home.get(kinds.SECRET, CONFIG_SECRET)

        found = await until(config, within=30)
        server.extra_config = base64.b64decode(found["data"]["accounts.conf"]).decode()
        await asyncio.to_thread(server.start)
        try:
            await until(operator.ready, what="the operator is ready")
            yield Installation(operator, account, home, user, more, others)
            assert await operator.end() == 0, operator.log.read_text()[-3000:]
        finally:
            await account.close()
            await asyncio.to_thread(server.stop)


async def ready(user: KubectlUser, name: str = "core.timer") -> None:
    async def is_ready() -> bool:
        await user.run_pods(name)
        return (await user.condition("Ready", name)).get("status") == "True"

    await until(is_ready, what=f"the Sensor {user.namespace}/{name} is ready")


async def refused(call: Any) -> ClusterError:
    with pytest.raises(ClusterError) as raised:
        await call
    return raised.value


async def test_sensors_serve_rules_of_namespaces_whose_secrets_the_operator_may_not_read(
    installation: Installation,
) -> None:
    sensors, others = installation.sensors, installation.others
    await others.apply_sensor("elsewhere")  # may not run, so the Rule beside it is served all the same
    await sensors.apply_sensor(rules=EVERYWHERE)
    rule = {"apiVersion": names.API_VERSION, "kind": "Rule", "metadata": {"name": "r", "namespace": others.namespace}}
    spec = {"trigger": {"type": "core.intervaltimer", "parameters": {}}}
    await others.client.create(kinds.RULE, {**rule, "spec": spec})
    await ready(sensors)

    async def served() -> bool:
        status = (await sensors.get(kinds.SENSOR, "core.timer"))["status"]
        synced = next(c["status"] for c in status["conditions"] if c["type"] == "RulesSynced")
        accepted = (await others.get(kinds.RULE, "r")).get("status", {}).get("conditions", [])
        return (status["rules"]["bound"], synced) == (1, "True") and any(
            (c["type"], c["status"]) == ("Accepted", "True") for c in accepted
        )

    await until(served, what="the Rule of the other namespace is bound and published")
    mark = await others.get(kinds.CONFIG_MAP, names.INSTALLATION_MARK)
    assert mark["data"][names.INSTALLATION_KEY] == installation.home.namespace

    await sensors.edit(kinds.SECRET, {"data": {"more": "eA=="}})

    async def repaired() -> bool:
        return set((await sensors.get(kinds.SECRET))["data"]) == {"token", "nats.creds"}

    await until(repaired, what="what was added to the Sensor's Secret is removed")

    # A Sensor elsewhere is told why nothing runs.
    async def told() -> bool:
        return bool(await others.condition("Ready", "elsewhere"))

    await until(told)
    for kind in ("Ready", "CredentialsValid"):
        condition = await others.condition(kind, "elsewhere")
        assert (condition["status"], condition["reason"]) == ("False", "MissingRights")
        assert f"Add {others.namespace} to the chart value sensorNamespaces" in condition["message"]
    assert await others.find(kinds.SECRET, "sensor-elsewhere") is None
    assert await others.find(kinds.DEPLOYMENT, "sensor-elsewhere") is None

    # All that without a single call that Kubernetes refused; and these are refused.
    assert " 403 " not in installation.operator.log.read_text()
    account = installation.account
    assert await account.get(kinds.SECRET, sensors.namespace, "sensor-core.timer") is not None
    assert await account.get(kinds.SECRET, installation.home.namespace, KEYS_SECRET) is not None
    for call in (
        account.get(kinds.SECRET, others.namespace, "private"),
        account.get(kinds.SECRET, installation.home.namespace, "private"),
        account.list_objects(kinds.SECRET, others.namespace),
        account.list_objects(kinds.SECRET, installation.home.namespace),
        account.list_objects(kinds.SECRET),
        account.list_objects(kinds.CONFIG_MAP),
        account.list_objects(kinds.POD, others.namespace),
        account.apply(
            kinds.SECRET,
            {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "private", "namespace": others.namespace}},
        ),
    ):
        assert (await refused(call)).status == 403


async def test_a_sensor_says_which_right_is_missing_and_the_other_namespaces_go_on(installation: Installation) -> None:
    sensors, more = installation.sensors, installation.more_sensors
    await sensors.apply_sensor()
    await ready(sensors)
    binding = f"{installation.home.namespace}-attune-operator"
    taken = await sensors.get(ROLE_BINDING, binding)
    await sensors.delete(ROLE_BINDING, binding)

    async def told() -> bool:
        found = [await sensors.condition(kind) for kind in ("Ready", "CredentialsValid")]
        return all((c["status"], c["reason"]) == ("False", "MissingRights") for c in found)

    await until(told, what="the Sensor says that rights are missing")
    message = (await sensors.condition("Ready"))["message"]
    assert f"in namespace {sensors.namespace}" in message
    assert message.startswith("The operator may not ")
    assert re.search(r"cannot \w+ resource", message)  # Kubernetes' own words
    await more.apply_sensor()
    await ready(more)

    metadata = {"name": binding, "namespace": sensors.namespace}
    await sensors.client.create(ROLE_BINDING, {**taken, "metadata": metadata})
    await ready(sensors)


async def test_its_certificate_is_made_and_renewed_with_rights_to_two_names(
    kubernetes: ApiServer, user: KubectlUser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sensors = f"{user.namespace}-sensors"
    await user.client.create(kinds.NAMESPACE, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": sensors}})
    values = ("tls.enabled=true", f"sensorNamespaces={{{sensors}}}")
    kubeconfig = await install_operators_account(kubernetes, user, tmp_path, *values, home=user.namespace)
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    account = KubeClient(kube_client.load_access())
    now = datetime.now(UTC)
    store = CertificateStore(
        account, namespace=user.namespace, secret="attune-tls", hosts=["attune-api.x.svc"], now=lambda: now
    )
    try:

        async def made() -> bool:
            """The API server learns of new Roles a moment later."""
            await store.ensure()
            return True

        await until(made, what="the certificate is made")
        first = (await user.get(kinds.SECRET, "attune-tls"))["data"]["tls.crt"]
        assert await user.find(kinds.SECRET, "attune-tls-authority") is not None
        now += timedelta(days=80)
        await store.ensure()
        assert (await user.get(kinds.SECRET, "attune-tls"))["data"]["tls.crt"] != first
    finally:
        store.close()
        await account.close()
