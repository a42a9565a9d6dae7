"""The real Rule side on an in-memory cluster and a real NATS server, and a sensor that acks as the protocol says."""

import asyncio
import contextlib
import dataclasses
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import nats
import nats.errors
import nats.js.errors
from support.eventually import until
from support.rule_cluster import MemoryCluster, Object

from attune_contract import subjects
from attune_contract.identity import SensorRef
from attune_contract.messages import Ack, AckState, RuleState, decode_rule, encode, is_tombstone
from attune_operator.rules.options import RulesOptions
from attune_operator.rules.side import RuleSide
from attune_operator.runtime.client import WatchEventType
from attune_operator.runtime.views import SensorRuntime

READY = SensorRuntime(ready_replicas=1)

#: Everything that waits in production waits little here.
FAST = RulesOptions(
    sweep_interval=30,
    check_interval=0.5,
    heartbeat=0.5,
    acks_grace=0.5,
    last_event_interval=0.2,
    times_rate=1000,
    times_sensor_rate=1000,
    summary_interval=0.02,
    status_rate=5000,
    backoff_limit=0.3,
)


class RuleSideUnderTest:
    """One operator's Rule side. It watches ``cluster`` unless told otherwise."""

    def __init__(self, cluster: MemoryCluster, url: str, *, seed: int = 0, **options: Any) -> None:
        self.cluster = cluster
        self.changed: list[SensorRef] = []
        self.controller = RuleSide(
            cluster=cluster,
            nats_url=url,
            on_summary_changed=self.changed.append,
            options=dataclasses.replace(FAST, **options),
            rng=random.Random(seed),
        )
        self.sees_events = True
        self._task: asyncio.Task[None] | None = None
        cluster.watchers.append(self._watch)

    def _watch(self, kind: WatchEventType, item: Object) -> None:
        if not self.sees_events:
            return
        observe = {
            "Rule": self.controller.observe_rule,
            "Sensor": self.controller.observe_sensor,
        }.get(_kind(item), self.controller.observe_namespace)
        observe(kind, item)

    def start(self) -> None:
        self._task = asyncio.create_task(self.controller.run())

    async def stop(self) -> None:
        """End it as a kill would: whatever it was about to do is not done."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        if self._watch in self.cluster.watchers:
            self.cluster.watchers.remove(self._watch)

    def ready(self, ref: str) -> None:
        self.controller.observe_runtime(SensorRef.parse(ref), READY)

    async def synced(self, ref: str) -> None:
        await until(lambda: self.controller.summary(SensorRef.parse(ref)).synced is True, within=30)


def _kind(item: Object) -> str:
    if "trigger" in item["spec"]:
        return "Rule"
    return "Sensor" if "triggerTypes" in item["spec"] else "Namespace"


@contextlib.asynccontextmanager
async def rule_side(cluster: MemoryCluster, url: str, **options: Any) -> AsyncIterator[RuleSideUnderTest]:
    side = RuleSideUnderTest(cluster, url, **options)
    side.start()
    try:
        yield side
    finally:
        await side.stop()


class Stream:
    """The rule stream as an onlooker sees it, by a connection of its own for each look."""

    def __init__(self, url: str) -> None:
        self._url = url

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[Any]:
        client = await nats.connect(self._url, allow_reconnect=False, connect_timeout=30)
        try:
            yield client
        finally:
            await client.close()

    async def sequences(self) -> dict[str, int]:
        """The last message's sequence by subject: whatever is written raises one."""
        return {subject: message.seq for subject, message in (await self.messages()).items()}

    async def states(self) -> dict[str, RuleState]:
        """The live states by subject."""
        found = {}
        for subject, message in (await self.messages()).items():
            if not is_tombstone(message.headers):
                found[subject] = decode_rule(message.data)
        return found

    async def messages(self) -> dict[str, Any]:
        async with self.connected() as client:
            jetstream = client.jetstream(timeout=60)
            try:
                info = await jetstream.stream_info(subjects.RULES_STREAM, subjects_filter=">")
            except nats.js.errors.NotFoundError:
                return {}
            found = {}
            for subject in info.state.subjects or {}:
                found[subject] = await jetstream.get_last_msg(subjects.RULES_STREAM, subject)
            return found

    async def types(self) -> list[str]:
        """The CloudEvents types of all messages, in no order that matters."""
        return sorted(message.headers["ce-type"] for message in (await self.messages()).values())

    async def shows(self, look: Callable[["Stream"], Awaitable[Any]], wanted: Any, *, within: float = 15) -> None:
        """Wait until an onlooker sees what is wanted."""

        async def seen() -> bool:
            found = await look(self)  # raises while the server is down, or holds rubbish, on purpose
            assert found == wanted
            return True

        await until(seen, within=within, what=f"{wanted!r} in the stream")

    async def ack(
        self,
        ref: str,
        uid: str,
        generation: int,
        state: AckState = AckState.ACTIVE,
        message: str = "",
        next_at: datetime | None = None,
    ) -> None:
        ack = Ack(
            rule_uid=uid,
            generation=generation,
            state=state,
            instance="pod-1",
            at=datetime.now(UTC),
            message=message,
            next_at=next_at,
        )
        await self.publish(subjects.ack_subject(SensorRef.parse(ref), uid), encode(ack))

    async def publish(self, subject: str, body: bytes, headers: dict[str, str] | None = None) -> None:
        async with self.connected() as client:
            await client.jetstream(timeout=60).publish(subject, body, headers=headers)
