"""Many Sensors and Rules in a real kube-apiserver, users who change them all the time, and sensors that say what they run."""

import asyncio
import contextlib
import random
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Final

from nats.js.api import StreamConfig
from support.eventually import until
from support.nats_client import connect

from attune_contract import subjects
from attune_contract.messages import Ack, AckState, decode_rule, encode, is_tombstone
from attune_operator.resources import kinds
from attune_operator.resources.kinds import Object
from attune_operator.runtime.client import ClusterError
from attune_operator.runtime.kube_client import KubeClient

_PARALLEL: Final = 16
_READY: Final = {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}
SCHEMA: Final = {
    "type": "object",
    "required": ["interval"],
    "properties": {
        "interval": {"type": "number", "exclusiveMinimum": 0},
        "unit": {"enum": ["milliseconds", "seconds", "minutes", "hours"]},
    },
    "additionalProperties": False,
}


class RuleLoad:
    """Users, and the sensors' side of NATS. Each trigger type is offered by two Sensors, so that Rules may move.

    Args:
        client: the API server.
        url: the NATS server.
        sensors, rules: how many there are, all the time.
        seed: of the changes.
    """

    def __init__(self, client: KubeClient, url: str, *, sensors: int, rules: int, seed: int = 1) -> None:
        self.client = client
        self._url = url
        self._sensors = sensors
        self._rules = rules
        self._rng = random.Random(seed)
        self._namespaces = [f"team-{number}" for number in range(10)]
        self._specs: dict[tuple[str, str], Object] = {}
        self._next = 0
        self.done: Counter[str] = Counter()
        """What was changed, by kind."""
        self.acks = 0

    async def prepare(self) -> None:
        """Make the namespaces, the Sensors and the Rules."""
        for name in self._namespaces:
            body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
            with contextlib.suppress(ClusterError):
                await self.client.create(kinds.NAMESPACE, body)
        for number in range(self._sensors):
            await self._apply(kinds.SENSOR, self._sensor(number))
        await self._together(self._make_rule() for _ in range(self._rules))

    async def _together(self, calls: Any) -> None:
        slots = asyncio.Semaphore(_PARALLEL)

        async def one(call: Awaitable[None]) -> None:
            async with slots:
                await call

        await asyncio.gather(*(one(call) for call in calls))

    async def run_pods(self) -> None:
        """Play kubelet and the controllers: every Sensor's Deployment has a pod that is ready.

        Raises:
            LookupError: the operator has not made all of them yet.
        """
        deployments = [d for name in self._namespaces for d in await self.client.list_objects(kinds.DEPLOYMENT, name)]
        if len(deployments) < self._sensors:
            raise LookupError(f"{len(deployments)} of {self._sensors} Deployments")
        for deployment in deployments:
            metadata, template = deployment["metadata"], deployment["spec"]["template"]
            name, namespace = f"{metadata['name']}-0", metadata["namespace"]
            pod = {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name, "namespace": namespace, "labels": template["metadata"]["labels"]},
                "spec": {"containers": [{"name": "sensor", "image": "registry.invalid/sensor:1"}]},
            }
            await self.client.create(kinds.POD, pod)
            await self.client.merge(kinds.POD, namespace, name, _READY, subresource="status")

    async def move_all(self, *, within: float) -> None:
        """Have every Rule move to the younger Sensor of its type, and back; ``within`` seconds each."""
        older = {f"{self._namespaces[n % len(self._namespaces)]}/sensor-{n:03}" for n in range(self._sensors // 2)}
        for offers in (False, True):
            for number in range(self._sensors // 2):
                await self._apply(kinds.SENSOR, self._sensor(number, offers=offers))

            async def moved(*, back: bool = offers) -> bool:
                return all((rule["status"].get("sensor") in older) is back for rule in await self.rules())

            await until(moved, within=within, every=2)

    # -- users

    def _sensor(self, number: int, *, offers: bool = True) -> Object:
        kind = f"load.type-{number % (self._sensors // 2)}"
        return {
            "apiVersion": "attune.dev/v1alpha1",
            "kind": "Sensor",
            # Of two that were made in the same second, the first by name counts as the older.
            "metadata": {"name": f"sensor-{number:03}", "namespace": self._namespaces[number % len(self._namespaces)]},
            "spec": {
                "image": "registry.invalid/sensor:1",
                "rules": {"namespaces": {"from": "All"}},
                "triggerTypes": [{"name": kind if offers else f"{kind}-not-now", "parametersSchema": SCHEMA}],
            },
        }

    async def _apply(self, kind: kinds.Kind, body: Object) -> Object:
        applied: Object = await self.client.call(
            "PATCH",
            kind.path(body["metadata"]["namespace"], body["metadata"]["name"]),
            query={"fieldManager": "kubectl", "force": "true"},
            body=body,
            content_type="application/apply-patch+yaml",
        )
        return applied

    async def _make_rule(self) -> None:
        number, self._next = self._next, self._next + 1
        namespace, name = self._namespaces[number % len(self._namespaces)], f"rule-{number}"
        trigger = {
            "type": f"load.type-{number % (self._sensors // 2)}",
            "parameters": {"interval": number + 1, "unit": "seconds"},
        }
        spec = {"enabled": number % 5 != 0, "trigger": trigger}
        await self._apply_rule(namespace, name, spec)
        self._specs[namespace, name] = spec

    async def _apply_rule(self, namespace: str, name: str, spec: Object) -> None:
        body = {
            "apiVersion": "attune.dev/v1alpha1",
            "kind": "Rule",
            "metadata": {"name": name, "namespace": namespace},
            "spec": spec,
        }
        await self._apply(kinds.RULE, body)

    async def change_one(self) -> None:
        """One change, of a kind that is drawn by lot."""
        what = self._rng.choices(("parameters", "enabled", "replaced", "refused", "moved"), (60, 20, 15, 4, 0.2))[0]
        self.done[what] += 1
        namespace, name = self._rng.choice(list(self._specs)) if what == "replaced" else self._some_rule()
        spec = self._specs[namespace, name]
        trigger = spec["trigger"]
        interval = self._rng.randrange(1, 100_000)
        match what:
            case "parameters":
                parameters = {"interval": interval, "unit": self._rng.choice(("seconds", "minutes"))}
                spec = {**spec, "trigger": {**trigger, "parameters": parameters}}
            case "enabled":
                spec = {**spec, "enabled": not spec["enabled"]}
            case "refused":
                spec = {**spec, "trigger": {**trigger, "parameters": {"interval": -interval}}}
            case "replaced":
                del self._specs[namespace, name]
                await self.client.call("DELETE", kinds.RULE.path(namespace, name))
                await self._make_rule()
                return
            case _:
                # The Rules of an older Sensor go over to the younger one, or come back.
                number = self._rng.randrange(self._sensors // 2)
                await self._apply(kinds.SENSOR, self._sensor(number, offers=self._rng.random() < 0.5))
                return
        await self._apply_rule(namespace, name, spec)
        self._specs[namespace, name] = spec

    def _some_rule(self) -> tuple[str, str]:
        # The newest few thousand: choosing from a list of all of them for every change would be most of the work.
        number = self._rng.randrange(max(0, self._next - self._rules // 2), self._next)
        key = (self._namespaces[number % len(self._namespaces)], f"rule-{number}")
        return key if key in self._specs else next(iter(self._specs))

    async def change_for(self, seconds: float, *, rate: float, each: Callable[[], None] = lambda: None) -> None:
        """Change things ``rate`` times a second, or as often as the API server takes it; ``each`` is called after each."""
        loop = asyncio.get_running_loop()
        due, ends = loop.time(), loop.time() + seconds
        while loop.time() < ends:
            await self.change_one()
            each()
            due = max(due + 1 / rate, loop.time() - 1)
            await asyncio.sleep(max(0, due - loop.time()))

    # -- sensors, and the API's stream of accepted events

    async def answer_forever(self) -> None:
        """Ack every rule message as a sensor does, and let an event of one rule in ten be accepted."""
        client = await connect(self._url)
        jetstream = client.jetstream(timeout=60)
        await jetstream.add_stream(
            StreamConfig(name=subjects.EVENTS_STREAM, subjects=[subjects.ALL_EVENTS], max_msgs=10_000)
        )

        async def answer(message: Any) -> None:
            if is_tombstone(message.headers):
                return
            state = decode_rule(message.data)
            binding, uid = subjects.split_binding(message.subject)
            word = AckState.ACTIVE if state.enabled else AckState.STOPPED
            now = datetime.now(UTC)
            ack = Ack(rule_uid=uid, generation=state.generation, state=word, instance="pod-0", at=now)
            await client.publish(f"attune.acks.{binding}.{uid}", encode(ack))
            self.acks += 1
            if self.acks % 10 == 0:
                headers = {"ce-id": str(uuid.uuid4()), "ce-time": now.isoformat()}
                await client.publish(subjects.event_subject(state.namespace, uid), b"{}", headers=headers)

        await client.subscribe(subjects.ALL_RULES, cb=answer)
        try:
            await asyncio.Event().wait()
        finally:
            await client.close()

    # -- looking

    async def rules(self) -> list[Object]:
        """Every Rule as it stands in Kubernetes."""
        return await self.client.list_objects(kinds.RULE)

    async def settled(self) -> list[Object]:
        """Every Rule, once each status speaks of its generation.

        Raises:
            LookupError: some do not yet.
        """
        found = await self.rules()
        late = [
            rule for rule in found if rule.get("status", {}).get("observedGeneration") != rule["metadata"]["generation"]
        ]
        if late:
            raise LookupError(f"{len(late)} of {len(found)} Rules are not up to date")
        return found
