"""A NATS server with the accounts that the operator configures, its streams, and users of any kind."""

import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from nats.aio.client import Client, RawCredentials
from nats.js import api
from support.nats_server import NatsServer

from attune_contract import actions, subjects
from attune_contract.identity import SensorRef
from attune_operator.credentials import nats_jwt, nats_keys
from attune_operator.credentials.nats_accounts import account_jwts, server_config
from attune_operator.credentials.nats_jwt import Permissions
from attune_operator.credentials.nats_permissions import ACCOUNT_ADMINISTRATION, EVERYTHING, sensor_permissions
from attune_operator.streams.definitions import acks_stream, actions_stream, rules_stream

REF = SensorRef("attune-system", "core.timer")
OTHER = SensorRef("attune-system", "core.other")
#: Same subjects as REF's but for where the dots are: must not be taken for it.
NEAR = SensorRef("attune-system", "core.timer2")
UIDS = {REF: "uid-timer", OTHER: "uid-other", NEAR: "uid-timer2"}


def deterministic_keys() -> nats_keys.NatsKeys:
    """Keys that are the same each time."""
    counter = iter(range(1, 100))
    return nats_keys.make_keys(now=datetime(2026, 11, 23, tzinfo=UTC), new_seed=lambda: bytes([next(counter)]) * 32)


class Tenant(Client):  # type: ignore[misc]
    """A client that remembers what the server refused."""

    def __init__(self) -> None:
        super().__init__()
        self.refused: list[str] = []


@dataclass
class Tenants:
    """The server and its users."""

    server: NatsServer
    keys: nats_keys.NatsKeys = field(default_factory=deterministic_keys)

    @classmethod
    def start(cls, directory: Path, *, keys: nats_keys.NatsKeys | None = None, extra: str = "") -> "Tenants":
        """A server that runs."""
        keys = keys or deterministic_keys()
        server = NatsServer(directory, extra_config=server_config(keys) + extra)
        server.start()
        return cls(server, keys)

    def service(self, *, account: str = "account", permissions: Permissions = EVERYTHING) -> str:
        """Credentials of a service in one of the accounts."""
        seed = getattr(self.keys, account)
        return nats_jwt.user_creds(
            user_seed=nats_jwt.make_seed("user", bytes([200]) * 32),
            signing_seed=seed if account in ("system", "sensors") else self.keys.signing,
            account=nats_jwt.public_of(seed),
            name="service:test",
            subject="",
            permissions=permissions,
            issued_at=datetime.now(UTC),
            expires_at=None,
        )

    def sensor(
        self,
        ref: SensorRef,
        *,
        uid: str | None = None,
        issued_at: datetime | None = None,
        seconds: float = 600,
    ) -> str:
        """Credentials of a sensor as the operator issues them."""
        uid = uid or UIDS[ref]
        now = issued_at or datetime.now(UTC)
        return nats_jwt.user_creds(
            user_seed=nats_keys.sensor_seed(self.keys, uid),
            signing_seed=self.keys.sensors_signing,
            account=nats_jwt.public_of(self.keys.sensors),
            name=ref.login,
            subject=uid,
            permissions=sensor_permissions(ref, uid=uid),
            issued_at=now,
            expires_at=now + timedelta(seconds=seconds),
        )

    @contextlib.asynccontextmanager
    async def connected(self, creds: str | None, *, inbox: str = "_INBOX") -> AsyncIterator[Tenant]:
        """A client that does not reconnect."""
        client = Tenant()

        async def on_error(error: Exception) -> None:
            client.refused.append(str(error))

        options: dict[str, Any] = {"user_credentials": RawCredentials(creds)} if creds else {}
        try:
            await client.connect(
                self.server.url,
                inbox_prefix=inbox.encode(),
                allow_reconnect=False,
                error_cb=on_error,
                connect_timeout=30,
                **options,
            )
            yield client
        finally:
            await client.close()

    async def revoke(self, revoked: dict[str, int]) -> None:
        """Publish the accounts with these revocations (uid → ``iat``), as the operator does."""
        users = {nats_jwt.public_of(nats_keys.sensor_seed(self.keys, uid)): until for uid, until in revoked.items()}
        async with self.connected(self.service(account="system", permissions=ACCOUNT_ADMINISTRATION)) as client:
            for token in account_jwts(self.keys, issued_at=datetime.now(UTC), revoked=users).values():
                answer = json.loads((await client.request("$SYS.REQ.CLAIMS.UPDATE", token.encode(), timeout=30)).data)
                assert answer["data"]["code"] == 200, answer


async def create_streams(client: Client, *, patience: float = 60) -> None:
    """The streams, with a rule of each Sensor and a word of each of the others; each answer within ``patience`` seconds."""
    jetstream, rules = client.jetstream(timeout=patience), client.jetstream(prefix=subjects.RULES_API, timeout=patience)
    await rules.add_stream(rules_stream(replicas=1))
    await jetstream.add_stream(acks_stream(replicas=1))
    await jetstream.add_stream(actions_stream(replicas=1))
    for name, subject in (
        (actions.RUNS_STREAM, actions.ALL_RUNS),
        (actions.RUN_QUEUE_STREAM, actions.ALL_QUEUED_RUNS),
    ):
        queue = api.StreamConfig(name=name, subjects=[subject], retention=api.RetentionPolicy.WORK_QUEUE)
        await jetstream.add_stream(queue)
    await jetstream.publish(actions.actions_subject("default", "uid-1"), b"urls and templates")
    for name, subject in (
        (subjects.IDENTITIES_STREAM, subjects.ALL_IDENTITIES),
        (subjects.EVENTS_STREAM, subjects.ALL_EVENTS),
        (subjects.HISTORY_STREAM, subjects.ALL_HISTORY),
    ):
        stream = api.StreamConfig(name=name, subjects=[subject], max_msgs_per_subject=1, allow_direct=True)
        await jetstream.add_stream(stream)
    for ref in UIDS:
        await rules.publish(subjects.rule_subject(ref, "uid-1"), str(ref).encode())
        await jetstream.publish(subjects.ack_subject(ref, "uid-1"), b"the first ack")
        await jetstream.publish(subjects.identity_subject(ref), b"identity")


async def contents(client: Client) -> dict[str, Any]:
    """What all streams hold: of each the number of its last message and its subjects; and the rule stream's consumers."""
    jetstream, rules = client.jetstream(timeout=30), client.jetstream(prefix=subjects.RULES_API, timeout=30)
    found: dict[str, Any] = {}
    for context in (jetstream, rules):
        for stream in await context.streams_info():
            name = stream.config.name or ""
            info = await context.stream_info(name, subjects_filter=">")
            found[name] = (info.state.last_seq, info.state.subjects, info.created)
    found["consumers"] = sorted(each.name for each in await rules.consumers_info(subjects.RULES_STREAM))
    return found
