"""Acts as a Rule's ServiceAccount: short-lived tokens (TokenRequest), and what they may read.

The runner has no right of its own but to ask for tokens of those ServiceAccounts for which a namespace's owner has granted it
``create`` on ``serviceaccounts/token``.
"""

import asyncio
import base64
import ssl
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Protocol

import msgspec

from attune_contract.actions import RuleActions, RunReason
from attune_kit.kubernetes.access import Access
from attune_kit.kubernetes.client import KubernetesClient, KubernetesError

#: Seconds for which a token is asked for (the shortest that Kubernetes gives), and before its end when it is asked for anew.
_TOKEN_SECONDS: Final = 600
_SLACK: Final = 60.0
#: Accounts whose clients are kept.
_ACCOUNTS: Final = 500
#: Seconds for one request.
_TIMEOUT: Final = 20.0


class SecretError(Exception):
    """What a Rule's ServiceAccount should do or read cannot be done or read. The text is for people, and shows no secret."""

    def __init__(self, message: str, *, reason: RunReason, again: bool) -> None:
        super().__init__(message)
        self.reason = reason
        self.again = again


class Secrets(Protocol):
    """Reads Secrets."""

    async def read(self, rule: RuleActions, name: str, key: str) -> str:
        """The value of a key, now, as the Rule's ServiceAccount.

        Raises:
            SecretError: it cannot be read.
        """


@dataclass(slots=True)
class _Account:
    client: KubernetesClient
    until: float


class Accounts:
    """Clients that act as Rules' ServiceAccounts.

    Args:
        access: how the API server is reached, as the runner itself; None: there is none.
        impersonal: act as the runner itself: under ``attune up``, where there are no ServiceAccounts.
        monotonic: seconds, for the tokens' ends.
    """

    def __init__(
        self, access: Access | None, *, impersonal: bool = False, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._access = access
        self._impersonal = impersonal
        self._monotonic = monotonic
        self._own = None if access is None else KubernetesClient(access, user_agent="attune-actions", timeout=_TIMEOUT)
        self._accounts: OrderedDict[tuple[str, str], _Account] = OrderedDict()
        self._asking: dict[tuple[str, str], asyncio.Lock] = {}

    @property
    def impersonal(self) -> bool:
        """Whether there are no ServiceAccounts."""
        return self._impersonal

    async def client(self, rule: RuleActions) -> KubernetesClient:
        """A client that acts as the Rule's ServiceAccount.

        Raises:
            SecretError: the Rule names none, or the namespace grants none.
        """
        if self._own is None or self._access is None:
            raise SecretError(
                "this runner has no Kubernetes: it can neither read Secrets nor make objects",
                reason=RunReason.FORBIDDEN,
                again=False,
            )
        if self._impersonal:
            return self._own
        if not rule.service_account_name:
            raise SecretError(
                "the Rule has no serviceAccountName, so it may do nothing in its namespace",
                reason=RunReason.FORBIDDEN,
                again=False,
            )
        key = (rule.namespace, rule.service_account_name)
        async with self._asking.setdefault(key, asyncio.Lock()):
            found = self._accounts.get(key)
            if found is None or found.until <= self._monotonic():
                found = await self._requested(*key)
                await self._keep(key, found)
            self._accounts.move_to_end(key)
            return found.client

    async def _requested(self, namespace: str, name: str) -> _Account:
        assert self._own is not None and self._access is not None  # noqa: S101, PT018 - client() has looked
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": _TOKEN_SECONDS},
        }
        try:
            answer: dict[str, Any] = msgspec.json.decode(await self._own.request("POST", path, body=body))
        except KubernetesError as error:
            if error.status == 403:
                raise SecretError(
                    f"the namespace {namespace} does not let attune-actions act as the ServiceAccount {name}: grant it create on "
                    f"serviceaccounts/token with resourceNames [{name}] (docs/actions-security.md)",
                    reason=RunReason.FORBIDDEN,
                    again=False,
                ) from None
            if error.status == 404:
                raise SecretError(
                    f"there is no ServiceAccount {name} in the namespace {namespace}",
                    reason=RunReason.FORBIDDEN,
                    again=False,
                ) from None
            raise SecretError(str(error), reason=RunReason.TARGET_UNREACHABLE, again=True) from None
        token = str(answer["status"]["token"])
        left = _seconds_until(answer["status"].get("expirationTimestamp"))
        access = replace(
            self._access,
            bearer=lambda: token,
            slow=False,
            verify=_without_certificate(self._access),
            certificate=None,
            headers={},
            origin=f"{namespace}/{name}",
        )
        return _Account(
            KubernetesClient(access, user_agent="attune-actions", timeout=_TIMEOUT),
            self._monotonic() + max(1.0, left - _SLACK),
        )

    async def _keep(self, key: tuple[str, str], account: _Account) -> None:
        last = self._accounts.pop(key, None)
        self._accounts[key] = account
        if last is not None:
            # Others may be in the middle of a request with it; it is closed when they are done.
            asyncio.get_running_loop().call_later(_TIMEOUT, lambda: asyncio.ensure_future(last.client.close()))
        if len(self._accounts) > _ACCOUNTS:
            other, oldest = self._accounts.popitem(last=False)
            self._asking.pop(other, None)
            await oldest.client.close()

    def forget(self, rule: RuleActions) -> None:
        """The Rule's token is not accepted any more: ask for another next time."""
        found = self._accounts.get((rule.namespace, rule.service_account_name or ""))
        if found is not None:
            found.until = 0.0

    async def read(self, rule: RuleActions, name: str, key: str) -> str:
        """The value of a key of a Secret of the Rule's namespace, now.

        Raises:
            SecretError: it cannot be read.
        """
        client = await self.client(rule)
        try:
            body = await client.request("GET", f"/api/v1/namespaces/{rule.namespace}/secrets/{name}")
        except KubernetesError as error:
            raise self._unreadable(rule, name, error) from None
        data = msgspec.json.decode(body).get("data") or {}
        if key not in data:
            raise SecretError(f"the Secret {name} has no key {key}", reason=RunReason.NO_SUCH_SECRET, again=False)
        try:
            return base64.b64decode(data[key], validate=True).decode()
        except ValueError:
            raise SecretError(
                f"the key {key} of the Secret {name} is no text", reason=RunReason.NO_SUCH_SECRET, again=False
            ) from None

    def _unreadable(self, rule: RuleActions, name: str, error: KubernetesError) -> SecretError:
        if error.status == 404:
            return SecretError(
                f"there is no Secret {name} in the namespace {rule.namespace}",
                reason=RunReason.NO_SUCH_SECRET,
                again=True,
            )
        if error.status == 403:
            return SecretError(
                f"the ServiceAccount {rule.service_account_name} may not get the Secret {name}",
                reason=RunReason.FORBIDDEN,
                again=False,
            )
        if error.status == 401:
            self.forget(rule)
        return SecretError(
            f"the Secret {name} cannot be read now: the API server answered {error.status or 'nothing'}",
            reason=RunReason.TARGET_UNREACHABLE,
            again=True,
        )

    async def close(self) -> None:
        """Close all connections."""
        for account in self._accounts.values():
            await account.client.close()
        if self._own is not None:
            await self._own.close()


def _without_certificate(access: Access) -> ssl.SSLContext:
    """TLS that shows no certificate: the API server would believe it rather than the token."""
    if access.certificate is None:
        return access.verify
    return ssl.create_default_context(cadata=access.authority.decode() if access.authority else None)


def _seconds_until(time_text: str | None) -> float:
    if not time_text:
        return float(_TOKEN_SECONDS)
    end = datetime.fromisoformat(time_text)
    return (end - datetime.now(end.tzinfo)).total_seconds()
