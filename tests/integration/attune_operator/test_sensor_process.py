"""The operator as it runs in its pod: a process with an account of its own, with the documented rights and no others."""

import asyncio
import base64
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from support.chart_account import ROLE_BINDING, account_kubeconfig
from support.definitions import definitions_served
from support.eventually import until
from support.kubectl_user import KubectlUser
from support.nats_server import NatsServer
from support.operator_process import operator_process
from support.rights import documented

from attune_cluster.apiserver import ApiServer
from attune_operator.credentials.keystore import KEYS_KEY, KEYS_SECRET
from attune_operator.credentials.nats_auth import API_SECRET, AUTH_KEY, AUTH_SECRET, CONFIG_SECRET
from attune_operator.resources import kinds
from attune_operator.resources.kinds import Kind

pytest_plugins = ["support.operator_fixtures"]
pytestmark = [pytest.mark.apiserver, pytest.mark.nats]

ROLE = Kind("Role", "roles", "rbac.authorization.k8s.io")


async def limited_kubeconfig(kubernetes: ApiServer, user: KubectlUser, directory: Path) -> Path:
    """A kubeconfig of an account that may do in the test's namespace what the document says, and nothing anywhere else."""
    metadata = {"name": "attune-operator", "namespace": user.namespace}
    rules = [
        rule for section in ("watched namespaces", "sensor namespaces", "own namespace") for rule in documented(section)
    ]
    await user.client.create(
        kinds.SERVICE_ACCOUNT, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}
    )
    rbac = "rbac.authorization.k8s.io/v1"
    await user.client.create(ROLE, {"apiVersion": rbac, "kind": "Role", "metadata": metadata, "rules": rules})
    subject = {"kind": "ServiceAccount", **metadata}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "attune-operator"}
    binding = {"metadata": metadata, "roleRef": reference, "subjects": [subject]}
    await user.client.create(ROLE_BINDING, {"apiVersion": rbac, "kind": "RoleBinding", **binding})
    return await account_kubeconfig(kubernetes, user, directory, namespace=user.namespace)


def decoded(secret: dict[str, Any], key: str) -> str:
    return base64.b64decode(secret["data"][key]).decode()


async def test_with_the_documented_rights_it_does_all_its_work_and_tells_no_secret(
    kubernetes: ApiServer, user: KubectlUser, tmp_path: Path
) -> None:
    kubeconfig = await limited_kubeconfig(kubernetes, user, tmp_path)
    server = NatsServer(tmp_path)
    settings = {
        "NAMESPACE": user.namespace,
        "WATCH_NAMESPACES": user.namespace,
        "NATS_URL": server.url,
        "NATS_AUTH": "managed",
        "LOG_LEVEL": "DEBUG",
        "SWEEP_INTERVAL": "2s",
        "KEY_CHECK_INTERVAL": "1s",
        "SIGNING_KEY_LEAD": "1s",
    }
    secrets: set[str] = set()

    async def collect() -> None:
        """Everything that nobody may read anywhere else."""
        for name, key in ((KEYS_SECRET, KEYS_KEY), (AUTH_SECRET, AUTH_KEY)):
            document = json.loads(decoded(await user.get(kinds.SECRET, name), key))
            secrets.update(entry["d"] for entry in document.get("keys", []) if "d" in entry)
            secrets.update(document[name] for name in ("operator", "account", "signing", "system") if name in document)
        for name in ("sensor-core.timer", API_SECRET):
            if (found := await user.find(kinds.SECRET, name)) is not None:
                secrets.update(
                    line
                    for key in found["data"]
                    for line in decoded(found, key).splitlines()
                    if len(line) > 20 and "--" not in line
                )

    async with operator_process(kubeconfig, tmp_path, **settings) as operator:
        try:

            async def config() -> Any:
                return await user.get(kinds.SECRET, CONFIG_SECRET)

            server.extra_config = decoded(await until(config, within=30), "accounts.conf")
            server.start()
            await until(operator.ready, within=30, what="the operator is ready")
            assert (await operator.page(operator.liveness, "/healthz")) == (200, "ok\n")
            await user.apply_sensor(config={"a": 1})

            async def runs() -> bool:
                if await user.pods():
                    await user.run_pods()
                return (await user.condition("Ready")).get("status") == "True"

            await until(runs, within=20)
            await collect()
            # What needs each of the rights: repair of additions, of labels, of immutable Secrets, removal, renewal, rotation.
            patch = {"spec": {"template": {"spec": {"containers": [{"name": "sensor", "env": [{"name": "X"}]}]}}}}
            await user.edit(kinds.DEPLOYMENT, patch, strategic=True)
            await user.edit(kinds.SECRET, {"data": {"more": "eA=="}})
            await user.edit(kinds.SERVICE_ACCOUNT, {"automountServiceAccountToken": True})
            await user.edit(kinds.NETWORK_POLICY, {"spec": {"egress": [{}]}})
            await user.apply_sensor()

            async def repaired() -> bool:
                deployment, policy = await user.get(kinds.DEPLOYMENT), await user.get(kinds.NETWORK_POLICY)
                names = {e["name"] for e in deployment["spec"]["template"]["spec"]["containers"][0]["env"]}
                assert "X" not in names
                assert "egress" not in policy["spec"]
                assert set((await user.get(kinds.SECRET))["data"]) == {"token", "nats.creds"}
                assert await user.find(kinds.CONFIG_MAP) is None
                return (await user.get(kinds.SERVICE_ACCOUNT))["automountServiceAccountToken"] is False

            await until(repaired)
            await user.edit(kinds.SECRET, {"immutable": True})
            now = {"metadata": {"annotations": {"attune.dev/rotate-keys": "now"}}}
            kid = (await user.get(kinds.SENSOR, "core.timer"))["status"]["token"]["keyId"]
            await user.edit(kinds.SECRET, now, name=KEYS_SECRET)

            async def other_key() -> bool:
                return (await user.get(kinds.SENSOR, "core.timer"))["status"]["token"]["keyId"] != kid  # type: ignore[no-any-return]

            await until(other_key)
            await collect()
            await user.edit(kinds.SECRET, {"data": {"token": "Z2FyYmFnZQ==", "nats.creds": "Z2FyYmFnZQ=="}})
            asked = (datetime.now(UTC) + timedelta(seconds=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
            await user.annotate(rotate_at=asked, revoke_before=asked)
            server.restart()

            async def touched() -> bool:
                return any(
                    "attune.dev/credentials-renewed-at" in p["metadata"].get("annotations", {})
                    for p in await user.pods()
                )

            await until(touched)
            await collect()
            _, exposition = await operator.page(operator.metrics, "/metrics")
            expiry = f'attune_token_expiry_timestamp_seconds{{namespace="{user.namespace}",sensor="core.timer"}}'
            assert expiry in exposition
            said = await user.client.list_objects(kinds.EVENT, user.namespace)
            shown = json.dumps([said, await user.get(kinds.SENSOR, "core.timer")])
            assert await operator.end() == 0, operator.log.read_text()[-3000:]
        finally:
            server.stop()
    log = operator.log.read_text()
    records = [json.loads(line) for line in log.splitlines()]
    assert {"settings", "token_issued", "stopped"} <= {record["event"] for record in records}
    assert not [record for record in records if " 403 " in str(record.get("error", ""))]
    assert len(secrets) >= 12
    for secret in secrets:
        for place in (log, exposition, shown):
            assert secret not in place


CLUSTER_ROLE = Kind("ClusterRole", "clusterroles", "rbac.authorization.k8s.io", namespaced=False)
CLUSTER_ROLE_BINDING = Kind("ClusterRoleBinding", "clusterrolebindings", "rbac.authorization.k8s.io", namespaced=False)


async def test_a_watched_namespace_that_is_missing_is_named_and_stops_nothing(
    kubernetes: ApiServer, user: KubectlUser, tmp_path: Path
) -> None:
    missing = f"{user.namespace}-nope"
    kubeconfig = await limited_kubeconfig(kubernetes, user, tmp_path)
    # As the chart has it: the watched namespaces may be read, by name.
    metadata = {"name": missing}
    names = [user.namespace, missing]
    rules = [{"apiGroups": [""], "resources": ["namespaces"], "resourceNames": names, "verbs": ["get"]}]
    rbac = "rbac.authorization.k8s.io"
    api = f"{rbac}/v1"
    await user.client.create(
        CLUSTER_ROLE, {"apiVersion": api, "kind": "ClusterRole", "metadata": metadata, "rules": rules}
    )
    reference = {"apiGroup": rbac, "kind": "ClusterRole", "name": missing}
    subject = {"kind": "ServiceAccount", "name": "attune-operator", "namespace": user.namespace}
    binding = {"metadata": metadata, "roleRef": reference, "subjects": [subject]}
    await user.client.create(CLUSTER_ROLE_BINDING, {"apiVersion": api, "kind": "ClusterRoleBinding", **binding})
    server = NatsServer(tmp_path)
    server.start()
    settings = {
        "NAMESPACE": user.namespace,
        "WATCH_NAMESPACES": f"{user.namespace},{missing}",
        "NATS_URL": server.url,
        "SWEEP_INTERVAL": "2s",
        "SIGNING_KEY_LEAD": "1s",
    }
    async with operator_process(kubeconfig, tmp_path, **settings) as operator:
        try:
            await user.apply_sensor()

            async def has_a_token() -> bool:
                found = await user.get(kinds.SENSOR, "core.timer")
                return bool((found.get("status") or {}).get("token"))

            await until(has_a_token)
            assert f"watchNamespaces names {missing}, which does not exist" in operator.log.read_text()
            await user.apply_sensor(env=[{"name": "A", "value": "1"}])

            async def watched() -> bool:
                [container] = (await user.get(kinds.DEPLOYMENT))["spec"]["template"]["spec"]["containers"]
                return {"name": "A", "value": "1"} in container["env"]

            await until(watched)
            assert await operator.end() == 0
        finally:
            server.stop()


async def test_the_api_server_may_go_away_and_come_back(
    user: KubectlUser, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """An API server of its own, since others need theirs."""
    directory = tmp_path_factory.mktemp("own-api")
    with ApiServer(directory / "server") as server:
        nats = NatsServer(directory)
        nats.start()
        api = server.api()
        settings = {"NAMESPACE": "default", "NATS_URL": nats.url, "SWEEP_INTERVAL": "2s", "LOG_LEVEL": "INFO"}
        async with operator_process(server.kubeconfig, directory, **settings) as operator:
            try:

                async def waits() -> bool:
                    return "install the CustomResourceDefinitions" in operator.log.read_text()

                await until(waits, within=30, what="the operator says that it waits for its definitions")
                await asyncio.to_thread(definitions_served, api)
                await until(operator.ready, within=30, what="the operator is ready")
                server.kill("kube-apiserver")

                async def noticed() -> bool:
                    return "sweep_failed" in operator.log.read_text()

                await until(noticed, within=20)

                async def alive() -> bool:
                    return (await operator.page(operator.liveness, "/healthz"))[0] == 200

                await until(alive)
                server.stop()
                server.start()
                spec = {"image": "i", "triggerTypes": [{"name": "a.b"}], "paused": True}
                body = {"apiVersion": "attune.dev/v1alpha1", "kind": "Sensor", "metadata": {"name": "s"}, "spec": spec}
                path = "/apis/attune.dev/v1alpha1/namespaces/default/sensors"
                await asyncio.to_thread(api.request, "POST", path, body)

                async def looked_after() -> bool:
                    found = await asyncio.to_thread(api.request, "GET", f"{path}/s")
                    return bool(found.get("status"))

                await until(looked_after, within=40, every=0.2)
                assert operator.process.returncode is None
                assert await operator.end() == 0
            finally:
                nats.stop()


async def test_without_a_way_to_kubernetes_it_says_so_and_ends(tmp_path: Path) -> None:
    async with operator_process(tmp_path / "none", tmp_path) as operator:
        async with asyncio.timeout(150):
            assert await operator.process.wait() == 1
    assert "set KUBECONFIG" in operator.log.read_text()
