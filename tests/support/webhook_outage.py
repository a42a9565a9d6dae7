"""Senders that repeat what was not accepted, while the API goes away and comes back. For an integration test and for a soak."""

import asyncio
import collections
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from support.api_process import ApiProcess
from support.eventually import until
from support.nats_server import NatsServer
from support.sensor_process import SensorProcess, drained, serve, stored_events

from attune_contract.identity import SensorRef
from attune_local.ports import free_port

REF = SensorRef("attune-system", "core.webhook")
TYPE = "core.webhook"
SENDERS = 40


def webhook_process(
    directory: Path, *, api: ApiProcess, nats: NatsServer, **variables: Any
) -> tuple[SensorProcess, str]:
    """The webhook sensor, and where it listens."""
    port = free_port()
    sensor = SensorProcess(
        "attune_webhook",
        directory=directory,
        ref=REF,
        trigger_type=TYPE,
        api=api,
        nats=nats,
        ATTUNE_PORT_HTTP=str(port),
        **variables,
    )
    return sensor, f"http://127.0.0.1:{port}"


@dataclass
class Sent:
    """What the senders saw."""

    accepted: dict[str, str] = field(default_factory=dict)  #: of each delivery, the event's id that the answer named
    contradictions: list[str] = field(default_factory=list)  #: deliveries of which two answers named two events
    answers: collections.Counter[str] = field(default_factory=collections.Counter)
    requests: int = 0


async def go_through(
    directory: Path, *, nats: NatsServer, deliveries: int, kill_sensor: bool
) -> tuple[Sent, list[dict[str, object]]]:
    """Send so many deliveries, each until it is accepted and every fifth twice. For the middle third of them the API is away;
    with ``kill_sensor`` the sensor is killed meanwhile and started again.

    Returns:
        What the senders saw, and the events that are stored at the end.
    """
    api = ApiProcess(directory / "api")
    await asyncio.to_thread(api.start)
    sensor, url = webhook_process(directory, api=api, nats=nats)
    stream = await sensor.stream()
    sent = Sent()
    queue = collections.deque(range(deliveries))
    fast = {"perSecond": 10_000, "burst": 20_000}

    async def deliver(session: aiohttp.ClientSession, number: int) -> None:
        delivery = f"delivery-{number}"
        wanted = 2 if number % 5 == 0 else 1
        while wanted:
            sent.requests += 1
            try:
                async with session.post(
                    f"{url}/hooks/{number % 4}", json={"number": number}, headers={"X-GitHub-Delivery": delivery}
                ) as answer:
                    sent.answers[str(answer.status)] += 1
                    if answer.status == 202:
                        named = (await answer.json())["id"]
                        if sent.accepted.setdefault(delivery, named) != named:
                            sent.contradictions.append(delivery)
                        wanted -= 1
                        continue
            except (aiohttp.ClientError, TimeoutError) as error:
                sent.answers[type(error).__name__] += 1
            await asyncio.sleep(0.05)

    async def send(session: aiohttp.ClientSession) -> None:
        while queue:
            await deliver(session, queue.popleft())

    async def reach(share: float) -> None:
        await until(lambda: len(sent.accepted) >= deliveries * share, within=300)

    try:
        await sensor.start()
        await serve(
            stream,
            [
                sensor.rule(number + 1, {"path": f"/hooks/{number}", "auth": {"type": "none"}, "rate": fast})
                for number in range(4)
            ],
        )
        timeout = aiohttp.ClientTimeout(total=20)
        async with aiohttp.ClientSession(timeout=timeout) as session, asyncio.TaskGroup() as senders:
            for _ in range(SENDERS):
                senders.create_task(send(session))
            await reach(1 / 3)
            await asyncio.to_thread(api.kill)
            await reach(1 / 2)
            if kill_sensor:
                await sensor.kill()
                await sensor.start()
            await reach(2 / 3)
            await asyncio.to_thread(api.start)
        await drained(sensor, within=120)
        assert await sensor.stop() == 0
        stored = await stored_events(api)
    finally:
        await sensor.kill()
        await stream.close()
        await asyncio.to_thread(api.stop)
    return sent, stored


def judge(sent: Sent, stored: list[dict[str, object]], *, deliveries: int) -> None:
    """Each accepted delivery is one event, the one that the answer named, and there are no others."""
    assert len(sent.accepted) == deliveries
    assert sent.contradictions == []
    ids = [str(event["id"]) for event in stored]
    assert len(ids) == len(set(ids))
    assert set(ids) == set(sent.accepted.values())
    assert len(ids) == deliveries
