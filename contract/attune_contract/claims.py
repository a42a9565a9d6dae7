"""Claims of the tokens with which sensors authenticate to the API (docs/credentials.md; RFC 7519, RFC 8037)."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from attune_contract.identity import SensorRef

ALGORITHM: Final = "EdDSA"
AUDIENCE: Final = "attune-api"
DEFAULT_ISSUER: Final = "attune-operator"
TOKEN_TYPE: Final = "sensor"  # noqa: S105 - a kind, not a secret
SCOPE: Final = "sensor"

DEFAULT_TTL: Final = timedelta(hours=24)
MAX_TTL: Final = timedelta(hours=72)
MIN_TTL: Final = timedelta(minutes=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class SensorClaims:
    """What a sensor's token says.

    ``subject`` is the Sensor's uid, so a Sensor that was deleted and created again is another subject. ``trigger_types``
    are canonical names, the only ones that the token allows.
    """

    issuer: str
    subject: str
    sensor: SensorRef
    trigger_types: tuple[str, ...]
    issued_at: datetime
    expires_at: datetime
    token_id: str

    def to_payload(self) -> dict[str, Any]:
        """The JWT's payload; times are whole seconds (RFC 7519 §2, NumericDate)."""
        issued_at = int(self.issued_at.timestamp())
        return {
            "iss": self.issuer,
            "aud": AUDIENCE,
            "sub": self.subject,
            "login": self.sensor.login,
            "iat": issued_at,
            "nbf": issued_at,
            "exp": int(self.expires_at.timestamp()),
            "jti": self.token_id,
            "token_type": TOKEN_TYPE,
            "scope": SCOPE,
            "metadata": {"trigger_types": list(self.trigger_types)},
        }

    @classmethod
    def from_payload(cls, payload: Mapping[str, Any]) -> "SensorClaims":
        """Read a payload whose signature, issuer, audience and times are already verified.

        Raises:
            ValueError: it is not a sensor's token, or a claim is missing or has another type.
        """
        if payload.get("token_type") != TOKEN_TYPE:
            raise ValueError("token_type is not 'sensor'")
        login = payload.get("login")
        if not isinstance(login, str) or not login.startswith("sensor:"):
            raise ValueError("login is not 'sensor:<namespace>/<name>'")
        metadata = payload.get("metadata")
        types = metadata.get("trigger_types") if isinstance(metadata, Mapping) else None
        if not isinstance(types, list) or not all(isinstance(name, str) for name in types):
            raise ValueError("metadata.trigger_types is not a list of names")
        subject, token_id, issuer = payload.get("sub"), payload.get("jti"), payload.get("iss")
        issued_at, expires_at = payload.get("iat"), payload.get("exp")
        if not (isinstance(subject, str) and isinstance(token_id, str) and isinstance(issuer, str)):
            raise ValueError("sub, jti or iss is missing")
        if not (isinstance(issued_at, int) and isinstance(expires_at, int)):
            raise ValueError("iat or exp is missing")
        return cls(
            issuer=issuer,
            subject=subject,
            sensor=SensorRef.parse(login.removeprefix("sensor:")),
            trigger_types=tuple(types),
            issued_at=datetime.fromtimestamp(issued_at, UTC),
            expires_at=datetime.fromtimestamp(expires_at, UTC),
            token_id=token_id,
        )
