"""The one place where a token becomes a caller, and a caller is let through or not."""

import hmac
from pathlib import Path

import structlog

from attune_api.identity.callers import AdminCaller, Caller, SensorCaller
from attune_api.identity.cluster import Cluster, ClusterUnavailableError, Right
from attune_api.identity.errors import InvalidTokenError, insufficient_scope, invalid_token, no_token
from attune_api.identity.keys import KeysUnavailableError
from attune_api.identity.revocation import IdentityStates, accepted_types
from attune_api.identity.tokens import TokenVerifier, looks_like_sensor_token
from attune_api.metrics import Metrics
from attune_api.web.problems import unavailable
from attune_kit.watched_file import WatchedFile

log = structlog.get_logger(__name__)


class Access:
    """Says who is calling and whether they may.

    Args:
        verifier: for sensor tokens.
        states: which of them are revoked.
        issuer: of sensor tokens, which distinguishes them from the cluster's.
        cluster: for all other tokens; None where there is no cluster.
        admin_token_file: a token that may do everything; None for none.
        metrics: refusals are counted there.
    """

    def __init__(
        self,
        *,
        verifier: TokenVerifier,
        states: IdentityStates,
        issuer: str,
        cluster: Cluster | None,
        admin_token_file: Path | None,
        metrics: Metrics,
    ) -> None:
        self._verifier = verifier
        self._states = states
        self._issuer = issuer
        self._cluster = cluster
        self._admin = WatchedFile(admin_token_file, bytes) if admin_token_file else None
        self._metrics = metrics

    def sensor(self, authorization: str | None) -> SensorCaller:
        """The sensor that calls.

        Never asks the cluster: whatever is no sensor's token is refused, so events do not depend on the API server.

        Args:
            authorization: the header of that name.

        Raises:
            ProblemError: 401, or 503 while there are no keys.
        """
        return self._sensor(_bearer(authorization, what="the sensor's token"))

    async def caller(self, authorization: str | None) -> Caller:
        """The caller.

        Args:
            authorization: the header of that name.

        Raises:
            ProblemError: 401, or 503 while it cannot be determined.
        """
        token = _bearer(authorization, what="a token")
        if self._is_admin(token):
            return AdminCaller()
        if looks_like_sensor_token(token, issuer=self._issuer):
            return self._sensor(token)
        if self._cluster is None:
            raise self._refused(InvalidTokenError("The token is not known here.", reason="unknown"))
        try:
            caller = await self._cluster.who(token)
        except ClusterUnavailableError as error:
            raise self._no_cluster(error) from None
        if caller is None:
            raise self._refused(InvalidTokenError("The cluster does not know this token.", reason="unknown"))
        return caller

    async def allows(self, caller: Caller, right: Right) -> bool:
        """Whether ``caller`` has ``right``. A sensor has none but those of its own calls.

        Raises:
            ProblemError: 503 while it cannot be determined.
        """
        match caller:
            case AdminCaller():
                return True
            case SensorCaller():
                return False
        if self._cluster is None:
            return False
        try:
            return await self._cluster.may(caller, right)
        except ClusterUnavailableError as error:
            raise self._no_cluster(error) from None

    async def require(self, caller: Caller, right: Right, *, hint: str = "") -> None:
        """Let ``caller`` through only with ``right``.

        Raises:
            ProblemError: 403, which names the right that is missing; 503 while it cannot be determined.
        """
        if not await self.allows(caller, right):
            raise insufficient_scope(f"{caller.login} may not {right}.{' ' + hint if hint else ''}")

    def _sensor(self, token: str) -> SensorCaller:
        try:
            verified = self._verifier.verify(token)
            state = self._states.get(str(verified.claims.sensor))
            return SensorCaller(claims=verified.claims, trigger_types=accepted_types(verified, state=state))
        except KeysUnavailableError as error:
            raise unavailable(str(error), kind="keys-unavailable", retry_after=2) from None
        except InvalidTokenError as error:
            raise self._refused(error) from None

    def _is_admin(self, token: str) -> bool:
        if self._admin is None:
            return False
        try:
            wanted = self._admin.read().strip()
        except OSError as error:
            log.error("admin_token_unreadable", reason=str(error))
            return False
        # An empty file must not make an empty token the admin's.
        return bool(wanted) and hmac.compare_digest(wanted, token.encode("utf-8", "surrogateescape"))

    def _refused(self, error: InvalidTokenError) -> Exception:
        self._metrics.tokens_refused.labels(error.reason).inc()
        log.info("token_refused", reason=error.reason, why=str(error))
        return invalid_token(str(error))

    @staticmethod
    def _no_cluster(error: ClusterUnavailableError) -> Exception:
        log.error("cluster_unavailable", reason=str(error))
        return unavailable(
            "The cluster's API server, which knows who may do this, does not answer.", kind="cluster-unavailable"
        )


def _bearer(authorization: str | None, *, what: str) -> str:
    """The token of an ``Authorization`` header (RFC 6750 §2.1).

    Raises:
        ProblemError: 401, there is none.
    """
    if not authorization:
        raise no_token(what)
    scheme, _, token = authorization.partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise no_token(what)
    return token
