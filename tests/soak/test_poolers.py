"""Two replicas behind a real PgBouncer, which is killed, and so is the replica that publishes. It needs no cluster.

What transaction mode does is not promised (docs/api.md, Poolers): it is measured, and printed.
"""

import itertools
import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from support import pgbouncer
from support.api_process import report
from support.nats_server import NatsServer
from support.pgbouncer import PgBouncer
from support.pooler_chaos import SENDERS, Outcome, Replicas, System, go_through, outbox_published
from support.postgres import PostgresServer

POSTS = int(os.environ.get("SOAK_POOLER_POSTS", "600"))
KILLS = int(os.environ.get("SOAK_POOLER_KILLS", "3"))
#: Two replicas may have 24 connections each.
POOL = 48

pytestmark = pytest.mark.skipif(pgbouncer.PROGRAM is None, reason="needs Debian's package 'pgbouncer'")


def judge(outcome: Outcome) -> None:
    """What must hold after all that."""
    ids = [each["id"] for each in outcome.stored]
    assert len(ids) == len(set(ids)), "an event is stored twice"
    assert outcome.accepted == set(ids)
    assert outcome.published == ids, "lost, doubled, or in another order"
    assert outcome.followed == [each["seq"] for each in outcome.stored]
    for sender in range(SENDERS):
        occurrences = [each["payload"]["k"] for each in outcome.stored if each["rule_name"] == f"rule-{sender}"]
        assert occurrences == list(range(len(occurrences)))
    assert sorted(outcome.shares) == [0, 50], "not one replica publishes"
    assert outcome.reads[200] > 0
    assert set(outcome.reads) <= {0, 200, 503}
    assert "500" not in outcome.again


@contextmanager
def running(directory: Path, mode: str) -> Iterator[System]:
    """The real parts; the replicas are not started yet."""
    with ExitStack() as stack:
        postgres = PostgresServer(max_connections="80")
        stack.callback(postgres.remove)
        postgres.start()
        (directory / "nats").mkdir()
        nats = NatsServer(directory / "nats")
        nats.start()
        stack.callback(nats.stop)
        direct = postgres.create_database()
        bouncer = PgBouncer(postgres, mode=mode, pool_size=POOL)
        stack.callback(bouncer.remove)
        bouncer.start()
        replicas = Replicas(directory, bouncer, direct, nats)
        for api in replicas.all.values():
            stack.callback(api.stop)
        yield System(postgres, direct.rpartition("/")[2], bouncer, nats, replicas)


async def test_session_mode(tmp_path: Path) -> None:
    with running(tmp_path, "session") as system:
        for api in system.replicas.all.values():
            api.start()
        outcome = await go_through(system, posts=POSTS, pooler_kills=KILLS, leader_kills=KILLS)
        said = [api.events_logged("pooler_not_in_session_mode") for api in system.replicas.all.values()]
    judge(outcome)
    assert outcome.most_connections <= POOL
    assert said == [[], []]
    _print(
        f"session mode: {len(outcome.stored)} events in {outcome.seconds:.0f} s, each once in the database, the stream over "
        f"HTTP and ATTUNE_EVENTS, in order; {KILLS} kills of the pooler, {KILLS} of the replica that publishes; "
        f"{outcome.leads} times a replica began to publish, at the end {outcome.shares} of 50 events; sent again "
        f"{dict(outcome.again)}; pages {dict(outcome.reads)}; at most {outcome.most_connections} connections"
    )


async def test_transaction_mode_is_told(tmp_path: Path) -> None:
    """With one replica, what is accepted is stored, and the log says what is wrong. The rest is printed."""
    with running(tmp_path, "transaction") as system:
        api = system.replicas.all["one"]
        api.start()
        posts: Counter[int] = Counter()
        pages: Counter[int] = Counter()
        accepted: set[str] = set()
        async with api.client() as sensor, api.reader() as reader:
            for k in itertools.count():
                answer = await sensor.post("/api/v1/events", json=report(k))
                posts[answer.status_code] += 1
                if answer.status_code == 201:
                    accepted.add(report(k)["id"])
                pages[(await reader.get("/api/v1/events")).status_code] += 1
                if k >= 200 and api.events_logged("pooler_not_in_session_mode"):
                    break
        assert len(api.events_logged("pooler_not_in_session_mode")) == 1
        stored = system.postgres.query("SELECT id FROM events ORDER BY seq", system.database).split()
        assert len(stored) == len(set(stored))
        assert accepted <= set(stored)
        published = await outbox_published(api)
        api.stop()
        _print(
            f"transaction mode, one replica: posts {dict(posts)}, pages {dict(pages)}, {published} of {len(stored)} stored "
            f"events published; after the replica ended its lock is held by {system.holders() or 'nobody'}"
        )


def _print(text: str) -> None:
    print(f"\nPgBouncer {'.'.join(map(str, pgbouncer.version()))}, {text}", file=sys.stderr)
