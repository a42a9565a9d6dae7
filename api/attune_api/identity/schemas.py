"""What answers about tokens, callers and keys look like, for the documentation."""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import Field

from attune_api.web.schemas import Schema, example


class TokenSchema(Schema):
    """A sensor token. It is shown this once."""

    model_config = example(
        {
            "identity_id": "3c8f6a7e-5d0b-4b8c-9a56-6a1f0f3f7c22",
            "sensor_ref": "default/edge.thermometer",
            "token": "eyJhbGciOiJFZERTQSJ9.e30.c2lnbmF0dXJl",
            "expires_at": "2026-11-24T12:00:00Z",
            "trigger_types": ["edge.temperature"],
        }
    )

    identity_id: UUID
    sensor_ref: str
    token: str
    expires_at: datetime
    trigger_types: list[str]


class TokenAnswer(Schema):
    """Answer to the request for a token."""

    data: TokenSchema


class WhoSchema(Schema):
    """Who is calling."""

    login: str = Field(examples=["sensor:attune-system/core.timer"])
    kind: Literal["sensor", "cluster", "admin"]
    trigger_types: list[str] | None = None
    """Of a sensor: what it may report now."""
    expires_at: datetime | None = None
    """Of a sensor: when its token ends."""
    groups: list[str] | None = None
    """Of a caller that the cluster knows: its groups."""


class WhoAnswer(Schema):
    """Answer to who is calling."""

    data: WhoSchema


class IdentitySchema(Schema):
    """An identity that tokens were minted for."""

    model_config = example(
        {
            "id": "3c8f6a7e-5d0b-4b8c-9a56-6a1f0f3f7c22",
            "login": "sensor:default/edge.thermometer",
            "attributes": {"trigger_types": ["edge.temperature"], "minted_by": "user:ann"},
            "created_at": "2026-11-23T12:00:00.000000Z",
            "updated_at": "2026-11-23T12:00:00.000000Z",
        }
    )

    id: UUID
    login: str
    attributes: dict[str, Any]
    created_at: datetime
    updated_at: datetime


class IdentityPage(Schema):
    """A page of identities."""

    data: list[IdentitySchema]
    next_cursor: str | None


class KeySchema(Schema):
    """A public key (RFC 8037)."""

    kty: Literal["OKP"]
    crv: Literal["Ed25519"]
    kid: str = Field(examples=["2026-11-23-1"])
    use: Literal["sig"]
    alg: Literal["EdDSA"] | None = None
    x: str = Field(examples=["11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"])


class KeySet(Schema):
    """JSON Web Key Set (RFC 7517)."""

    keys: list[KeySchema]
