"""What a sensor must not do at NATS, tried on a real server with the operator's accounts: nothing of it leaves a trace.

Each attempt is one way to reach what belongs to others: publish, ask, listen, have an answer or a delivery sent there, change
or use up consumers, or come with credentials that are over. After each, every stream holds what it held.
"""

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import nats.errors
import pytest
from nats.js import api
from support.eventually import until
from support.nats_tenants import (
    NEAR,
    OTHER,
    REF,
    UIDS,
    Tenant,
    Tenants,
    contents,
    create_streams,
    deterministic_keys,
)

from attune_contract import actions, subjects
from attune_operator.credentials import nats_accounts, nats_jwt, nats_keys
from attune_operator.credentials.nats_permissions import (
    EVERYTHING,
    SENSOR_PAYLOAD,
    SENSOR_SUBSCRIPTIONS,
    actions_permissions,
    api_permissions,
)

pytestmark = pytest.mark.nats

STREAM = subjects.RULES_STREAM
JS = subjects.SENSOR_API
OWN = subjects.rules_filter(REF)
OWN_NAME = subjects.consumer_names(UIDS[REF])[0]
OTHERS_NAME = subjects.consumer_names(UIDS[OTHER])[0]
STREAMS = (
    subjects.RULES_STREAM,
    subjects.ACKS_STREAM,
    subjects.IDENTITIES_STREAM,
    subjects.EVENTS_STREAM,
    subjects.HISTORY_STREAM,
    actions.ACTIONS_STREAM,
    actions.RUNS_STREAM,
    actions.RUN_QUEUE_STREAM,
)
#: Where something of others is kept, or would take effect.
TARGETS = (
    subjects.rule_subject(OTHER, "uid-1"),
    subjects.rule_subject(REF, "uid-1"),
    subjects.ack_subject(OTHER, "uid-1"),
    subjects.ack_subject(NEAR, "uid-1"),
    subjects.health_subject(subjects.acks_prefix(OTHER), "pod-1"),
    subjects.identity_subject(OTHER),
    subjects.identity_subject(REF),
    subjects.event_subject("default", "uid-1"),
    subjects.history_subject("default", "rule", "uid-1"),
    actions.actions_subject("default", "uid-1"),
    "attune.runs.default.uid-1.run",
    "attune.runqueue.default.uid-1.run",
)


def config(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "deliver_policy": "last_per_subject", "ack_policy": "none", "filter_subject": OWN, **more}


def create(name: str, filter_subject: str, **more: Any) -> tuple[str, bytes]:
    """A request for a consumer: where it goes, and its body."""
    body = {"stream_name": STREAM, "config": config(name, **more), "action": "create"}
    return f"{JS}.CONSUMER.CREATE.{STREAM}.{name}.{filter_subject}", json.dumps(body).encode()


#: Refused by the server because of the subject alone.
FORBIDDEN = [
    *TARGETS[:4],
    *TARGETS[5:],
    *(f"{prefix}.STREAM.{call}.{stream}" for prefix in ("$JS.API", JS, subjects.RULES_API) for stream in STREAMS
      for call in ("INFO", "PURGE", "DELETE", "MSG.GET")),
    *(f"{prefix}.{call}" for prefix in ("$JS.API", JS, subjects.RULES_API)
      for call in ("INFO", "STREAM.NAMES", "STREAM.LIST", "STREAM.CREATE.MINE", f"CONSUMER.NAMES.{STREAM}",
                   f"CONSUMER.LIST.{STREAM}", f"STREAM.SNAPSHOT.{STREAM}", f"DIRECT.GET.{STREAM}",
                   f"DIRECT.GET.{STREAM}.{subjects.rule_subject(OTHER, 'uid-1')}",
                   f"CONSUMER.DURABLE.CREATE.{STREAM}.{OWN_NAME}", f"CONSUMER.INFO.{STREAM}.{OTHERS_NAME}",
                   f"CONSUMER.DELETE.{STREAM}.{OTHERS_NAME}", f"CONSUMER.MSG.NEXT.{STREAM}.{OTHERS_NAME}",
                   f"CONSUMER.PAUSE.{STREAM}.{OTHERS_NAME}", f"CONSUMER.LEADER.STEPDOWN.{STREAM}.{OTHERS_NAME}")),
    *(create(name, wanted)[0] for name, wanted in (
        (OTHERS_NAME, subjects.rules_filter(OTHER)), (OTHERS_NAME, OWN), (OWN_NAME, subjects.rules_filter(OTHER)),
        (OWN_NAME, subjects.rules_filter(NEAR)), (OWN_NAME, "attune.rules.>"), (OWN_NAME, ">"), ("of-my-own", OWN),
        (f"{UIDS[REF]}-99", OWN))),
    *(f"{prefix}.{call}.{actions.ACTIONS_STREAM}{more}" for prefix in ("$JS.API", JS, subjects.RULES_API)
      for call, more in (("DIRECT.GET", ""), ("DIRECT.GET", f".{actions.actions_subject('default', 'uid-1')}"),
                         ("CONSUMER.CREATE", f".{OWN_NAME}.{actions.ALL_ACTIONS}"), ("CONSUMER.MSG.NEXT", f".{OWN_NAME}"))),
    f"$JS.ACK.{subjects.EVENTS_STREAM}.{actions.EVENTS_CONSUMER}.1.1.1.1.1",
    f"{JS}.CONSUMER.CREATE.{STREAM}",
    f"{JS}.CONSUMER.CREATE.{STREAM}.{OWN_NAME}",
    # Whole streams, by every way there is: made of others', changed, restored, taken from their leader.
    *(f"{prefix}.{call}" for prefix in ("$JS.API", JS, subjects.RULES_API)
      for call in (f"STREAM.UPDATE.{STREAM}", f"STREAM.CREATE.{subjects.ACKS_STREAM}", f"STREAM.RESTORE.{STREAM}",
                   f"STREAM.PEER.REMOVE.{STREAM}", f"STREAM.LEADER.STEPDOWN.{STREAM}", f"STREAM.MSG.DELETE.{STREAM}",
                   f"CONSUMER.RESET.{STREAM}.{OTHERS_NAME}", f"CONSUMER.UNPIN.{STREAM}.{OTHERS_NAME}",
                   f"CONSUMER.INFO.{STREAM}.{OWN_NAME}", f"CONSUMER.PAUSE.{STREAM}.{OWN_NAME}", "META.LEADER.STEPDOWN",
                   "SERVER.REMOVE", "ACCOUNT.PURGE.attune", "STREAM.TEMPLATE.CREATE.mine")),
    # The server's own: what it sends between its parts, to other servers and for other protocols.
    "$SYS.REQ.ACCOUNT.PING", "$SYS.REQ.ACCOUNT.attune.CLAIMS.UPDATE", "$SYS.REQ.SERVER.PING.KICK", "$SYS.REQ.USER.INFO",
    "$SYS.REQ.SERVER.x.RELOAD", "$SYS.ACCOUNT.x.DISCONNECT", "$SYS.SERVER.x.SHUTDOWN", "$SYS._INBOX.x",
    "$JSC.R.x", "$JSC.CI.x.y.z", "$NRG.V.x", "$NRG.AE.x", "$LDS.x", "$GR.x", "_GR_.x.y", "$MQTT.msgs.x", "$MQTT.sub.x",
    "$O.x.C.y", "$SRV.PING", "$JS.SNAPSHOT.ACK.x.y", f"$JS.EVENT.ADVISORY.STREAM.DELETED.{STREAM}",
    "$JS.EVENT.METRIC.CONSUMER.ACK.x.y", f"$JS.ACK.{STREAM}.{OWN_NAME}.1.1.1.1.1",
    # Next to what it may: other letters, more or fewer tokens, wildcards.
    "attune.acks.attune-system.core_timer", "attune.acks.attune-system.CORE_TIMER.uid-1", "attune.acks.*.core_timer.uid-1",
    "ATTUNE.ACKS.attune-system.core_timer.uid-1", "attune.acks.attune-system.core.timer.uid-1", "attune.acks.>",
    "attune.acks.default.core_timer.uid-1", f"{JS}.CONSUMER.MSG.NEXT.{STREAM}.*", f"{JS}.CONSUMER.DELETE.{STREAM}.*",
    f"{JS}.CONSUMER.MSG.NEXT.*.{OWN_NAME}", f"{JS}.CONSUMER.MSG.NEXT.{subjects.ACKS_STREAM}.{OWN_NAME}",
    f"{JS}.CONSUMER.CREATE.{subjects.EVENTS_STREAM}.{OWN_NAME}.{OWN}",
    "$SYS.REQ.SERVER.PING", "$SYS.REQ.CLAIMS.UPDATE", "$SYS.REQ.CLAIMS.DELETE", "$SYS.REQ.CLAIMS.LIST",
    f"$JS.ACK.{STREAM}.{OTHERS_NAME}.1.1.1.1.1", f"$JS.FC.{STREAM}.{OTHERS_NAME}.x", f"_INBOX_{OTHER.token}.x",
    f"{OTHER.inbox_prefix}.x.y", "_INBOX.x.y", "_R_.x", "$KV.x.y", "anything",
]  # fmt: skip

LISTENING = [
    ">", "*", "$JS.>", "$SYS.>", "attune.>", "attune.rules.>", OWN, subjects.rules_filter(OTHER), "attune.acks.>",
    subjects.ack_subject(OTHER, "*"), subjects.ALL_EVENTS, subjects.ALL_IDENTITIES, subjects.ALL_HISTORY, "_INBOX.>", "_R_.>",
    actions.ALL_ACTIONS, actions.ALL_RUNS, actions.ALL_QUEUED_RUNS, f"$JS.API.DIRECT.GET.{actions.ACTIONS_STREAM}.>",
    f"{OTHER.inbox_prefix}.>", f"{NEAR.inbox_prefix}.>", "$JS.EVENT.>", f"{JS}.>", "$JS.API.>", "_INBOX_x.>",
    # Standing in the way of others' requests and acks, which are imported into this account too.
    f"{JS}.CONSUMER.MSG.NEXT.{STREAM}.{OTHERS_NAME}", f"{JS}.CONSUMER.CREATE.>", subjects.ack_subject(REF, "*"),
    "*.*.*.*.*", "attune.*.>", "attune.*.*.core_other.>", "$SRV.>", "$SYS.ACCOUNT.>", "$SYS.REQ.>", "$MQTT.>", "$NRG.>", "$JSC.>",
    "$GR.>", "_GR_.>", f"{subjects.RULES_API}.>", f"{subjects.RULES_API}.JS.EVENT.ADVISORY.>", REF.inbox_prefix,
    f"{OTHER.inbox_prefix}.*", "attune.trace.>", "attune.runs.>",
]  # fmt: skip

#: Allowed subjects, each asked with an answer that is to be sent to somebody else's.
ANSWERS = list(
    itertools.product(
        (
            (subjects.ack_subject(REF, "uid-1"), b"{}"),
            create(OWN_NAME, OWN),
            (f"{JS}.CONSUMER.MSG.NEXT.{STREAM}.{OWN_NAME}", b'{"batch": 10}'),
            (f"{JS}.CONSUMER.DELETE.{STREAM}.{OWN_NAME}", b""),
        ),
        (
            *TARGETS,
            f"$JS.API.STREAM.PURGE.{STREAM}",
            f"$JS.API.STREAM.DELETE.{subjects.IDENTITIES_STREAM}",
            f"{subjects.RULES_API}.STREAM.PURGE.{STREAM}",
            f"{JS}.CONSUMER.DELETE.{STREAM}.{OTHERS_NAME}",
            "$SYS.REQ.SERVER.PING",
        ),
    )
)

#: Bodies of a request whose subject is allowed.
BODIES: list[dict[str, Any]] = [
    {"filter_subject": subjects.rules_filter(OTHER)},
    {"filter_subject": "attune.rules.>"},
    {"filter_subject": ""},
    {"filter_subject": None, "filter_subjects": ["attune.rules.>"]},
    {"filter_subject": None, "filter_subjects": [OWN, subjects.rules_filter(OTHER)]},
    {"name": OTHERS_NAME},
    {"durable_name": OTHERS_NAME},
    {"durable_name": OWN_NAME, "inactive_threshold": int(30 * 24 * 3600 * 1e9)},
    {"inactive_threshold": int(3600 * 1e9)},
    *({"deliver_subject": target} for target in TARGETS),
    {"deliver_subject": f"$JS.API.STREAM.PURGE.{STREAM}"},
    {"deliver_subject": f"$JS.API.STREAM.DELETE.{STREAM}"},
    {"deliver_subject": f"$JS.API.CONSUMER.DELETE.{STREAM}.{OTHERS_NAME}"},
    {"deliver_subject": f"{JS}.CONSUMER.DELETE.{STREAM}.{OTHERS_NAME}"},
    {"deliver_subject": f"{OTHER.inbox_prefix}.x.y"},
    {"deliver_subject": "_INBOX.x.y"},
    {"deliver_subject": "$SYS.REQ.SERVER.PING"},
    {"deliver_subject": f"{OTHER.inbox_prefix}.x.y", "flow_control": True, "idle_heartbeat": int(1e9)},
    {"deliver_subject": subjects.rule_subject(OTHER, "uid-1"), "deliver_group": "operator"},
    {"ack_policy": "explicit", "sample_freq": "100%"},
    {"ack_policy": "all", "max_ack_pending": 10**9},
    {"inactive_threshold": -1},
    {"filter_subject": f"{OWN}.>"},
    {"filter_subject": OWN.replace("core_timer", "*")},
]

#: Bodies around the configuration: another stream, another action, fields twice or in other letters.
WHOLE_BODIES: list[bytes] = [
    json.dumps({"stream_name": other, "config": config(OWN_NAME), "action": "create"}).encode()
    for other in (subjects.ACKS_STREAM, subjects.IDENTITIES_STREAM, subjects.EVENTS_STREAM, "*", "")
] + [
    json.dumps({"stream_name": STREAM, "config": config(OTHERS_NAME), "action": "update"}).encode(),
    json.dumps({"stream_name": STREAM, "config": config(OWN_NAME, filter_subject=">"), "action": "update"}).encode(),
    json.dumps({"STREAM_NAME": subjects.EVENTS_STREAM, "stream_name": STREAM, "config": config(OTHERS_NAME)}).encode(),
    json.dumps({"stream_name": STREAM, "config": config(OWN_NAME), "pedantic": True, "action": "purge"}).encode(),
    b'{"stream_name": "%s", "config": {"name": "%s", "filter_subject": "%s", "filter_subject": ">", "Filter_Subject": ">"}}'
    % (STREAM.encode(), OWN_NAME.encode(), OWN.encode()),
    b'{"stream_name": "%s", "config": {"name": "%s", "name": "%s", "filter_subject": "%s"}}'
    % (STREAM.encode(), OWN_NAME.encode(), OTHERS_NAME.encode(), OWN.encode()),
    b"[" * 20_000,
    b'{"config": ' * 5000,
    b"",
]

HEADERS: list[dict[str, str]] = [
    {"Nats-Rollup": "all"},
    {"Nats-Rollup": "sub"},
    {"Nats-TTL": "1s"},
    {"Nats-Schedule": "@every 1s", "Nats-Schedule-Target": subjects.ack_subject(OTHER, "uid-1")},
    {"Nats-Incr": "+1"},
    {"Nats-Batch-Id": "b", "Nats-Batch-Sequence": "1", "Nats-Batch-Commit": "1"},
    {"Nats-Expected-Stream": subjects.IDENTITIES_STREAM},
    {"Nats-Expected-Last-Sequence": "0"},
    {
        "Nats-Expected-Last-Subject-Sequence": "1",
        "Nats-Expected-Last-Subject-Sequence-Subject": subjects.ack_subject(OTHER, "*"),
    },
    {"Nats-Expected-Last-Msg-Id": "of another"},
    {"Nats-Msg-Id": "uid-1"},
    {"Nats-Rollup": "all", "Nats-Expected-Last-Sequence": "0"},
    {"Nats-Marker-Reason": "Purge"},
    {"Nats-Marker-Reason": "MaxAge", "Nats-TTL": "never"},
    {"Nats-Schedule": "@at 2026-01-01T00:00:00Z", "Nats-Schedule-Target": subjects.rule_subject(OTHER, "uid-1")},
    {"Nats-Schedule": "@every 1s", "Nats-Schedule-Source": subjects.identity_subject(OTHER)},
    {"Nats-Stream-Source": f"{STREAM} 1"},
    {"Nats-Subject": subjects.ack_subject(OTHER, "uid-1"), "Nats-Stream": STREAM, "Nats-Sequence": "1"},
    {"Nats-Required-Api-Level": "99"},
    {"Nats-Request-Info": '{"acc": "attune"}'},
    {"Nats-Batch-Id": "b", "Nats-Batch-Sequence": "2", "Nats-Batch-Commit": "eob"},
    {"Status": "503", "Description": "no responders"},
]

#: Where the server is asked to report the way of a message (its tracing): it must be the sensor's to write.
TRACES = [
    *TARGETS,
    f"{OTHER.inbox_prefix}.x",
    f"{JS}.CONSUMER.DELETE.{STREAM}.{OTHERS_NAME}",
    "$SYS.REQ.SERVER.PING",
    ">",
]

#: Lines of the protocols of routes, gateways and leaf nodes, and of other programs, where a client's are expected.
LINES = [
    b"RS+ attune attune.>",
    b"RS- attune attune.>",
    b"A+ attune",
    b"A- attune",
    b"LS+ attune.>",
    b"RMSG attune attune.x 2\r\n{}",
    b"LMSG attune.x 2\r\n{}",
    b"HMSG attune.x 1 2 2\r\n{}",
    b"MSG attune.x 1 2\r\n{}",
    b"GET / HTTP/1.1\r\nHost: x\r\n",
    b"\x16\x03\x01\x02\x00\x01",
    b"\x10\x10\x00\x04MQTT\x05\x02\x00\x3c\x00\x00",
    b"SUB attune.> 1 2 3 4",
    b'INFO {"server_id": "x", "cluster": "attune"}',
    b'CONNECT {"user": "attune", "pass": "attune", "verbose": true}',
]


@pytest.fixture(scope="module")
def tenants(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tenants]:
    started = Tenants.start(tmp_path_factory.mktemp("nats"))
    asyncio.run(_prepare(started))
    yield started
    started.server.stop()


async def _prepare(tenants: Tenants) -> None:
    async with tenants.connected(tenants.service()) as client:
        await create_streams(client)


@pytest.fixture
async def operator(tenants: Tenants) -> AsyncIterator[Tenant]:
    async with tenants.connected(tenants.service()) as client:
        yield client


@pytest.fixture
async def sensor(tenants: Tenants) -> AsyncIterator[Tenant]:
    async with tenants.connected(tenants.sensor(REF), inbox=REF.inbox_prefix) as client:
        yield client


@pytest.fixture
async def victim(tenants: Tenants) -> AsyncIterator[Tenant]:
    """The other sensor, with a consumer of its own."""
    async with tenants.connected(tenants.sensor(OTHER), inbox=OTHER.inbox_prefix) as client:
        subject = f"{JS}.CONSUMER.CREATE.{STREAM}.{OTHERS_NAME}.{subjects.rules_filter(OTHER)}"
        body = {"stream_name": STREAM, "config": config(OTHERS_NAME, filter_subject=subjects.rules_filter(OTHER))}
        await client.request(subject, json.dumps(body).encode(), timeout=30)
        yield client
        await client.request(f"{JS}.CONSUMER.DELETE.{STREAM}.{OTHERS_NAME}", b"", timeout=30)


async def test_a_sensor_reads_its_own_rules(sensor: Tenant) -> None:
    inbox = sensor.new_inbox()
    subscription = await sensor.subscribe(inbox)
    answer = json.loads((await sensor.request(*create(OWN_NAME, OWN), timeout=30)).data)
    assert answer["num_pending"] == 1, answer
    await sensor.publish(f"{JS}.CONSUMER.MSG.NEXT.{STREAM}.{OWN_NAME}", b'{"batch": 1}', reply=inbox)
    message = await subscription.next_msg(timeout=30)
    assert message.data.decode() == str(REF)
    answer = json.loads((await sensor.request(f"{JS}.CONSUMER.DELETE.{STREAM}.{OWN_NAME}", b"", timeout=30)).data)
    assert answer["success"]
    assert sensor.refused == []


async def test_a_sensor_writes_its_own_acks(sensor: Tenant, operator: Tenant) -> None:
    stored = json.loads((await sensor.request(subjects.ack_subject(REF, "uid-2"), b"{}", timeout=30)).data)
    assert stored["stream"] == subjects.ACKS_STREAM
    await operator.jetstream(timeout=60).purge_stream(subjects.ACKS_STREAM, subject=subjects.ack_subject(REF, "uid-2"))


LISTS = (FORBIDDEN, LISTENING, ANSWERS, BODIES, WHOLE_BODIES, HEADERS, TRACES, LINES)


def test_there_are_at_least_470_attempts() -> None:
    assert sum(len(attempts) for attempts in LISTS) >= 470


@pytest.mark.parametrize("subject", FORBIDDEN)
async def test_a_sensor_publishes_nothing_else(sensor: Tenant, operator: Tenant, subject: str) -> None:
    before = await contents(operator)
    await sensor.publish(subject, b"{}", reply=sensor.new_inbox())
    await sensor.flush()
    await until(lambda: any("permissions violation for publish" in text for text in sensor.refused))
    assert await contents(operator) == before


@pytest.mark.parametrize("subject", LISTENING)
async def test_a_sensor_hears_nothing_else(sensor: Tenant, subject: str) -> None:
    await sensor.subscribe(subject)
    await sensor.flush()
    await until(lambda: any("permissions violation for subscription" in text for text in sensor.refused))


@pytest.mark.parametrize(
    ("request_", "reply"), ANSWERS, ids=lambda value: value if isinstance(value, str) else value[0]
)
async def test_no_answer_can_be_sent_elsewhere(
    tenants: Tenants, sensor: Tenant, operator: Tenant, victim: Tenant, request_: tuple[str, bytes], reply: str
) -> None:
    await sensor.request(*create(OWN_NAME, OWN), timeout=30)
    own = subjects.ack_subject(REF, "uid-1")
    before = await contents(operator)
    subject, body = request_
    await sensor.publish(subject, body, reply=reply)
    await sensor.flush()
    await sensor.request(own, b"the last of this test", timeout=30)  # what was sent before has been dealt with
    after = await contents(operator)
    for name in (subjects.RULES_STREAM, *STREAMS[2:]):
        assert after[name] == before[name]
    assert after[subjects.ACKS_STREAM][1] == before[subjects.ACKS_STREAM][1]  # one message a subject, the same subjects
    word = await operator.jetstream(timeout=60).get_last_msg(subjects.ACKS_STREAM, subjects.ack_subject(OTHER, "uid-1"))
    assert word.data == b"the first ack"
    assert OTHERS_NAME in after["consumers"]
    await sensor.request(f"{JS}.CONSUMER.DELETE.{STREAM}.{OWN_NAME}", b"", timeout=30)


async def listen(victim: Tenant) -> list[str]:
    """Subjects under the other sensor's inbox, as messages come there."""
    heard: list[str] = []

    async def hear(message: Any) -> None:
        heard.append(message.subject)

    await victim.subscribe(f"{OTHER.inbox_prefix}.>", cb=hear)
    await victim.flush()
    return heard


@pytest.mark.parametrize("forged", BODIES, ids=json.dumps)
async def test_no_body_reaches_further_than_its_subject(
    sensor: Tenant, operator: Tenant, victim: Tenant, forged: dict[str, Any]
) -> None:
    heard = await listen(victim)
    before = await contents(operator)
    subject, _ = create(OWN_NAME, OWN)
    body = json.dumps({"stream_name": STREAM, "config": {**config(OWN_NAME), **forged}, "action": "create"}).encode()
    answer = json.loads((await sensor.request(subject, body, timeout=30)).data)
    if "error" not in answer:
        # It has its own consumer, and not for longer than others have theirs.
        assert "durable_name" not in forged, answer
        assert answer["name"] == OWN_NAME, answer
        assert answer["config"].get("filter_subject") == OWN, answer
        assert 0 < answer["config"]["inactive_threshold"] <= int(60e9), answer
    await sensor.request(subjects.ack_subject(REF, "uid-1"), b"the last of this test", timeout=30)
    after = await contents(operator)
    assert {name: after[name] for name in STREAMS if name != subjects.ACKS_STREAM} == {
        name: before[name] for name in STREAMS if name != subjects.ACKS_STREAM
    }
    assert after[subjects.ACKS_STREAM][1] == before[subjects.ACKS_STREAM][1]
    assert OTHERS_NAME in after["consumers"]
    assert heard == []
    await sensor.request(f"{JS}.CONSUMER.DELETE.{STREAM}.{OWN_NAME}", b"", timeout=30)


@pytest.mark.parametrize("headers", HEADERS, ids=json.dumps)
async def test_headers_of_an_ack_reach_no_further_than_the_ack(
    sensor: Tenant, operator: Tenant, headers: dict[str, str]
) -> None:
    before = await contents(operator)
    await sensor.publish(subjects.ack_subject(REF, "uid-1"), b"{}", headers=headers)
    await sensor.request(subjects.ack_subject(REF, "uid-1"), b"the last of this test", timeout=30)
    after = await contents(operator)
    assert after[subjects.ACKS_STREAM][1] == before[subjects.ACKS_STREAM][1]
    assert {name: after[name] for name in STREAMS[2:]} == {name: before[name] for name in STREAMS[2:]}


@pytest.mark.parametrize("body", WHOLE_BODIES, ids=lambda body: body[:100])
async def test_no_body_of_another_kind_reaches_further_either(
    sensor: Tenant, operator: Tenant, victim: Tenant, body: bytes
) -> None:
    before = await contents(operator)
    answer = json.loads((await sensor.request(create(OWN_NAME, OWN)[0], body, timeout=30)).data)
    if "error" not in answer:
        assert (answer["stream_name"], answer["name"], answer["config"]["filter_subject"]) == (STREAM, OWN_NAME, OWN)
    after = await contents(operator)
    mine = {OWN_NAME} if "error" not in answer else set()
    assert set(after.pop("consumers")) == {*before.pop("consumers"), *mine}
    assert after == before
    await sensor.request(f"{JS}.CONSUMER.DELETE.{STREAM}.{OWN_NAME}", b"", timeout=30)


@pytest.mark.parametrize("target", TRACES)
async def test_what_the_server_tells_of_a_message_s_way_goes_to_nobody_else(
    sensor: Tenant, operator: Tenant, victim: Tenant, target: str
) -> None:
    heard = await listen(victim)
    before = await contents(operator)
    own = subjects.ack_subject(REF, "uid-1")
    for more in ({}, {"Nats-Trace-Only": "true"}, {"traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01"}):
        await sensor.publish(own, b"{}", headers={"Nats-Trace-Dest": target, **more})
    await sensor.request(own, b"the last of this test", timeout=30)
    await victim.flush()
    after = await contents(operator)
    assert {name: after[name] for name in STREAMS if name != subjects.ACKS_STREAM} == {
        name: before[name] for name in STREAMS if name != subjects.ACKS_STREAM
    }
    assert after[subjects.ACKS_STREAM][1] == before[subjects.ACKS_STREAM][1]
    assert OTHERS_NAME in after["consumers"]
    assert heard == []


@pytest.mark.parametrize("line", LINES)
async def test_no_other_protocol_is_spoken_on_the_port(tenants: Tenants, operator: Tenant, line: bytes) -> None:
    """Neither before credentials nor after them; the connection ends."""
    before = await contents(operator)
    address = urlsplit(tenants.server.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    await reader.readline()  # what the server says of itself
    writer.write(line + b"\r\nPING\r\n")
    said = await asyncio.wait_for(reader.read(), 60)
    writer.close()
    assert b"PONG" not in said
    async with tenants.connected(tenants.sensor(REF), inbox=REF.inbox_prefix) as client:
        await client._send_command(line + b"\r\n")
        # Or it is passed over, and nothing is allowed by it.
        await client._send_command(b"SUB attune.rules.> 77\r\nPING\r\n")
        await until(lambda: client.is_closed or "permissions violation for subscription" in "".join(client.refused))
    assert await contents(operator) == before


async def test_the_id_of_a_message_takes_nobody_s_place(sensor: Tenant, victim: Tenant, operator: Tenant) -> None:
    """JetStream drops a message whose id it has seen, of whomever it was; and it keeps ids in memory, however many."""
    info = await operator.jetstream(timeout=60).stream_info(subjects.ACKS_STREAM)
    assert info.config.duplicate_window <= 0.1

    await sensor.request(subjects.ack_subject(REF, "uid-1"), b"{}", headers={"Nats-Msg-Id": "1"}, timeout=30)

    async def stored() -> bool:
        answer = await victim.request(
            subjects.ack_subject(OTHER, "uid-1"), b"the first ack", headers={"Nats-Msg-Id": "1"}, timeout=30
        )
        return not json.loads(answer.data).get("duplicate")

    await until(stored, every=0.2)


async def test_a_sensor_has_few_subscriptions(sensor: Tenant) -> None:
    for _ in range(SENSOR_SUBSCRIPTIONS + 10):
        await sensor.subscribe(sensor.new_inbox())
    await until(lambda: any("maximum subscriptions exceeded" in text for text in sensor.refused) or sensor.is_closed)


async def test_a_sensor_sends_no_large_messages(sensor: Tenant) -> None:
    line = f"PUB {subjects.ack_subject(REF, 'uid-1')} {SENSOR_PAYLOAD + 1}\r\n".encode()
    await sensor._send_command(line)
    await until(lambda: any("maximum payload violation" in text for text in sensor.refused) or sensor.is_closed)


async def test_sensors_leave_connections_to_the_others(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nats_accounts, "SENSOR_CONNECTIONS", 3)
    tenants = Tenants.start(tmp_path)
    try:
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(3):
                await stack.enter_async_context(tenants.connected(tenants.sensor(REF), inbox=REF.inbox_prefix))
            with pytest.raises(nats.errors.Error, match=r"(?i)maximum account active connections"):
                await stack.enter_async_context(tenants.connected(tenants.sensor(REF), inbox=REF.inbox_prefix))
            operator = await stack.enter_async_context(tenants.connected(tenants.service()))
            assert operator.is_connected
    finally:
        tenants.server.stop()


async def test_an_ack_has_a_bounded_size(sensor: Tenant) -> None:
    answer = json.loads((await sensor.request(subjects.ack_subject(REF, "u"), bytes(20_000), timeout=30)).data)
    assert "size" in answer["error"]["description"]


async def test_one_sensor_cannot_use_up_the_consumers(sensor: Tenant, operator: Tenant, victim: Tenant) -> None:
    """It asks for far more than it may have; the others, the operator and the API get theirs."""
    for number in range(300):
        name = f"{UIDS[REF]}-{number}"
        await sensor.publish(*create(name, OWN, durable_name=name), reply=sensor.new_inbox())
    await sensor.request(subjects.ack_subject(REF, "uid-1"), b"the last of this test", timeout=30)
    mine = [name for name in (await contents(operator))["consumers"] if name.startswith(UIDS[REF])]
    assert len(mine) == len(subjects.consumer_names(UIDS[REF])) == 24
    answer = await victim.request(
        f"{JS}.CONSUMER.CREATE.{STREAM}.{UIDS[OTHER]}-1.{subjects.rules_filter(OTHER)}",
        json.dumps(
            {"stream_name": STREAM, "config": config(f"{UIDS[OTHER]}-1", filter_subject=subjects.rules_filter(OTHER))}
        ).encode(),
        timeout=30,
    )
    assert "error" not in json.loads(answer.data)
    for name in subjects.consumer_names(UIDS[REF]):
        await sensor.request(f"{JS}.CONSUMER.DELETE.{STREAM}.{name}", b"", timeout=30)


class TestCredentials:
    """Those that nobody should get in with. Each test has a server of its own, since it changes the accounts."""

    @pytest.fixture
    async def tenants(self, tmp_path: Any) -> AsyncIterator[Tenants]:
        started = Tenants.start(tmp_path)
        yield started
        started.server.stop()

    async def refused(self, tenants: Tenants, creds: str | None, *, inbox: str = "_INBOX") -> bool:
        try:
            async with tenants.connected(creds, inbox=inbox):
                return False
        except nats.errors.Error as error:
            return "authorization violation" in str(error).lower()

    async def test_none(self, tenants: Tenants) -> None:
        assert await self.refused(tenants, None)

    async def test_of_keys_that_the_server_does_not_know(self, tenants: Tenants) -> None:
        keys = nats_keys.make_keys(now=tenants.keys.created, new_seed=lambda: b"z" * 32)
        stranger = Tenants(tenants.server, keys)
        assert await self.refused(stranger, stranger.service())
        assert await self.refused(stranger, stranger.sensor(REF))

    @pytest.mark.parametrize("account", ["account", "rules", "system", "sensors"])
    async def test_signed_by_the_key_of_another_account(self, tenants: Tenants, account: str) -> None:
        """A sensor's signing key signs no user of another account, and the services' none of the sensors'."""
        keys = deterministic_keys()
        signing = keys.signing if account == "sensors" else keys.sensors_signing
        forged = nats_jwt.user_creds(
            user_seed=nats_jwt.make_seed("user", b"x" * 32),
            signing_seed=signing,
            account=nats_jwt.public_of(getattr(keys, account)),
            name="service:attune-operator",
            subject="",
            permissions=EVERYTHING,
            issued_at=datetime.now(UTC),
            expires_at=None,
        )
        assert await self.refused(tenants, forged)

    async def test_a_sensors_seed_with_the_jwt_of_another(self, tenants: Tenants) -> None:
        mine, theirs = tenants.sensor(REF), tenants.sensor(OTHER)
        parts = [text.partition("-----BEGIN USER NKEY SEED") for text in (theirs, mine)]
        mixed = parts[0][0] + parts[1][1] + parts[1][2]
        assert await self.refused(tenants, mixed)

    @pytest.mark.alone
    async def test_revoked_ones_are_out_within_two_seconds_and_renewed_ones_are_not(self, tenants: Tenants) -> None:
        issued = datetime.now(UTC) - timedelta(seconds=10)
        old = tenants.sensor(REF, issued_at=issued)
        async with (
            tenants.connected(old, inbox=REF.inbox_prefix) as client,
            tenants.connected(tenants.sensor(OTHER), inbox=OTHER.inbox_prefix) as bystander,
        ):
            await tenants.revoke({UIDS[REF]: int(issued.timestamp())})
            await until(lambda: client.is_closed, within=2)
            assert bystander.is_connected
        assert await self.refused(tenants, old, inbox=REF.inbox_prefix)
        async with tenants.connected(tenants.sensor(REF), inbox=REF.inbox_prefix) as renewed:
            assert renewed.is_connected

    async def test_those_of_a_deleted_sensor_do_not_open_the_one_that_was_created_again(self, tenants: Tenants) -> None:
        old = tenants.sensor(REF, uid="uid-before")
        await tenants.revoke({"uid-before": int(datetime.now(UTC).timestamp()) + 3600})
        assert await self.refused(tenants, old, inbox=REF.inbox_prefix)
        async with tenants.connected(tenants.sensor(REF, uid="uid-after"), inbox=REF.inbox_prefix) as client:
            assert client.is_connected

    async def test_a_revocation_outlives_a_restart_of_the_server(self, tenants: Tenants) -> None:
        issued = datetime.now(UTC) - timedelta(seconds=10)
        old = tenants.sensor(REF, issued_at=issued)
        await tenants.revoke({UIDS[REF]: int(issued.timestamp())})
        await asyncio.to_thread(tenants.server.restart)
        assert await self.refused(tenants, old, inbox=REF.inbox_prefix)

    async def test_expired_ones_end_a_connection_that_stands(self, tenants: Tenants) -> None:
        text = tenants.sensor(REF, seconds=2)
        async with tenants.connected(text, inbox=REF.inbox_prefix) as client:
            await until(lambda: client.is_closed, within=10)
        # The server counts whole seconds: in the one in which they end it still lets one in.
        await until(lambda: self.refused(tenants, text, inbox=REF.inbox_prefix), within=5)

    async def test_of_a_sensor_fit_into_a_line_of_the_protocol(self, tenants: Tenants) -> None:
        async with tenants.connected(tenants.sensor(REF), inbox=REF.inbox_prefix) as client:
            assert client.is_connected


async def test_the_api_keeps_events_and_reads_what_others_say_but_writes_none_of_it(
    tenants: Tenants, operator: Tenant
) -> None:
    async with tenants.connected(tenants.service(permissions=api_permissions())) as client:
        jetstream, rules = client.jetstream(timeout=30), client.jetstream(prefix=subjects.RULES_API, timeout=30)
        await jetstream.publish(subjects.event_subject("default", "uid-1"), b"{}")
        for context, stream in ((rules, STREAM), *((jetstream, each) for each in STREAMS[1:7])):
            assert (await context.stream_info(stream)).config.name == stream
        assert (await rules.get_last_msg(STREAM, subjects.rule_subject(REF, "uid-1"))).data == str(REF).encode()
        assert client.refused == []
        before = await contents(operator)
        refused = (
            subjects.rule_subject(REF, "u"),
            subjects.identity_subject(REF),
            subjects.ack_subject(REF, "u"),
            f"$JS.API.STREAM.DELETE.{subjects.ACKS_STREAM}",
            f"{subjects.RULES_API}.STREAM.DELETE.{STREAM}",
        )
        for subject in refused:
            await client.publish(subject, b"", reply=client.new_inbox())
        await client.flush()
        await until(lambda: len(client.refused) == len(refused))
        assert await contents(operator) == before
        await operator.jetstream(timeout=60).purge_stream(subjects.EVENTS_STREAM)


async def take(client: Tenant, stream: str, consumer: str, subject: str) -> bytes:
    """The next message by a durable consumer, which is acknowledged."""
    jetstream = client.jetstream(timeout=60)
    await jetstream.add_consumer(
        stream, api.ConsumerConfig(durable_name=consumer, filter_subject=subject, ack_policy=api.AckPolicy.EXPLICIT)
    )
    subscription = await jetstream.pull_subscribe_bind(consumer, stream=stream)
    [message] = await subscription.fetch(1, timeout=60)
    await message.ack_sync(timeout=60)
    return bytes(message.data)


async def test_the_runner_of_actions_does_its_work_and_nothing_else(tenants: Tenants, operator: Tenant) -> None:
    await operator.jetstream(timeout=60).publish(subjects.event_subject("default", "uid-1"), b"event")
    async with tenants.connected(tenants.service(permissions=actions_permissions())) as client:
        jetstream = client.jetstream(timeout=60)
        events, queue = subjects.EVENTS_STREAM, actions.RUN_QUEUE_STREAM
        assert await take(client, events, actions.EVENTS_CONSUMER, subjects.ALL_EVENTS) == b"event"
        await jetstream.publish("attune.runs.default.uid-1.run-1", b"report")
        await jetstream.publish("attune.runqueue.default.uid-1.run-1", b"queued")
        await jetstream.publish("attune.runqueue.default.uid-1.run-2", b"another")
        assert await take(client, queue, actions.QUEUE_CONSUMER, actions.ALL_QUEUED_RUNS) == b"queued"
        assert await jetstream.delete_msg(queue, (await jetstream.stream_info(queue)).state.last_seq)
        # What Rules with order: Strict need: the next event of a Rule, and their turn.
        subject, turn = subjects.event_subject("default", "uid-1"), "attune.runqueue.default.uid-1.turn"
        assert (await jetstream.get_msg(events, seq=1, subject=subject, direct=True, next=True)).data == b"event"
        await jetstream.publish(turn, b"turn", headers={"Nats-Expected-Last-Subject-Sequence": "0"})
        assert (await jetstream.get_last_msg(queue, turn)).data == b"turn"
        word = await jetstream.get_last_msg(
            actions.ACTIONS_STREAM, actions.actions_subject("default", "uid-1"), direct=True
        )
        assert word.data == b"urls and templates"
        for stream in (actions.RUNS_STREAM, queue):
            await jetstream.update_stream((await jetstream.stream_info(stream)).config)
        assert client.refused == []
        before = await contents(operator)
        refused = (
            subjects.rule_subject(REF, "u"),
            subjects.identity_subject(REF),
            subjects.ack_subject(REF, "u"),
            subjects.event_subject("default", "uid-1"),
            actions.actions_subject("default", "uid-1"),
            f"$JS.API.STREAM.INFO.{subjects.IDENTITIES_STREAM}",
            f"$JS.API.STREAM.PURGE.{actions.RUNS_STREAM}",
            f"$JS.API.STREAM.DELETE.{actions.ACTIONS_STREAM}",
            f"$JS.API.STREAM.UPDATE.{events}",
            f"$JS.API.CONSUMER.CREATE.{events}.another.{subjects.ALL_EVENTS}",
            f"$JS.API.CONSUMER.DELETE.{events}.{actions.EVENTS_CONSUMER}",
            f"$JS.API.CONSUMER.MSG.NEXT.{actions.RUNS_STREAM}.{actions.REPORTS_CONSUMER}",
            f"{subjects.RULES_API}.STREAM.INFO.{STREAM}",
            "$SYS.REQ.CLAIMS.UPDATE",
        )
        for subject in refused:
            await client.publish(subject, b"", reply=client.new_inbox())
        await client.flush()
        await until(lambda: len(client.refused) == len(refused))
        assert await contents(operator) == before
    async with tenants.connected(tenants.service(permissions=api_permissions())) as client:
        # The API stores what was reported, and has runs tried again.
        assert await take(client, actions.RUNS_STREAM, actions.REPORTS_CONSUMER, actions.ALL_RUNS) == b"report"
        await client.jetstream(timeout=60).publish("attune.runqueue.default.uid-1.run-3", b"by hand")
        word = await client.jetstream(timeout=60).get_last_msg(
            actions.ACTIONS_STREAM, actions.actions_subject("default", "uid-1")
        )
        assert word.data == b"urls and templates"
        assert client.refused == []
    for stream in (subjects.EVENTS_STREAM, actions.RUN_QUEUE_STREAM):
        await operator.jetstream(timeout=60).purge_stream(stream)
    await operator.jetstream(timeout=60).delete_consumer(subjects.EVENTS_STREAM, actions.EVENTS_CONSUMER)
