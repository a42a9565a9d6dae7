"""Two installations, each with NATS and keys of its own, that watch the same namespace: one looks after it."""

import asyncio
import contextlib
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from support.eventually import until
from support.kubectl_user import KubectlUser
from support.nats_server import NatsServer
from support.operator_process import OperatorProcess, operator_process

from attune_cluster.apiserver import ApiServer
from attune_contract import names
from attune_operator.resources import kinds
from attune_operator.resources.kinds import Object

#: How long both run beside each other; a long run is ATTUNE_INSTALLATIONS_SECONDS=120.
SECONDS = float(os.environ.get("ATTUNE_INSTALLATIONS_SECONDS", "0"))

pytest_plugins = ["support.operator_fixtures"]
pytestmark = [pytest.mark.apiserver, pytest.mark.nats]


class Installation:
    """An operator with a namespace and a NATS server of its own."""

    def __init__(self, kubernetes: ApiServer, user: KubectlUser, name: str, directory: Path) -> None:
        self.home = f"{user.namespace}-{name}"
        self._user, self._kubeconfig, self._directory = user, kubernetes.kubeconfig, directory / name
        self._directory.mkdir()
        self.nats = NatsServer(self._directory)
        self.process: OperatorProcess

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Installation"]:
        settings = {
            "NAMESPACE": self.home,
            "WATCH_NAMESPACES": self._user.namespace,
            "NATS_URL": self.nats.url,
            "SWEEP_INTERVAL": "1s",
            "SIGNING_KEY_LEAD": "1s",
        }
        async with operator_process(self._kubeconfig, self._directory, **settings) as self.process:
            await until(self.process.ready, what="the operator is ready")
            yield self

    async def metric(self, name: str) -> float:
        """The sum of a metric's values; 0 if there are none."""
        _, text = await self.process.page(self.process.metrics, "/metrics")
        return sum(float(value) for value in re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE))

    async def keeps_off(self) -> bool:
        return await self.metric("attune_foreign_namespaces") == 1

    async def sweeps(self, times: int) -> None:
        """Return after so many more complete lists."""
        for _ in range(times):
            before = await self.metric("attune_last_sweep_timestamp_seconds")

            async def again(before: float = before) -> bool:
                return await self.metric("attune_last_sweep_timestamp_seconds") > before

            await until(again, what="another complete list")

    def said(self) -> str:
        return self.process.log.read_text()


@pytest.fixture
async def installations(
    kubernetes: ApiServer, user: KubectlUser, tmp_path: Path
) -> AsyncIterator[tuple[Installation, Installation]]:
    made = tuple(Installation(kubernetes, user, name, tmp_path) for name in ("one", "two"))
    for each in made:
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": each.home}}
        await user.client.create(kinds.NAMESPACE, body)
        await asyncio.to_thread(each.nats.start)
    yield made[0], made[1]
    for each in made:
        await asyncio.to_thread(each.nats.stop)


async def token(user: KubectlUser) -> Object | None:
    status = (await user.get(kinds.SENSOR, "core.timer")).get("status") or {}
    found: Object | None = status.get("token")
    return found


async def mark(user: KubectlUser) -> str:
    return str((await user.get(kinds.CONFIG_MAP, names.INSTALLATION_MARK))["data"][names.INSTALLATION_KEY])


async def test_the_second_keeps_off_until_the_namespace_is_handed_to_it(
    user: KubectlUser, installations: tuple[Installation, Installation]
) -> None:
    one, two = installations
    async with two.running():
        async with one.running():
            # Nothing is in the namespace yet, so it is nobody's.
            for each in installations:
                await each.sweeps(1)
            assert await user.find(kinds.CONFIG_MAP, names.INSTALLATION_MARK) is None
            await user.client.create(
                kinds.CONFIG_MAP,
                {
                    "apiVersion": "v1",
                    "kind": "ConfigMap",
                    "metadata": {
                        "name": names.INSTALLATION_MARK,
                        "namespace": user.namespace,
                        "labels": {names.MANAGED_BY_LABEL: names.MANAGED_BY, names.MARK_LABEL: names.INSTALLATION_KEY},
                    },
                    "data": {names.INSTALLATION_KEY: one.home},
                },
            )
            await user.apply_sensor()
            issued: Any = await until(lambda: token(user), what="a token by the first")
            await until(two.keeps_off)
            generation = (await user.get(kinds.DEPLOYMENT))["metadata"]["generation"]
            await two.sweeps(2)
            await asyncio.sleep(SECONDS)
            await user.apply_sensor(env=[{"name": "A", "value": "1"}])

            async def changed() -> bool:
                return bool((await user.get(kinds.DEPLOYMENT))["metadata"]["generation"] == generation + 1)

            await until(changed)
            await one.sweeps(2)
            assert await changed(), "somebody else wrote the Deployment"
            assert await token(user) == issued
            assert await one.metric("attune_tokens_issued_total") == 1
            counts = {each.home: await each.metric("attune_tokens_issued_total") for each in installations}
            print(f"both for {SECONDS} s: tokens issued {counts}, generation of the Deployment {generation + 1}")
            # By the events of the one that keeps off, a person finds out.
            said = await until(lambda: user.events(names.INSTALLATION_MARK))
            assert [(event["reason"], event["type"]) for event in said] == [("OtherInstallation", "Warning")]
            assert f"The installation in namespace {one.home} looks after" in said[0]["message"]
            # A mark that somebody deletes is written again by the one whose it was.
            await user.delete(kinds.CONFIG_MAP, names.INSTALLATION_MARK)

            async def marked() -> bool:
                return await mark(user) == one.home

            await until(marked)
            one.process.process.kill()  # merely down: nobody takes over
        await two.sweeps(2)
        assert await token(user) == issued
        assert await mark(user) == one.home
        for name in ("attune_tokens_issued_total", "attune_reconciles_total"):
            assert await two.metric(name) == 0, two.said()
        await user.edit(kinds.CONFIG_MAP, {"data": {names.INSTALLATION_KEY: two.home}}, name=names.INSTALLATION_MARK)

        async def renewed() -> bool:
            found = await token(user)
            return found is not None and found["keyId"] != issued["keyId"]

        await until(renewed, what="a token by the second")
        async with one.running():
            await until(one.keeps_off)
            await one.sweeps(2)
            assert await one.metric("attune_tokens_issued_total") == 0
            assert await two.metric("attune_tokens_issued_total") == 1
    assert '"namespace_kept_off"' in one.said()


async def test_a_namespace_that_is_lost_is_let_go_at_once(
    user: KubectlUser, installations: tuple[Installation, Installation]
) -> None:
    one, two = installations
    async with one.running():
        await user.apply_sensor()
        await until(lambda: token(user))
        async with two.running():
            await until(two.keeps_off)
            for loser, winner in ((one, two), (two, one)):
                await user.edit(
                    kinds.CONFIG_MAP, {"data": {names.INSTALLATION_KEY: winner.home}}, name=names.INSTALLATION_MARK
                )
                await until(loser.keeps_off)
                written = await loser.metric("attune_tokens_issued_total")

                async def looked_after(winner: Installation = winner) -> bool:
                    return await winner.metric("attune_sensors") == 1 and not await winner.keeps_off()

                async def forgotten(loser: Installation = loser) -> bool:
                    return await loser.metric("attune_sensors") == 0

                await until(looked_after)
                await until(forgotten)
                await user.apply_sensor(env=[{"name": "WINNER", "value": winner.home}])

                async def applied(winner: Installation = winner) -> bool:
                    containers = (await user.get(kinds.DEPLOYMENT))["spec"]["template"]["spec"]["containers"]
                    return {"name": "WINNER", "value": winner.home} in containers[0]["env"]

                await until(applied)
                await loser.sweeps(2)
                assert await loser.metric("attune_tokens_issued_total") == written
