"""What statuses cost with 10,000 Rules of a real kube-apiserver: at rest, with one that fires each second, and with 1,000.

The operator's Rule side runs in a process of its own (``python bench_status_writes.py URL``), whose processor time and memory
are read from ``/proc``. It says on its output how many statuses it has written. Events are published to the stream as the API
does, and acks as sensors do. ``ratio`` is five writes a second divided by those that were made while 1,000 Rules fired. How old
the shown event of one Rule is, is looked at ten times a second by another client.
"""

import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nats
from bench_rule_projection import NAMESPACE, SENSOR, with_rules
from support.quiet import quiet

from attune_contract import subjects
from attune_contract.messages import Ack, AckState, encode
from attune_operator.resources import kinds
from attune_operator.rules import metrics
from attune_operator.rules.options import RulesOptions
from attune_operator.rules.side import RuleSide
from attune_operator.runtime import kube_client
from attune_operator.runtime.cluster import KubeCluster
from attune_operator.runtime.events import EventRecorder
from attune_operator.runtime.kube_client import KubeClient
from attune_operator.runtime.views import SensorRuntime

RULES = int(os.environ.get("BENCH_RULES", "10000"))
FIRING = 1_000
SECONDS = 60.0
LIMIT = 5.0


async def operate(url: str) -> None:
    """The operator's Rule side; says the number of its writes each half second."""
    client = KubeClient(kube_client.load_access())
    cluster = KubeCluster(client, recorder=EventRecorder(client, instance="bench"))
    side = RuleSide(cluster=cluster, nats_url=url, options=RulesOptions())
    side.observe_runtime(SENSOR, SensorRuntime(ready_replicas=1))
    async with asyncio.TaskGroup() as group:
        group.create_task(side.run())
        while True:
            written = metrics.STATUS_WRITES.labels("written")._value.get()
            print(json.dumps({"written": written, "live": side.live_messages}), flush=True)
            await asyncio.sleep(0.5)


class OperatorProcess:
    """The process, and what it said last."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.said: dict[str, float] = {"written": 0.0, "live": 0.0}

    async def listen(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            with contextlib.suppress(ValueError):
                self.said = json.loads(line)

    async def wait_for(self, key: str, value: float) -> None:
        while self.said[key] < value:
            if self._process.returncode is not None:
                raise RuntimeError(f"the operator ended with {self._process.returncode}")
            await asyncio.sleep(0.2)

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def mebibytes(self) -> float:
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return round(int(status.partition("VmRSS:")[2].split()[0]) / 1024, 1)

    async def measured(self, work: asyncio.Task[Any] | None = None) -> dict[str, float]:
        """A minute of it, while something else goes on."""
        written, cpu = self.said["written"], self.cpu_seconds()
        await asyncio.sleep(SECONDS)
        if work is not None:
            while not work.done():
                work.cancel()  # again, since nats-py may swallow it
                await asyncio.wait([work], timeout=1.0)
        return {
            "writes_per_second": round((self.said["written"] - written) / SECONDS, 2),
            "cpu_percent": round(100 * (self.cpu_seconds() - cpu) / SECONDS, 2),
            "mebibytes": self.mebibytes(),
        }


@contextlib.asynccontextmanager
async def operator(url: str) -> AsyncIterator[OperatorProcess]:
    """Start the process; end it at the end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        __file__,
        url,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    said = OperatorProcess(process)
    listening = asyncio.create_task(said.listen())
    try:
        yield said
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        await listening


async def fire(jetstream: Any, uids: Sequence[str]) -> None:
    """One event of each Rule each second, for ever, at whole seconds as timers have it."""
    while True:
        await asyncio.sleep(1.0 - time.time() % 1.0)
        at = datetime.now(UTC).replace(microsecond=0).isoformat().replace("+00:00", "Z")
        for uid in uids:
            await jetstream.publish_async(
                subjects.event_subject(NAMESPACE, uid), b"{}", headers={"ce-time": at}, wait_stall=60
            )


async def ages(client: KubeClient, name: str) -> dict[str, float]:
    """How old (seconds) the shown event of a Rule that fires each second is, over a minute."""
    found = []
    loop = asyncio.get_running_loop()
    until = loop.time() + SECONDS
    while loop.time() < until:
        shown = ((await client.get(kinds.RULE, NAMESPACE, name)) or {}).get("status", {}).get("lastEventTime")
        if shown is not None:
            found.append((datetime.now(UTC) - datetime.fromisoformat(shown)).total_seconds())
        await asyncio.sleep(0.1)
    found.sort()
    shares = {"median": 0.5, "p99": 0.99, "most": 1.0}
    return {share: round(found[min(int(len(found) * part), len(found) - 1)], 2) for share, part in shares.items()}


async def run() -> dict[str, object]:
    """The result: writes a second, processor time and memory of the operator, and ages in seconds."""
    async with with_rules(RULES) as (client, server, _):
        return await measured(client, server.url)


async def measured(client: KubeClient, url: str) -> dict[str, object]:
    """Bring all Rules to rest, then look."""
    connection = await nats.connect(url)
    jetstream = connection.jetstream(publish_async_max_pending=4000)
    async with operator(url) as program:
        await program.wait_for("live", RULES)
        listed = [item["metadata"] for item in await client.list_objects(kinds.RULE)]
        uids, first = [metadata["uid"] for metadata in listed], listed[0]["name"]
        for uid in uids:
            ack = Ack(rule_uid=uid, generation=1, state=AckState.ACTIVE, instance="bench", at=datetime.now(UTC))
            await jetstream.publish_async(subjects.ack_subject(SENSOR, uid), encode(ack))
        await jetstream.publish_async_completed()
        written = -1.0
        while written != program.said["written"] or written < RULES:
            written = program.said["written"]
            await asyncio.sleep(15)
        result: dict[str, object] = {"rules": RULES, "at_rest": await program.measured()}
        await jetstream.add_stream(name=subjects.EVENTS_STREAM, subjects=[subjects.ALL_EVENTS], max_msgs_per_subject=10)
        one = asyncio.create_task(fire(jetstream, uids[:1]))
        await asyncio.sleep(5)
        seen, cost = await asyncio.gather(ages(client, first), program.measured(one))
        result["one_fires"] = {**cost, "age_of_last_event": seen}
        firing = await program.measured(asyncio.create_task(fire(jetstream, uids[:FIRING])))
        result |= {f"{FIRING}_fire": firing, "ratio": round(LIMIT / max(firing["writes_per_second"], 0.01), 2)}
    await connection.close()
    return {**result, "at_least": 1.0}


if __name__ == "__main__":
    if len(sys.argv) > 1:
        quiet()
        asyncio.run(operate(sys.argv[1]))
    else:
        print(json.dumps({"status_writes": asyncio.run(run())}, indent=2))
