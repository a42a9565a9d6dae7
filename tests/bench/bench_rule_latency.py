"""How long after a Rule was applied its timer is armed, with 10,000 other Rules there.

A real kube-apiserver, the whole operator, a real NATS server, and the timer sensor as the process that runs in a pod; its 10,000
timers fire meanwhile. The time runs from sending the request to the API server until the sensor's word that the new generation
is active has come back over NATS, which it says once the timer is armed. The reference is what cannot be avoided: the same
requests, seen by a bare watch, published as they are and received by a bare subscription.

``BENCH_AS_INSTALLED=yes``: with the NATS server as the chart installs it, with the operator's accounts and credentials, and TLS.
"""

import asyncio
import contextlib
import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import nats
from bench_rule_projection import NAMESPACE, RULES, SENSOR, rule, with_rules
from kubernetes.aio import client as kubernetes_client
from kubernetes.aio import config as kubernetes_config
from kubernetes.aio import watch as kubernetes_watch
from nats.aio.client import Client
from support.eventually import until
from support.kubectl_user import KubectlUser, running, secret_text, settings_for
from support.nats_server import NatsServer
from support.scripted_api import ScriptedApi
from support.timer_process import timer_environment, timer_process

from attune_contract import subjects
from attune_contract.environment import ACKS_SUBJECT, RULES_SUBJECT
from attune_contract.environment import NATS_API_PREFIX as API_PREFIX
from attune_contract.environment import NATS_INBOX_PREFIX as INBOX
from attune_contract.environment import RULES_CONSUMERS as CONSUMERS
from attune_contract.messages import AckState, InvalidMessageError, decode_ack
from attune_kit.nats.connection import NatsEndpoint, open_connection
from attune_operator.resources import kinds
from attune_operator.runtime.kube_client import KubeClient

INSTALLED = bool(os.environ.get("BENCH_AS_INSTALLED"))
CHANGES = 300
#: Seconds between changes, about as somebody's pipeline applies them.
PAUSE = 0.02
Arrivals = dict[tuple[str, int], float]


async def apply(client: KubeClient, number: int, change: int) -> tuple[str, int]:
    """Change a Rule; returns what has to arrive."""
    body = rule(number, unit="minutes" if change % 2 else "seconds")
    body["spec"]["trigger"]["parameters"]["interval"] = RULES + change + 1
    applied = await client.call(
        "PATCH",
        kinds.RULE.path(NAMESPACE, body["metadata"]["name"]),
        query={"fieldManager": "kubectl", "force": "true"},
        body=body,
        content_type="application/apply-patch+yaml",
    )
    return applied["metadata"]["uid"], applied["metadata"]["generation"]


async def latencies(client: KubeClient, arrivals: Arrivals, seen: asyncio.Event, *, offset: int) -> list[float]:
    """Seconds from the request to the arrival, sorted."""
    times = []
    for change in range(CHANGES):
        began = time.perf_counter()
        key = await apply(client, (change * 37) % RULES, offset + change)
        async with asyncio.timeout(30):
            while key not in arrivals:
                seen.clear()
                await seen.wait()
        times.append(arrivals[key] - began)
        await asyncio.sleep(PAUSE)
    return sorted(times)


class Parts(NamedTuple):
    """What runs: a connection that hears acks, and what the timer sensor is given."""

    connection: Client
    environment: dict[str, str]


@contextlib.asynccontextmanager
async def plain(user: KubectlUser, server: NatsServer, api_url: str, directory: Path) -> AsyncIterator[Parts]:
    """The operator, and a NATS server that lets anyone do anything."""
    connection = await nats.connect(server.url)
    async with running(settings_for(user, server, sweep_interval="60s")):
        yield Parts(connection, timer_environment(SENSOR, nats_url=server.url, api_url=api_url, directory=directory))
    await connection.close()


@contextlib.asynccontextmanager
async def as_installed(user: KubectlUser, _: NatsServer, api_url: str, directory: Path) -> AsyncIterator[Parts]:
    """The operator, and a NATS server with its accounts and TLS; the sensor has what its pod would have."""
    from support.certificates import Authority
    from support.nats_tenants import Tenants

    from attune_operator.credentials import nats_keys
    from attune_operator.credentials.nats_auth import AUTH_KEY, AUTH_SECRET, CONFIG_SECRET

    files = directory / "installed"
    files.mkdir()
    authority = Authority()
    certificate, key = authority.issue("localhost")
    for name, text in (("ca.crt", authority.pem), ("tls.crt", certificate), ("tls.key", key)):
        (files / name).write_text(text)
    server = NatsServer(files)
    url = f"tls://localhost:{server.port}"
    settings = settings_for(
        user, server, nats_url=url, nats_ca_file=files / "ca.crt", nats_auth="managed", sweep_interval="60s"
    )
    try:
        async with running(settings):
            accounts = secret_text(await user.get(kinds.SECRET, CONFIG_SECRET), "accounts.conf")
            tls = f'tls {{ cert_file: "{files}/tls.crt", key_file: "{files}/tls.key" }}'
            server.extra_config = f"{accounts}\n{tls}\n"
            server.start()
            text = secret_text(await user.get(kinds.SECRET, AUTH_SECRET), AUTH_KEY)
            keys = nats_keys.load(text, new_seed=lambda: os.urandom(32))
            (files / "listener.creds").write_text(Tenants(server, keys).service())
            (files / "sensor.creds").write_text(await _sensors_credentials(user))
            endpoint = NatsEndpoint(url=url, creds_file=files / "listener.creds", ca_file=files / "ca.crt")
            given = await _pods_environment(user)
            own = timer_environment(SENSOR, nats_url=url, api_url=api_url, directory=directory)
            more = {"ATTUNE_NATS_CREDS_FILE": f"{files}/sensor.creds", "ATTUNE_CA_FILE": f"{files}/ca.crt"}
            async with open_connection(endpoint) as opened:
                yield Parts(opened.client, {**given, **own, **more})
    finally:
        server.stop()


async def _sensors_credentials(user: KubectlUser) -> str:
    async def made() -> str:
        return secret_text(await user.get(kinds.SECRET, f"sensor-{SENSOR.name}"), "nats.creds")

    return await until(made, within=120, what="the operator has made the sensor's credentials")


async def _pods_environment(user: KubectlUser) -> dict[str, str]:
    """What a sensor's pod is told of NATS."""

    async def made() -> dict[str, str]:
        deployment = await user.get(kinds.DEPLOYMENT, f"sensor-{SENSOR.name}")
        container = deployment["spec"]["template"]["spec"]["containers"][0]
        return {each["name"]: each["value"] for each in container["env"] if "value" in each}

    told = await until(made, within=120, what="the operator has made the Deployment")
    return {name: told[name] for name in (API_PREFIX, CONSUMERS, INBOX, RULES_SUBJECT, ACKS_SUBJECT)}


async def measured(client: KubeClient, user: KubectlUser, server: NatsServer, directory: Path) -> list[float]:
    """With the operator and the timer sensor."""
    arrivals: Arrivals = {}
    seen = asyncio.Event()

    async def receive(message: Any) -> None:
        try:
            ack = decode_ack(message.data)
        except InvalidMessageError:
            return  # the sensor's word on itself
        if ack.state is AckState.ACTIVE:
            arrivals.setdefault((ack.rule_uid, ack.generation), time.perf_counter())
            seen.set()

    api = ScriptedApi()
    await api.start()
    stage = as_installed if INSTALLED else plain
    try:
        async with stage(user, server, api.url, directory) as parts:
            await parts.connection.subscribe(f"{subjects.acks_prefix(SENSOR)}.>", cb=receive)
            async with timer_process(parts.environment, directory / "log"):
                await _until(lambda: _armed(arrivals))
                await _until(lambda: _statuses_written(client))
                return await latencies(client, arrivals, seen, offset=0)
    finally:
        await api.stop()


async def _armed(arrivals: Arrivals) -> bool:
    return len({uid for uid, _ in arrivals}) >= RULES


async def reference(client: KubeClient, server: NatsServer) -> list[float]:
    """With a bare watch, a bare publish and a bare subscription."""
    arrivals: Arrivals = {}
    seen = asyncio.Event()
    connection = await nats.connect(server.url)

    async def receive(message: Any) -> None:
        item = json.loads(message.data)
        arrivals[item["uid"], item["generation"]] = time.perf_counter()
        seen.set()

    await connection.subscribe("bare.rules", cb=receive)
    listed = await client.call("GET", kinds.RULE.path(NAMESPACE), query={"limit": "1"})
    configuration = kubernetes_client.Configuration()
    await kubernetes_config.load_kube_config(config_file=os.environ["KUBECONFIG"], client_configuration=configuration)
    api = kubernetes_client.ApiClient(configuration)
    objects = kubernetes_client.CustomObjectsApi(api)

    async def watch() -> None:
        async with kubernetes_watch.Watch() as stream:
            async for event in stream.stream(
                objects.list_namespaced_custom_object,
                kinds.RULE.group,
                kinds.RULE.version,
                NAMESPACE,
                kinds.RULE.plural,
                resource_version=listed["metadata"]["resourceVersion"],
            ):
                metadata = event["object"]["metadata"]
                body = {"uid": metadata["uid"], "generation": metadata["generation"]}
                await connection.publish("bare.rules", json.dumps(body).encode())

    watching = asyncio.create_task(watch())
    try:
        return await latencies(client, arrivals, seen, offset=CHANGES)
    finally:
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching
        await api.close()
        await connection.close()


async def _statuses_written(client: KubeClient) -> bool:
    listed = await client.list_objects(kinds.RULE)
    return all(item.get("status", {}).get("conditions") for item in listed)


async def _until(probe: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(900):
        while not await probe():  # noqa: ASYNC110 - the API server sets no event
            await asyncio.sleep(5)


def _milliseconds(times: list[float], part: float) -> float:
    return round(times[min(len(times) - 1, int(len(times) * part))] * 1000, 1)


async def run() -> dict[str, object]:
    """The result: milliseconds, and the ratio of the medians."""
    async with with_rules(RULES) as (client, server, directory):
        times = await measured(client, KubectlUser(client, NAMESPACE), server, directory)
        bare = await reference(client, server)
    return {
        "p50_ms": _milliseconds(times, 0.5),
        "p99_ms": _milliseconds(times, 0.99),
        "max_ms": _milliseconds(times, 1.0),
        "p99_at_most_ms": 250,
        "reference_p50_ms": _milliseconds(bare, 0.5),
        "reference_p99_ms": _milliseconds(bare, 0.99),
        "ratio": round(_milliseconds(times, 0.5) / _milliseconds(bare, 0.5), 2),
        "other_rules": RULES,
        "changes": CHANGES,
    }


if __name__ == "__main__":
    print(json.dumps({"rule_latency": asyncio.run(run())}, indent=2))
