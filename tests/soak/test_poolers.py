"""Two replicas behind a real PgBouncer, which is killed, and so is the replica that publishes. It needs no cluster.

``PGBOUNCER`` names another program than Debian's.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from support import pgbouncer
from support.nats_server import NatsServer
from support.pgbouncer import PgBouncer
from support.pooler_chaos import SENDERS, Outcome, Replicas, System, go_through
from support.postgres import PostgresServer

POSTS = int(os.environ.get("SOAK_POOLER_POSTS", "600"))
KILLS = int(os.environ.get("SOAK_POOLER_KILLS", "3"))
#: Two replicas may have 24 connections each. Transactions need fewer, and must meet on the same ones.
POOL = {"session": 48, "transaction": 5}

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
        bouncer = PgBouncer(postgres, mode=mode, pool_size=POOL[mode])
        stack.callback(bouncer.remove)
        bouncer.start()
        replicas = Replicas(directory, bouncer, direct, nats)
        for api in replicas.all.values():
            stack.callback(api.stop)
        yield System(postgres, direct.rpartition("/")[2], bouncer, nats, replicas)


@pytest.mark.parametrize("mode", ["session", "transaction"])
async def test_nothing_is_lost_doubled_or_out_of_order(tmp_path: Path, mode: str) -> None:
    with running(tmp_path, mode) as system:
        for api in system.replicas.all.values():
            api.start()
        outcome = await go_through(system, posts=POSTS, pooler_kills=KILLS, leader_kills=KILLS)
        said = [len(api.events_logged("pooler_in_between")) for api in system.replicas.all.values()]
    judge(outcome)
    assert outcome.most_connections <= POOL[mode]
    assert all(said)
    _print(
        f"{mode} mode: {len(outcome.stored)} events in {outcome.seconds:.0f} s, each once in the database, the stream over "
        f"HTTP and ATTUNE_EVENTS, in order; {KILLS} kills of the pooler, {KILLS} of the replica that publishes; "
        f"{outcome.leads} times a replica began to publish, at the end {outcome.shares} of 50 events; sent again "
        f"{dict(outcome.again)}; pages {dict(outcome.reads)}; at most {outcome.most_connections} connections"
    )


def _print(text: str) -> None:
    print(f"\nPgBouncer {'.'.join(map(str, pgbouncer.version()))}, {text}", file=sys.stderr)
