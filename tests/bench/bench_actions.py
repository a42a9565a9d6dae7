"""Runs of kind http, against a bare loop that pulls an event, posts it and acknowledges it.

One replica of the runner as it is started in a pod, one rule, a target that answers 204 at once, a NATS server on disk. The
rounds alternate between the runner and the loop, and the median of the ratios counts. Then the time from an event's storage
to the request, at 200 events a second; and the same beside another rule whose target takes 10 s, when its 1,000 events come
and 10 s later.
"""

import asyncio
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
from nats.js.api import AckPolicy, ConsumerConfig
from support.actions_stage import Stage, event, http, rule_actions
from support.eventually import until
from support.process_memory import now_mib, peak_mib
from support.quiet import quiet

from attune_contract.subjects import EVENTS_STREAM
from attune_local.ports import free_port

EVENTS = 4_000
ROUNDS = 3
RATE = 200
SECONDS = 10
HERE = Path(__file__).resolve().parent


class Sink:
    """The target as a process of its own."""

    def __init__(self) -> None:
        self.port = free_port()
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "bare_actions.py"), "sink", str(self.port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        self._process.stdout.readline()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    def ask(self, word: str) -> Any:
        """Ask the sink: count, times, reset."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{word}\n".encode())
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


async def counted(sink: Sink, number: int) -> float:
    """Seconds until the sink has so many requests."""
    began = time.perf_counter()
    while await asyncio.to_thread(sink.ask, "count") < number:
        if time.perf_counter() - began > 120:
            raise RuntimeError("the requests did not come within 120 s")
        await asyncio.sleep(0.01)
    return time.perf_counter() - began


async def fill(stage: Stage, rule: str, start: int, number: int) -> None:
    """Store events, and wait until they are."""
    before = (await stage.jetstream.stream_info(EVENTS_STREAM)).state.messages
    await stage.store(*(event(start + k, rule=rule) for k in range(number)))

    async def stored() -> bool:
        return bool((await stage.jetstream.stream_info(EVENTS_STREAM)).state.messages >= before + number)

    await until(stored, within=60)


async def through_runner(stage: Stage, sink: Sink, start: int) -> float:
    """Runs a second: events are there before the runner is."""
    await fill(stage, "r", start, EVENTS)
    sink.ask("reset")
    process = stage.start()
    await counted(sink, 1)
    seconds = await counted(sink, EVENTS)
    await stage.stop(process)
    return EVENTS / seconds


async def through_loop(stage: Stage, sink: Sink, start: int) -> float:
    """The same of the bare loop, with events of a rule of its own."""
    config = ConsumerConfig(
        durable_name=f"bare-{start}", ack_policy=AckPolicy.EXPLICIT, filter_subject="attune.events.demo.uid-bare"
    )
    await stage.jetstream.add_consumer(EVENTS_STREAM, config)
    await fill(stage, "bare", start, EVENTS)
    sink.ask("reset")
    loop = await asyncio.to_thread(
        subprocess.Popen,
        [sys.executable, str(HERE / "bare_actions.py"), "loop", stage.server.url, f"bare-{start}", sink.url],
    )
    try:
        await counted(sink, 1)
        return EVENTS / await counted(sink, EVENTS)
    finally:
        loop.kill()
        loop.wait()


async def latency(stage: Stage, sink: Sink, rule: str, start: int) -> dict[str, float]:
    """Milliseconds from an event's publication to its request, at a steady rate."""
    sink.ask("reset")
    sent: dict[str, float] = {}
    began = time.monotonic()
    for k in range(RATE * SECONDS):
        await asyncio.sleep(max(0.0, began + k / RATE - time.monotonic()))
        body = event(start + k, rule=rule, payload={"at": time.time_ns()})
        sent[str(body.id)] = time.time()
        await stage.client.publish(f"attune.events.demo.uid-{rule}", msgspec.json.encode(body))
    await counted(sink, RATE * SECONDS)
    found = sorted(1000 * (at - sent[name]) for name, at in sink.ask("times").items() if name in sent)
    return {
        "p50_ms": round(found[len(found) // 2], 2),
        "p99_ms": round(found[int(len(found) * 0.99)], 2),
        "events": len(found),
    }


async def run() -> dict[str, object]:
    """The result."""
    quiet()
    sink, slow = Sink(), Sink()
    try:
        with tempfile.TemporaryDirectory() as directory:
            async with Stage(Path(directory)) as stage:
                await stage.tell(rule_actions("r", http(sink.url, cloudEvent="Binary")))
                await stage.tell(rule_actions("bare"))
                await stage.stop_collecting()  # storing the reports is the API's work, and not measured here
                rounds = []
                for number in range(ROUNDS):
                    bare = await through_loop(stage, sink, number * EVENTS)
                    ours = await through_runner(stage, sink, number * EVENTS)
                    rounds.append(
                        {"runs_per_second": round(ours), "loop_per_second": round(bare), "ratio": round(ours / bare, 3)}
                    )
                process = stage.start()
                sink.ask("reset")  # what is counted next came through this runner: its start is no part of the latency
                await fill(stage, "r", 10**6, 1)
                await counted(sink, 1)
                idle = now_mib(process.pid)
                alone = await latency(stage, sink, "r", 2 * 10**6)
                await stage.tell(rule_actions("slow", http(f"{slow.url}?wait=10", cloudEvent="Binary")))
                await fill(stage, "slow", 0, 1000)
                await counted(slow, 10)
                beside = await latency(stage, sink, "r", 3 * 10**6)
                later = await latency(stage, sink, "r", 4 * 10**6)
                memory = peak_mib(process.pid)
    finally:
        sink.stop()
        slow.stop()
    rounds.sort(key=lambda each: each["ratio"])
    return {
        **rounds[ROUNDS // 2],
        "at_least": 0.5,
        "latency": alone,
        "latency_while_a_slow_rule_s_1000_events_come": beside,
        "latency_beside_a_slow_rule_later": later,
        "idle_memory_mib": idle,
        "peak_memory_mib": memory,
        "rounds": rounds,
    }


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        print(json.dumps({"actions": asyncio.run(run())}, indent=2))
