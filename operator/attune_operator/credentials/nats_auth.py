"""Keeps NATS's authorisation in Secrets: the keys, the server's configuration, and the users of operator, API and sensors.

``attune-nats-auth`` has the keys and is read by the operator only. ``attune-nats-config`` is mounted by the NATS pod,
``attune-nats-api`` by the API; both follow from the first. The operator's own user is created at each start, in a private
file. :func:`sensor_permissions` and :func:`api_permissions` say what users may do.
"""

import asyncio
import base64
import json
import os
import secrets
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import structlog

from attune_contract import environment, names, subjects
from attune_contract.identity import SensorRef
from attune_operator.credentials import nats_jwt
from attune_operator.credentials.mint import DamagedError
from attune_operator.credentials.nats_jwt import Permissions, UserClaims
from attune_operator.credentials.policy import NatsUser
from attune_operator.resources.kinds import SECRET, Object
from attune_operator.runtime import metrics
from attune_operator.runtime.client import Client, ClusterError

_log = structlog.stdlib.get_logger(__name__)

AUTH_SECRET: Final = "attune-nats-auth"  # noqa: S105 - its name
AUTH_KEY: Final = "nats-auth.json"
CONFIG_SECRET: Final = "attune-nats-config"  # noqa: S105 - its name
CONFIG_KEY: Final = "auth.conf"
API_SECRET: Final = "attune-nats-api"  # noqa: S105 - its name
API_NAME: Final = "service:attune-api"
OPERATOR_NAME: Final = "service:attune-operator"
_LABELS: Final = {names.MANAGED_BY_LABEL: names.MANAGED_BY, "app.kubernetes.io/part-of": "attune"}
_CONFLICT: Final = 409


@dataclass(frozen=True, slots=True, kw_only=True)
class NatsKeys:
    """The keys. Seeds are left out of the representation."""

    operator: str = field(repr=False)
    account: str = field(repr=False)
    signing: str = field(repr=False)
    system: str = field(repr=False)
    created: datetime


def make_keys(*, now: datetime, new_seed: Callable[[], bytes]) -> NatsKeys:
    """Create keys, from 32 random bytes each."""
    return NatsKeys(
        operator=nats_jwt.make_seed("operator", new_seed()),
        account=nats_jwt.make_seed("account", new_seed()),
        signing=nats_jwt.make_seed("account", new_seed()),
        system=nats_jwt.make_seed("account", new_seed()),
        created=now.replace(microsecond=0),
    )


def dump(keys: NatsKeys) -> str:
    """Encode the keys as the Secret holds them."""
    seeds = {name: getattr(keys, name) for name in ("operator", "account", "signing", "system")}
    return json.dumps({**seeds, "created": keys.created.isoformat()}, indent=1)


def load(text: str) -> NatsKeys:
    """Read what :func:`dump` wrote.

    Raises:
        ValueError: the text is damaged.
    """
    try:
        document = json.loads(text)
        seeds = {name: str(document[name]) for name in ("operator", "account", "signing", "system")}
        letters = [nats_jwt.public_of(seed)[0] for seed in seeds.values()]
        keys = NatsKeys(**seeds, created=datetime.fromisoformat(document["created"]))
    except (ValueError, KeyError, TypeError, UnicodeEncodeError):
        raise ValueError("it does not hold NATS keys") from None
    if letters != ["O", "A", "A", "A"] or keys.created.tzinfo is None:
        raise ValueError("its NATS keys have other roles than they should")
    return keys


def server_config(keys: NatsKeys) -> str:
    """Return the part of the server's configuration that says whom it trusts; the chart's configuration includes it.

    The accounts are in the file (resolver MEMORY), users are not: a new sensor needs no change at the server
    (docs/decisions/0012).
    """
    account, system = nats_jwt.public_of(keys.account), nats_jwt.public_of(keys.system)
    operator = nats_jwt.operator_jwt(seed=keys.operator, system_account=system, created=keys.created)
    accounts = {
        account: nats_jwt.account_jwt(
            operator_seed=keys.operator,
            account=account,
            name="attune",
            created=keys.created,
            signing_keys=[nats_jwt.public_of(keys.signing)],
            jetstream=True,
        ),
        system: nats_jwt.account_jwt(
            operator_seed=keys.operator, account=system, name="SYS", created=keys.created, jetstream=False
        ),
    }
    preload = "\n".join(f"  {name}: {token}" for name, token in accounts.items())
    return (
        "# Written by attune-operator from the Secret attune-nats-auth; changes are overwritten.\n"
        f"operator: {operator}\n"
        f"system_account: {system}\n"
        "resolver: MEMORY\n"
        f"resolver_preload {{\n{preload}\n}}\n"
    )


def sensor_permissions(ref: SensorRef) -> Permissions:
    """Return a sensor's permissions: it reads its own rules through a consumer with its own filter, and writes its own acks.

    Consumers with several filters are created on another subject, which is not allowed. Deliveries and answers come to the
    sensor's own inbox only.
    """
    stream = subjects.RULES_STREAM
    return Permissions(
        publish=(
            f"$JS.API.CONSUMER.CREATE.{stream}.*.{subjects.rules_filter(ref)}",
            f"$JS.FC.{stream}.>",
            f"{subjects.acks_prefix(ref)}.>",
        ),
        subscribe=(f"{ref.inbox_prefix}.>",),
    )


def api_permissions() -> Permissions:
    """Return the API's permissions: it owns the stream of events, and only reads the others."""
    events = subjects.EVENTS_STREAM
    read = (
        events,
        subjects.RULES_STREAM,
        subjects.ACKS_STREAM,
        subjects.IDENTITIES_STREAM,
        subjects.HISTORY_STREAM,
    )
    return Permissions(
        publish=(
            subjects.ALL_EVENTS,
            "$JS.API.INFO",
            f"$JS.API.STREAM.CREATE.{events}",
            f"$JS.API.STREAM.UPDATE.{events}",
            *(f"$JS.API.STREAM.INFO.{stream}" for stream in read),
            *(f"$JS.API.STREAM.MSG.GET.{stream}" for stream in read),
            *(f"$JS.API.DIRECT.GET.{stream}" for stream in read),
            *(f"$JS.API.DIRECT.GET.{stream}.>" for stream in read),
            *(f"$JS.API.CONSUMER.CREATE.{stream}" for stream in read),
            *(f"$JS.API.CONSUMER.CREATE.{stream}.>" for stream in read),
            *(f"$JS.API.CONSUMER.INFO.{stream}.*" for stream in read),
            *(f"$JS.API.CONSUMER.DELETE.{stream}.*" for stream in read),
            *(f"$JS.FC.{stream}.>" for stream in read),
        ),
        subscribe=("_INBOX.>",),
    )


EVERYTHING: Final = Permissions(publish=(">",), subscribe=(">",))


class NatsAuth:
    """NATS's authorisation. Call :meth:`ensure` first; then it creates and reads sensors' users."""

    def __init__(
        self,
        client: Client,
        *,
        namespace: str,
        on_change: Callable[[], None] = lambda: None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        new_seed: Callable[[], bytes] = lambda: secrets.token_bytes(32),
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._on_change = on_change
        self._now = now
        self._new_seed = new_seed
        self._keys: NatsKeys | None = None
        self._directory = tempfile.TemporaryDirectory(prefix="attune-operator-", ignore_cleanup_errors=True)
        self.operator_creds_file = Path(self._directory.name) / "nats.creds"
        self._nudged = asyncio.Event()

    def nudge(self) -> None:
        """Check again soon: one of the Secrets was touched."""
        self._nudged.set()

    async def run(self, *, interval: float) -> None:
        """Keep the Secrets until cancelled."""
        while True:
            try:
                async with asyncio.timeout(interval):
                    await self._nudged.wait()
            except TimeoutError:
                pass
            self._nudged.clear()
            try:
                await self.ensure()
            except ClusterError as error:
                _log.warning("nats_auth_not_checked", error=str(error))

    def close(self) -> None:
        """Remove the operator's own credentials."""
        self._directory.cleanup()

    async def ensure(self) -> None:
        """Bring the Secrets and the operator's own file to their desired state.

        Raises:
            ClusterError: Kubernetes could not be reached or refused.
        """
        keys = await self._ensure_keys()
        await self._ensure_file(CONFIG_SECRET, CONFIG_KEY, server_config(keys))
        await self._ensure_api(keys)
        if keys != self._keys:
            first = self._keys is None
            self._keys = keys
            creds = self._creds(keys, name=OPERATOR_NAME, permissions=EVERYTHING)
            await asyncio.to_thread(_write_private, self.operator_creds_file, creds)
            if not first:
                _log.warning("nats_keys_replaced", then="restart the NATS server, which trusts the old keys")
            self._on_change()

    async def _ensure_keys(self) -> NatsKeys:
        found = await self._client.get(SECRET, self._namespace, AUTH_SECRET)
        if found is not None:
            try:
                return load(_content(found, AUTH_KEY))
            except ValueError as error:
                _log.error("nats_keys_damaged", secret=f"{self._namespace}/{AUTH_SECRET}", why=str(error))
        # The running server must not be given other keys without need: if the Secret was deleted, keep those in memory.
        keys = self._keys or make_keys(now=self._now(), new_seed=self._new_seed)
        await self._write(AUTH_SECRET, AUTH_KEY, dump(keys), found)
        _log.info("nats_keys_written", account=nats_jwt.public_of(keys.account))
        return keys

    async def _ensure_file(self, name: str, key: str, text: str) -> None:
        found = await self._client.get(SECRET, self._namespace, name)
        if found is None or _content(found, key) != text:
            await self._write(name, key, text, found)

    async def _ensure_api(self, keys: NatsKeys) -> None:
        found = await self._client.get(SECRET, self._namespace, API_SECRET)
        if found is not None:
            try:
                user = nats_jwt.read_creds(_content(found, environment.NATS_CREDS_KEY))
                if user.issuer == nats_jwt.public_of(keys.signing) and user.permissions == api_permissions():
                    return
            except DamagedError as error:
                _log.warning("nats_user_damaged", secret=f"{self._namespace}/{API_SECRET}", why=str(error))
        creds = self._creds(keys, name=API_NAME, permissions=api_permissions())
        await self._write(API_SECRET, environment.NATS_CREDS_KEY, creds, found)

    async def _write(self, name: str, key: str, text: str, found: Object | None) -> None:
        """Write one of the operator's own Secrets. If two operators create it at once, one fails (409) and reads the other's."""
        data = {key: base64.b64encode(text.encode()).decode("ascii")}
        if found is None:
            metadata = {"name": name, "namespace": self._namespace, "labels": _LABELS}
            body = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "data": data}
            await self._client.create(SECRET, body)
        else:
            await self._client.replace(SECRET, {**found, "data": data})
        metrics.WRITES.labels("Secret", name.removeprefix("attune-")).inc()

    def _creds(self, keys: NatsKeys, *, name: str, permissions: Permissions) -> str:
        """Create credentials of a service. They do not expire, because they never leave a Secret or this process's file."""
        return nats_jwt.user_creds(
            user_seed=nats_jwt.make_seed("user", self._new_seed()),
            signing_seed=keys.signing,
            account=nats_jwt.public_of(keys.account),
            name=name,
            subject="",
            permissions=permissions,
            issued_at=self._now(),
            expires_at=None,
        )

    # -- sensors' users (credentials.issuer.NatsUsers) -----------------------------------------------------------------

    def issue(self, ref: SensorRef, *, uid: str, issued_at: datetime, expires_at: datetime) -> str:
        """Create the text of a sensor's ``nats.creds``."""
        if self._keys is None:
            raise ValueError("there are no NATS keys yet")
        return nats_jwt.user_creds(
            user_seed=nats_jwt.make_seed("user", self._new_seed()),
            signing_seed=self._keys.signing,
            account=nats_jwt.public_of(self._keys.account),
            name=ref.login,
            subject=uid,
            permissions=sensor_permissions(ref),
            issued_at=issued_at,
            expires_at=expires_at,
        )

    def read(self, ref: SensorRef, text: str) -> NatsUser:
        """Return who a sensor's credentials are for.

        Raises:
            DamagedError: the operator did not create them.
        """
        user = nats_jwt.read_creds(text)
        return NatsUser(subject=user.subject, expires_at=user.expires_at, current=self._is_current(ref, user))

    def _is_current(self, ref: SensorRef, user: UserClaims) -> bool:
        if self._keys is None:
            return False
        signed = user.issuer == nats_jwt.public_of(self._keys.signing)
        return signed and user.name == ref.login and user.permissions == sensor_permissions(ref)


def _content(secret: Object, key: str) -> str:
    try:
        return base64.b64decode((secret.get("data") or {}).get(key, ""), validate=True).decode()
    except ValueError:
        return ""


def _write_private(path: Path, text: str) -> None:
    """Replace the file atomically; only this user may read it."""
    temporary = path.with_suffix(".new")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="ascii") as file:
        file.write(text)
    temporary.replace(path)
