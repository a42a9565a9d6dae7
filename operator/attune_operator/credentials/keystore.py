"""Keeps the signing keys in a Secret and their public halves in a ConfigMap that the API mounts.

Level-triggered: each check reads both, decides with :func:`~attune_operator.credentials.keys.advance` and writes the
difference. The Secret is written first, so that no key is published whose private half could get lost. A key is used only
after both were written. The Secret is written with its ``resourceVersion``, so of two operators one loses and reads again.
"""

import asyncio
import json
import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from attune_contract import names
from attune_operator.credentials import keys as signing
from attune_operator.credentials import own_secrets
from attune_operator.credentials.keys import KeyPolicy, KeySet, KeyState
from attune_operator.resources.kinds import CONFIG_MAP, SECRET, Object
from attune_operator.runtime import metrics
from attune_operator.runtime.client import Client, ClusterError

_log = structlog.stdlib.get_logger(__name__)

KEYS_SECRET: Final = "attune-signing-keys"  # noqa: S105 - its name
KEYS_KEY: Final = "signing-keys.json"
JWKS_CONFIG_MAP: Final = "attune-jwks"
JWKS_KEY: Final = "jwks.json"
_CONFLICT: Final = 409
_ATTEMPTS: Final = 5


class KeyStore:
    """The signing keys. :attr:`keys` is what was last written and may be used."""

    def __init__(
        self,
        client: Client,
        *,
        namespace: str,
        policy: KeyPolicy,
        interval: timedelta,
        on_change: Callable[[], None],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        new_seed: Callable[[], bytes] = lambda: secrets.token_bytes(32),
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._policy = policy
        self._interval = interval.total_seconds()
        self._on_change = on_change
        self._now = now
        self._new_seed = new_seed
        self._nudged = asyncio.Event()
        self.keys = KeySet()

    def nudge(self) -> None:
        """Check again soon: the Secret or the ConfigMap was touched."""
        self._nudged.set()

    async def run(self) -> None:
        """Keep the keys until cancelled."""
        while True:
            try:
                await self.ensure()
            except ClusterError as error:
                # The key that signed a moment ago still signs; only the next key depends on this check.
                _log.warning("signing_keys_not_checked", error=str(error))
            self._nudged.clear()
            try:
                await asyncio.wait_for(self._nudged.wait(), self._wait())
            except TimeoutError:
                continue

    def _wait(self) -> float:
        ahead = signing.next_change(self.keys, self._policy)
        if ahead is None:
            return self._interval
        return min(self._interval, max(0.05, (ahead - self._now()).total_seconds()))

    async def ensure(self) -> None:
        """Bring Secret, ConfigMap and :attr:`keys` to their desired state.

        Raises:
            ClusterError: Kubernetes could not be reached or refused.
        """
        for _ in range(_ATTEMPTS):
            try:
                keys = await self._reconcile()
                break
            except ClusterError as error:
                if error.status != _CONFLICT:
                    raise
        else:
            raise ClusterError(f"the Secret {self._namespace}/{KEYS_SECRET} changed during every attempt to write it")
        if keys != self.keys:
            self.keys = keys
            for state in KeyState:
                metrics.SIGNING_KEYS.labels(state).set(sum(keys.state(key) is state for key in keys.keys))
            self._on_change()

    async def _reconcile(self) -> KeySet:
        now = self._now()
        secret = await self._client.get(SECRET, self._namespace, KEYS_SECRET)
        config_map = await self._client.get(CONFIG_MAP, self._namespace, JWKS_CONFIG_MAP)
        published = (config_map or {}).get("data", {}).get(JWKS_KEY, "")
        found = self._read(secret, published, now)
        requested = ((secret or {}).get("metadata", {}).get("annotations") or {}).get(names.ROTATE_KEYS, "")
        keys, changes = signing.advance(
            found, now=now, policy=self._policy, requested=requested, new_seed=self._new_seed
        )
        if secret is None or changes or keys != found or signing.dump(keys) != own_secrets.content(secret, KEYS_KEY):
            await self._write_secret(secret, signing.dump(keys))
        text = json.dumps(keys.jwks(), indent=1)
        if published != text:
            await self._write_config_map(text)
        for change in changes:
            _log.info("signing_key_changed", change=change)
        return keys

    def _read(self, secret: Object | None, published: str, now: datetime) -> KeySet:
        """Return the keys in the Secret; if they are lost, those that were published."""
        if secret is not None:
            try:
                return signing.load(own_secrets.content(secret, KEYS_KEY))
            except ValueError as error:
                _log.error("signing_keys_damaged", secret=f"{self._namespace}/{KEYS_SECRET}", why=str(error))
        try:
            left = json.loads(published) if published else {}
        except ValueError:
            left = {}
        keys = signing.recovered(left if isinstance(left, dict) else {}, now=now)
        if keys.keys:
            _log.warning("signing_keys_lost", published=len(keys.keys), then="new ones are created; tokens stay valid")
        return keys

    async def _write_secret(self, old: Object | None, text: str) -> None:
        await own_secrets.write(self._client, self._namespace, KEYS_SECRET, {KEYS_KEY: text}, old)

    async def _write_config_map(self, text: str) -> None:
        metadata = {"name": JWKS_CONFIG_MAP, "namespace": self._namespace, "labels": own_secrets.LABELS}
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {JWKS_KEY: text}}
        await self._client.apply(CONFIG_MAP, body)
        metrics.WRITES.labels("ConfigMap", "jwks").inc()
