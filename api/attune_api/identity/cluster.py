"""Callers as the cluster knows them: TokenReview says who they are, SubjectAccessReview what they may do.

So the cluster's RBAC is the only place where rights are kept (docs/events.md, "Who may read"). Answers are kept for a few
seconds, so that a reader who polls does not double the API server's load.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic, Protocol, TypeVar

import msgspec
import structlog

from attune_api.identity.callers import ClusterCaller
from attune_kit.kubernetes.access import service_account
from attune_kit.kubernetes.client import KubernetesClient, KubernetesError
from attune_kit.watched_file import WatchedFileError

log = structlog.get_logger(__name__)

#: Seconds for which a yes is believed, and a no. A right that was just given should not be waited for.
KEEP_YES: Final = 10.0
KEEP_NO: Final = 2.0
_REMEMBERED: Final = 4096
_TIMEOUT: Final = 5.0
_CONNECTIONS: Final = 20


class ClusterUnavailableError(Exception):
    """The cluster's API server gave no answer that could be used; the text says which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Right:
    """A permission in the terms of Kubernetes' RBAC. An empty namespace means all namespaces."""

    verb: str
    resource: str
    namespace: str = ""
    subresource: str = ""
    name: str = ""
    group: str = "attune.dev"

    def __str__(self) -> str:
        what = f"{self.resource}/{self.subresource}" if self.subresource else self.resource
        where = f"in namespace {self.namespace}" if self.namespace else "in all namespaces"
        return f"{self.verb} {what}.{self.group} {where}"


_K = TypeVar("_K", bound=Hashable)
_V = TypeVar("_V")


class ExpiringCache(Generic[_K, _V]):
    """A bounded dictionary whose entries end by themselves; the oldest go first when it is full.

    Args:
        most: entries at once.
        clock: seconds that never jump, as ``time.monotonic``.
    """

    def __init__(self, *, most: int, clock: Callable[[], float]) -> None:
        self._most = most
        self._clock = clock
        self._entries: OrderedDict[_K, tuple[float, _V]] = OrderedDict()

    def get(self, key: _K) -> _V | None:
        """The value, unless there is none or it has ended."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry[0] <= self._clock():
            del self._entries[key]
            return None
        return entry[1]

    def put(self, key: _K, value: _V, *, seconds: float) -> None:
        """Keep a value for that long."""
        self._entries.pop(key, None)
        self._entries[key] = (self._clock() + seconds, value)
        if len(self._entries) > self._most:
            self._entries.popitem(last=False)


@dataclass(frozen=True, slots=True)
class _Unknown:
    """A token that the cluster does not know."""


class Requests(Protocol):
    """What sends requests to the API server (:class:`attune_kit.kubernetes.client.KubernetesClient`)."""

    async def request(self, method: str, path: str, *, body: Any = None) -> bytes:
        """One request; returns the body of the answer."""
        ...

    async def close(self) -> None:
        """Close the connections."""


class Cluster:
    """Asks the cluster's API server, with this pod's own ServiceAccount (ClusterRole ``system:auth-delegator``).

    Args:
        client: for requests to the API server; :func:`cluster_client` makes one. Closed by :meth:`close`.
        clock: as ``time.monotonic``.
    """

    def __init__(self, *, client: Requests, clock: Callable[[], float]) -> None:
        self._client = client
        self._callers: ExpiringCache[bytes, ClusterCaller | _Unknown] = ExpiringCache(most=_REMEMBERED, clock=clock)
        self._rights: ExpiringCache[tuple[Hashable, ...], bool] = ExpiringCache(most=_REMEMBERED, clock=clock)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def who(self, token: str) -> ClusterCaller | None:
        """Whose token it is, or None when the cluster does not know it (TokenReview).

        Raises:
            ClusterUnavailableError: the cluster did not say.
        """
        digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        known = self._callers.get(digest)
        if known is None:
            status = await self._review("authentication.k8s.io/v1/tokenreviews", "TokenReview", {"token": token})
            known = _caller(status) or _Unknown()
            self._callers.put(digest, known, seconds=KEEP_NO if isinstance(known, _Unknown) else KEEP_YES)
        return None if isinstance(known, _Unknown) else known

    async def may(self, caller: ClusterCaller, right: Right) -> bool:
        """Whether the cluster's RBAC lets ``caller`` do it (SubjectAccessReview).

        Raises:
            ClusterUnavailableError: the cluster did not say.
        """
        extra = tuple(sorted((key, tuple(values)) for key, values in caller.extra.items()))
        key = (caller.username, caller.uid, caller.groups, extra, right)
        known = self._rights.get(key)
        if known is None:
            attributes = {name: value for name, value in msgspec.to_builtins(right).items() if value}
            spec = {
                "user": caller.username,
                "uid": caller.uid,
                "groups": list(caller.groups),
                "extra": {name: list(values) for name, values in caller.extra.items()},
                "resourceAttributes": attributes,
            }
            status = await self._review("authorization.k8s.io/v1/subjectaccessreviews", "SubjectAccessReview", spec)
            known = status.get("allowed") is True and status.get("denied") is not True
            self._rights.put(key, known, seconds=KEEP_YES if known else KEEP_NO)
        return known

    async def _review(self, path: str, kind: str, spec: Mapping[str, Any]) -> Mapping[str, Any]:
        group_version = path.rpartition("/")[0]
        body = {"apiVersion": group_version, "kind": kind, "spec": spec}
        try:
            answer = await self._client.request("POST", f"/apis/{path}", body=body)
        except KubernetesError as error:
            if error.status:
                log.error("cluster_refused_review", kind=kind, status=error.status)
                raise ClusterUnavailableError(f"{kind} was answered with {error.status}") from None
            if isinstance(error.__cause__, WatchedFileError):
                raise ClusterUnavailableError(f"this program's own token cannot be used: {error.__cause__}") from None
            # Only the kind of the error: its text might hold the request.
            raise ClusterUnavailableError(f"{kind} failed: {type(error.__cause__).__name__}") from None
        try:
            status = msgspec.json.decode(answer)["status"]
        except (msgspec.MsgspecError, KeyError, TypeError):
            raise ClusterUnavailableError(f"{kind} was answered with something else") from None
        return status if isinstance(status, dict) else {}


def _caller(status: Mapping[str, Any]) -> ClusterCaller | None:
    user = status.get("user")
    if status.get("authenticated") is not True or not isinstance(user, dict) or not user.get("username"):
        return None
    return ClusterCaller(
        username=user["username"],
        uid=user.get("uid") or "",
        groups=tuple(user.get("groups") or ()),
        extra={name: tuple(values) for name, values in (user.get("extra") or {}).items()},
    )


def cluster_client(*, url: str, token_file: Path, ca_file: Path) -> KubernetesClient:
    """A client for the cluster's API server, with this program's own token.

    Args:
        url: the API server's URL.
        token_file: the token; kubelet renews it.
        ca_file: certificates that the server's is checked against; the system's are used when it is missing.
    """
    access = service_account(server=url, token_file=token_file, ca_file=ca_file)
    return KubernetesClient(access, user_agent="attune-api", timeout=_TIMEOUT, connections=_CONNECTIONS)
