"""How long a sensor takes to build its state from 100,000 rules, against a bare nats-py consumer of the same messages.

Each is a process of its own, with a connection of its own, and they take turns. The bare consumer counts what arrives until the
server says that nothing is pending, and looks at nothing. The sensor is the SDK as it runs: it reads replies and heads, decodes
and checks each rule, compares with what it knows, and hands every rule over to what starts rules; its time ends when the state
is complete. Both times begin when the consumer is asked for.

A second server holds the same rules, of which a hundred were changed ten times each: the stream keeps the last state of each
rule only, so what happened before must not cost anything (``after_changes``, and ``history_ratio``: the sensor there to the
sensor here). The two servers take turns too.

``BENCH_AS_INSTALLED=yes``: the sensor reads as where the chart has installed it, with the operator's accounts and its own
credentials, over TLS; the bare consumer has TLS too, and everything else as before. ``BENCH_RULES`` takes fewer rules.

``ratio`` is of times by the clock; ``cpu_ratio`` of time on a processor, which a busy machine disturbs less.
"""

import argparse
import asyncio
import json
import logging
import os
import statistics
import sys
import tempfile
import time
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RULES = int(os.environ.get("BENCH_RULES", "100000"))
#: As the chart installs it: with accounts, and over TLS.
INSTALLED = bool(os.environ.get("BENCH_AS_INSTALLED"))
UID = "uid-timer"
CHANGES = 1_000
ROUNDS = 5
REF = "attune-system/core.timer"


def body(number: int, change: int = 0) -> Any:
    """A rule's state."""
    from attune_contract.messages import RuleState

    return RuleState(
        uid=str(uuid.UUID(int=number)),
        namespace=f"team-{number % 50}",
        name=f"rule-{number}",
        generation=1 + change,
        enabled=True,
        trigger_type="core.intervaltimer",
        parameters={"interval": number % 3600 + change + 1, "unit": "seconds"},
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


def prepare(directory: Path) -> Any:
    """A server that has not started; where it is one as installed, with the files that clients need."""
    from support.nats_server import NatsServer

    if not INSTALLED:
        return NatsServer(directory)
    from support.certificates import Authority
    from support.nats_tenants import Tenants, deterministic_keys

    from attune_contract.identity import SensorRef
    from attune_operator.credentials.nats_accounts import server_config

    authority, keys = Authority(), deterministic_keys()
    certificate, key = authority.issue("localhost")
    for name, text in (("ca.crt", authority.pem), ("tls.crt", certificate), ("tls.key", key)):
        (directory / name).write_text(text)
    tls = f'tls {{ cert_file: "{directory}/tls.crt", key_file: "{directory}/tls.key" }}'
    server = NatsServer(directory, extra_config=f"{server_config(keys)}{tls}\n")
    tenants = Tenants(server, keys)
    (directory / "sensor.creds").write_text(tenants.sensor(SensorRef.parse(REF), uid=UID, seconds=7200))
    (directory / "rules.creds").write_text(tenants.service(account="rules"))
    return server


def place(server: Any) -> str:
    """Where measurements find a server: its address, and behind ``#`` its files."""
    return f"tls://localhost:{server.port}#{server.store.parent}" if INSTALLED else server.url


def endpoint(where: str, creds: str, **more: Any) -> Any:
    """How to connect to such a place, by the credentials in this file."""
    from attune_kit.nats.connection import NatsEndpoint

    url, _, files = where.partition("#")
    if files:
        more |= {"creds_file": Path(files) / creds, "ca_file": Path(files) / "ca.crt"}
    return NatsEndpoint(url=url, **more)


async def publish(url: str, numbers: Any, *, change: int = 0) -> None:
    """Publish rules as the operator does: its publisher, its subjects and its headers."""
    from attune_contract import subjects
    from attune_contract.identity import SensorRef
    from attune_contract.messages import RuleEventType, encode, rule_event_headers
    from attune_kit.nats.connection import open_connection
    from attune_operator.streams.definitions import ensure_stream, rules_stream
    from attune_operator.streams.publisher import Publisher

    problems: list[Exception] = []

    def answered(outcome: Any) -> None:
        if isinstance(outcome, Exception):
            problems.append(outcome)

    sensor = SensorRef.parse(REF)
    async with open_connection(endpoint(url, "rules.creds")) as connection:
        await ensure_stream(connection.jetstream, rules_stream(replicas=1))
        publisher = Publisher(connection=connection, max_in_flight=256)
        await publisher.start()
        event = RuleEventType.UPDATED if change else RuleEventType.CREATED
        for number in numbers:
            state = body(number, change)
            await publisher.publish(
                subject=subjects.rule_subject(sensor, state.uid),
                body=encode(state),
                headers=rule_event_headers(event, state, time=datetime.now(UTC), event_id=uuid.uuid4()),
                expected_sequence=None,
                completion=answered,
            )
        await publisher.drained()
    if problems:
        raise RuntimeError(f"{len(problems)} messages were not stored: {problems[0]}")


# -- what is measured, each in a process of its own


async def bare(url: str) -> tuple[float, float]:
    """Seconds in which a bare push consumer drains the last message of each subject."""
    from nats.js import api

    from attune_contract import subjects
    from attune_contract.identity import SensorRef
    from attune_kit.nats.connection import open_connection

    async with open_connection(endpoint(url, "rules.creds")) as opened:
        return await _drain(opened.client, subjects, api, SensorRef.parse(REF))


async def _drain(connection: Any, subjects: Any, api: Any, ref: Any) -> tuple[float, float]:
    done = asyncio.Event()
    received = 0

    async def count(_: Any) -> None:
        nonlocal received
        received += 1
        if received == RULES:
            done.set()

    inbox = connection.new_inbox()
    await connection.subscribe(inbox, cb=count)
    began, spent = time.perf_counter(), time.process_time()
    await connection.jetstream().add_consumer(
        subjects.RULES_STREAM,
        config=api.ConsumerConfig(
            deliver_subject=inbox,
            deliver_policy=api.DeliverPolicy.LAST_PER_SUBJECT,
            ack_policy=api.AckPolicy.NONE,
            filter_subject=subjects.rules_filter(ref),
        ),
    )
    async with asyncio.timeout(120):
        await done.wait()
    return time.perf_counter() - began, time.process_time() - spent


class Starts:
    """A handler that only counts."""

    def __init__(self) -> None:
        self.running = 0

    async def start(self, rule: Any) -> None:
        self.running += 1

    async def update(self, old: Any, new: Any) -> None:
        pass

    async def stop(self, rule: Any) -> None:
        self.running -= 1

    async def close(self) -> None:
        pass


async def sensor(url: str) -> tuple[float, float]:
    """Seconds in which the SDK has the state of every rule."""
    import structlog

    from attune_contract import subjects
    from attune_contract.identity import SensorRef
    from attune_kit.nats.connector import NatsConnector
    from attune_kit.supervisor import end
    from attune_sensor._acks import AckPublisher
    from attune_sensor._metrics import Metrics
    from attune_sensor._rule_reader import RuleReader
    from attune_sensor._rule_supervisor import RuleSupervisor
    from attune_sensor._rule_table import RuleTable

    metrics, log, table, taken = Metrics(), structlog.get_logger(), RuleTable(), asyncio.Event()
    ref = SensorRef.parse(REF)
    connector = NatsConnector(endpoint(url, "sensor.creds", name=REF, inbox_prefix=ref.inbox_prefix))
    acks = AckPublisher(connector=connector, prefix="attune.acks", instance="bench", metrics=metrics, log=log)
    supervisor = RuleSupervisor(
        handler=Starts(), acks=acks, trigger_types=["core.intervaltimer"], metrics=metrics, log=log
    )
    reader = RuleReader(
        connector=connector,
        filter_subject=subjects.rules_filter(ref),
        api_prefix=subjects.SENSOR_API if INSTALLED else subjects.PLAIN_API,
        consumer_names=subjects.consumer_names(UID) if INSTALLED else (),
        table=table,
        on_changes=supervisor.apply,
        on_snapshot=taken.set,
        metrics=metrics,
        log=log,
    )
    connecting = asyncio.create_task(connector.run())
    await connector.wait_connected()
    began, spent = time.perf_counter(), time.process_time()
    reading = asyncio.create_task(reader.run())
    async with asyncio.timeout(120):
        await taken.wait()
    seconds = time.perf_counter() - began, time.process_time() - spent
    if len(table) != RULES:
        raise RuntimeError(f"the sensor knows {len(table)} rules of {RULES}")
    await end(reading, connecting)
    return seconds


MEASURED = {"bare": bare, "sensor": sensor}


# -- the bench


@dataclass
class Times:
    """Seconds of each round, by what was measured: by the clock, and on a processor."""

    wall: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in MEASURED})
    cpu: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in MEASURED})

    async def measure(self, what: str, url: str) -> None:
        """Run one measurement in a process of its own."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, __file__, what, url, stdout=asyncio.subprocess.PIPE, env=_environment()
        )
        output, _ = await process.communicate()
        if process.returncode:
            raise RuntimeError(f"the measurement {what!r} ended with {process.returncode}")
        wall, cpu = json.loads(output.decode().splitlines()[-1])
        self.wall[what].append(wall)
        self.cpu[what].append(cpu)

    def result(self) -> dict[str, Any]:
        """The medians."""
        ratios = _ratios(self.wall["sensor"], self.wall["bare"])
        return {
            "ratio": round(statistics.median(ratios), 2),
            "ratios": [round(each, 2) for each in ratios],
            "cpu_ratio": round(statistics.median(_ratios(self.cpu["sensor"], self.cpu["bare"])), 2),
            "sensor_seconds": round(statistics.median(self.wall["sensor"]), 2),
            "reference_seconds": round(statistics.median(self.wall["bare"]), 2),
        }


def _ratios(mine: list[float], theirs: list[float]) -> list[float]:
    return sorted(one / other for one, other in zip(mine, theirs, strict=True))


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


async def run() -> dict[str, object]:
    """The result: seconds and their ratios, without and with changes before."""
    from support.quiet import quiet

    quiet()
    fresh, changed = Times(), Times()
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        servers = [prepare(Path(one)), prepare(Path(other))]
        try:
            for server in servers:
                server.start()
                await publish(place(server), range(RULES))
            for change in range(1, 11):
                await publish(place(servers[1]), range(0, RULES, RULES // (CHANGES // 10)), change=change)
            for _ in range(ROUNDS):
                for server, times in zip(servers, (fresh, changed), strict=True):
                    for what in MEASURED:
                        await times.measure(what, place(server))
        finally:
            for server in servers:
                server.stop()
    return {
        **fresh.result(),
        "at_most": 2.0,
        "after_changes": changed.result(),
        "history_ratio": round(statistics.median(_ratios(changed.wall["sensor"], fresh.wall["sensor"])), 2),
        "history_cpu_ratio": round(statistics.median(_ratios(changed.cpu["sensor"], fresh.cpu["sensor"])), 2),
        "as_installed": INSTALLED,
        "rules": RULES,
        "changes": CHANGES,
    }


def main() -> None:
    """One measurement; its seconds, by the clock and on a processor, are the last line of the output."""
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=sorted(MEASURED))
    parser.add_argument("url")
    options = parser.parse_args()
    import structlog

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    print(json.dumps(asyncio.run(MEASURED[options.what](options.url))))


if __name__ == "__main__":
    main()
