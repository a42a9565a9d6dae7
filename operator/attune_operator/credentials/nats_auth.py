"""Keeps NATS's authorisation in Secrets: the keys, the server's configuration, and the users of operator, API and sensors.

``attune-nats-auth`` holds the keys and what is revoked, and is read by the operator only; ``attune-nats-config`` is what
the NATS pod mounts; ``attune-nats-api`` and ``attune-nats-actions`` what the API and the runner of actions mount. All but
the first follow from it. The operator's own users are new at each start, and live in files of its own. What users may do is
in :mod:`~attune_operator.credentials.nats_permissions`, and what accounts are there in
:mod:`~attune_operator.credentials.nats_accounts`.
"""

import asyncio
import os
import secrets
import tempfile
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import structlog

from attune_contract import environment
from attune_contract.claims import MAX_TTL
from attune_contract.identity import SensorRef
from attune_operator.credentials import nats_jwt, nats_keys, nats_revocations, own_secrets
from attune_operator.credentials.mint import DamagedError
from attune_operator.credentials.nats_accounts import account_jwts, cluster_config, server_config
from attune_operator.credentials.nats_jwt import Permissions, UserClaims
from attune_operator.credentials.nats_keys import NatsKeys, make_keys
from attune_operator.credentials.nats_permissions import (
    ACCOUNT_ADMINISTRATION,
    EVERYTHING,
    actions_permissions,
    api_permissions,
    sensor_permissions,
)
from attune_operator.credentials.nats_revocations import Revocations
from attune_operator.credentials.policy import NatsUser
from attune_operator.resources.kinds import SECRET, Object
from attune_operator.runtime.client import Client

_log = structlog.stdlib.get_logger(__name__)

AUTH_SECRET: Final = "attune-nats-auth"  # noqa: S105 - its name
AUTH_KEY: Final = "nats-auth.json"
REVOCATIONS_KEY: Final = "revocations.json"
CONFIG_SECRET: Final = "attune-nats-config"  # noqa: S105 - its name
CONFIG_KEY: Final = "accounts.conf"
CLUSTER_KEY: Final = "cluster.conf"
API_SECRET: Final = "attune-nats-api"  # noqa: S105 - its name
API_NAME: Final = "service:attune-api"
ACTIONS_SECRET: Final = "attune-nats-actions"  # noqa: S105 - its name
ACTIONS_NAME: Final = "service:attune-actions"
OPERATOR_NAME: Final = "service:attune-operator"
#: A JWT with a later ``iat`` than any that was issued to a Sensor that is gone.
_FOR_GOOD: Final = MAX_TTL


class NatsAuth:
    """NATS's authorisation. Call :meth:`ensure` first; then it creates and reads sensors' users.

    Args:
        client: to Kubernetes.
        namespace: of all Secrets.
        routes: addresses of the servers of the cluster, HOST:PORT; empty for one server.
        on_change: called when the keys are others.
        now: the clock.
        new_seed: 32 random bytes.
    """

    def __init__(
        self,
        client: Client,
        *,
        namespace: str,
        routes: Sequence[str] = (),
        on_change: Callable[[], None] = lambda: None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        new_seed: Callable[[], bytes] = lambda: secrets.token_bytes(32),
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._routes = routes
        self._on_change = on_change
        self._now = now
        self._new_seed = new_seed
        self._keys: NatsKeys | None = None
        self._revoked: Revocations = {}
        self._directory = tempfile.TemporaryDirectory(prefix="attune-operator-", ignore_cleanup_errors=True)
        self.operator_creds_file = Path(self._directory.name) / "nats.creds"
        self.system_creds_file = Path(self._directory.name) / "system.creds"
        self._nudged = asyncio.Event()
        self.accounts_changed = asyncio.Event()
        """Set when :meth:`accounts` may say something else; the publisher clears it."""

    def nudge(self) -> None:
        """Check again soon: one of the Secrets was touched."""
        self._nudged.set()

    async def run(self, *, interval: float) -> None:
        """Keep the Secrets until cancelled."""
        await own_secrets.keep(self.ensure, self._nudged, interval=interval, log=_log, failed="nats_auth_not_checked")

    def close(self) -> None:
        """Remove the operator's own credentials."""
        self._directory.cleanup()

    async def ensure(self) -> None:
        """Bring the Secrets and the operator's own file to their desired state.

        Raises:
            ClusterError: Kubernetes could not be reached or refused.
        """
        keys, revoked = await self._ensure_keys()
        await self._ensure_config({CONFIG_KEY: server_config(keys), CLUSTER_KEY: cluster_config(keys, self._routes)})
        await self._ensure_service(keys, API_SECRET, API_NAME, api_permissions())
        await self._ensure_service(keys, ACTIONS_SECRET, ACTIONS_NAME, actions_permissions())
        if keys != self._keys:
            first = self._keys is None
            self._keys = keys
            for file, account, permissions in (
                (self.operator_creds_file, keys.account, EVERYTHING),
                (self.system_creds_file, keys.system, ACCOUNT_ADMINISTRATION),
            ):
                creds = self._creds(keys, account=account, name=OPERATOR_NAME, permissions=permissions)
                await asyncio.to_thread(_write_private, file, creds)
            if not first:
                _log.warning("nats_keys_replaced", then="restart the NATS server, which trusts the old keys")
            self._on_change()
        # A revocation may have come in since the Secret was read: it must not be lost.
        revoked = nats_revocations.current(nats_revocations.merge(revoked, self._revoked), now=self._now())
        if revoked != self._revoked:
            self._revoked = revoked
            self.accounts_changed.set()

    async def _ensure_keys(self) -> tuple[NatsKeys, Revocations]:
        found = await self._client.get(SECRET, self._namespace, AUTH_SECRET)
        # The running server must not be given other keys without need: if the Secret was deleted, keep those in memory.
        keys = self._read_keys(found) or self._keys or make_keys(now=self._now(), new_seed=self._new_seed)
        stored = self._read_revocations(found)
        revoked = nats_revocations.current(nats_revocations.merge(stored, self._revoked), now=self._now())
        wanted = {AUTH_KEY: nats_keys.dump(keys), REVOCATIONS_KEY: nats_revocations.dump(revoked)}
        if found is None or any(own_secrets.content(found, key) != text for key, text in wanted.items()):
            await self._write(AUTH_SECRET, wanted, found)
            _log.info("nats_keys_written", account=nats_jwt.public_of(keys.account), revocations=len(revoked))
        return keys, revoked

    def _read_keys(self, found: Object | None) -> NatsKeys | None:
        if found is None:
            return None
        try:
            return nats_keys.load(own_secrets.content(found, AUTH_KEY), new_seed=self._new_seed)
        except ValueError as error:
            _log.error("nats_keys_damaged", secret=f"{self._namespace}/{AUTH_SECRET}", why=str(error))
            return None

    def _read_revocations(self, found: Object | None) -> Revocations:
        try:
            return nats_revocations.load(own_secrets.content(found, REVOCATIONS_KEY)) if found is not None else {}
        except ValueError as error:
            _log.error("nats_revocations_damaged", secret=f"{self._namespace}/{AUTH_SECRET}", why=str(error))
            return {}

    async def _ensure_config(self, texts: Mapping[str, str]) -> None:
        found = await self._client.get(SECRET, self._namespace, CONFIG_SECRET)
        if found is None or any(own_secrets.content(found, key) != text for key, text in texts.items()):
            await self._write(CONFIG_SECRET, texts, found)

    async def _ensure_service(self, keys: NatsKeys, secret: str, name: str, permissions: Permissions) -> None:
        """Keep the credentials of a part of the system in its Secret."""
        found = await self._client.get(SECRET, self._namespace, secret)
        if found is not None:
            try:
                user = nats_jwt.read_creds(own_secrets.content(found, environment.NATS_CREDS_KEY))
                if user.issuer == nats_jwt.public_of(keys.signing) and user.permissions == permissions:
                    return
            except DamagedError as error:
                _log.warning("nats_user_damaged", secret=f"{self._namespace}/{secret}", why=str(error))
        creds = self._creds(keys, account=keys.account, name=name, permissions=permissions)
        await self._write(secret, {environment.NATS_CREDS_KEY: creds}, found)

    async def _write(self, name: str, texts: Mapping[str, str], found: Object | None) -> None:
        await own_secrets.write(self._client, self._namespace, name, texts, found)

    def _creds(self, keys: NatsKeys, *, account: str, name: str, permissions: Permissions) -> str:
        """Credentials of a service. They do not expire: they never leave a Secret, or this process's own file."""
        return nats_jwt.user_creds(
            user_seed=nats_jwt.make_seed("user", self._new_seed()),
            signing_seed=account if account == keys.system else keys.signing,
            account=nats_jwt.public_of(account),
            name=name,
            subject="",
            permissions=permissions,
            issued_at=self._now(),
            expires_at=None,
        )

    # -- sensors' users (credentials.issuer.NatsUsers) -----------------------------------------------------------------

    def issue(self, ref: SensorRef, *, uid: str, issued_at: datetime, expires_at: datetime) -> str:
        """The text of a sensor's ``nats.creds``."""
        if self._keys is None:
            raise ValueError("there are no NATS keys yet")
        return nats_jwt.user_creds(
            user_seed=nats_keys.sensor_seed(self._keys, uid),
            signing_seed=self._keys.sensors_signing,
            account=nats_jwt.public_of(self._keys.sensors),
            name=ref.login,
            subject=uid,
            permissions=sensor_permissions(ref, uid=uid),
            issued_at=issued_at,
            expires_at=expires_at,
        )

    def read(self, ref: SensorRef, text: str, *, uid: str) -> NatsUser:
        """Who a sensor's credentials are for.

        Raises:
            DamagedError: the operator did not create them.
        """
        user = nats_jwt.read_creds(text)
        wanted = sensor_permissions(ref, uid=uid)
        return NatsUser(
            subject=user.subject,
            expires_at=user.expires_at,
            current=user.name == ref.login and user.permissions == wanted and self._is_current(user, uid),
        )

    def _is_current(self, user: UserClaims, uid: str) -> bool:
        keys = self._keys
        return (
            keys is not None
            and user.issuer == nats_jwt.public_of(keys.sensors_signing)
            and user.key == nats_jwt.public_of(nats_keys.sensor_seed(keys, uid))
        )

    # -- revocation ----------------------------------------------------------------------------------------------------

    def revoke(self, uid: str, not_before: int | None) -> None:
        """Refuse what the Sensor with this uid was given. It takes effect when the accounts are published, at once.

        Args:
            uid: the Sensor's.
            not_before: the earliest ``iat`` that is still accepted, seconds since 1970; None when the Sensor is gone.
        """
        now = self._now()
        until = int((now + _FOR_GOOD).timestamp()) if not_before is None else not_before - 1
        revoked = nats_revocations.revoke(self._revoked, uid=uid, issued_until=until, now=now)
        if revoked is not self._revoked:
            self._revoked = revoked
            self.accounts_changed.set()
            self.nudge()  # to keep it in the Secret

    def accounts(self) -> dict[str, str]:
        """The JWTs that the NATS server is to have, by their accounts' public keys; empty before there are keys."""
        keys = self._keys
        if keys is None:
            return {}
        revoked = {
            nats_jwt.public_of(nats_keys.sensor_seed(keys, uid)): each.issued_until
            for uid, each in nats_revocations.current(self._revoked, now=self._now()).items()
        }
        return account_jwts(keys, issued_at=self._now(), revoked=revoked)


def _write_private(path: Path, text: str) -> None:
    """Replace the file atomically; only this user may read it."""
    temporary = path.with_suffix(".new")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="ascii") as file:
        file.write(text)
    temporary.replace(path)
