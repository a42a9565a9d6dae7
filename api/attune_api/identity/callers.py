"""Who can be calling."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from attune_contract.claims import SensorClaims


@dataclass(frozen=True, slots=True, kw_only=True)
class SensorCaller:
    """A sensor, by a token that was verified and is not revoked.

    ``trigger_types`` are those it may report now: the token's, less those that were taken from the sensor since.
    """

    claims: SensorClaims
    trigger_types: frozenset[str]

    @property
    def login(self) -> str:
        """``sensor:<namespace>/<name>``."""
        return self.claims.sensor.login


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterCaller:
    """A user or ServiceAccount of the cluster, as TokenReview names it."""

    username: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def login(self) -> str:
        """``user:<name>``; a ServiceAccount is ``service:<namespace>/<name>``."""
        account = self.username.removeprefix("system:serviceaccount:")
        if account != self.username and account.count(":") == 1:
            return "service:" + account.replace(":", "/")
        return f"user:{self.username}"


@dataclass(frozen=True, slots=True)
class AdminCaller:
    """A caller with the admin token, who may do everything."""

    @property
    def login(self) -> str:
        """``service:admin``."""
        return "service:admin"


Caller = SensorCaller | ClusterCaller | AdminCaller
