"""Tokens for sensors outside the cluster (``POST /auth/sensor-token``), and the identities that they are for."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Annotated, Any, Final

import msgspec
from pydantic import BaseModel, ConfigDict, Field, field_validator
from sqlalchemy import Connection, select
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from attune_api.identity.keys import SigningKey
from attune_api.identity.tokens import mint, whole_second
from attune_api.storage.tables import METADATA
from attune_contract.claims import DEFAULT_TTL, MAX_TTL, SensorClaims
from attune_contract.identity import SensorRef
from attune_contract.messages import IdentityState
from attune_contract.names import TRIGGER_TYPE_PATTERN

IDENTITIES: Final = METADATA.tables["identities"]


class TokenRequest(BaseModel):
    """What a token is asked for."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    sensor_ref: str = Field(examples=["default/edge.thermometer"])
    """The sensor, ``namespace/name``."""
    trigger_types: Annotated[
        list[Annotated[str, Field(max_length=253, pattern=TRIGGER_TYPE_PATTERN)]], Field(min_length=1, max_length=100)
    ] = Field(examples=[["edge.temperature"]])
    """Canonical names of the trigger types that it may report."""
    ttl_seconds: Annotated[int, Field(strict=True, ge=1)] = int(DEFAULT_TTL.total_seconds())
    """How long the token is to be good for, in seconds; at most 72 h."""

    @field_validator("sensor_ref")
    @classmethod
    def _is_ref(cls, value: str) -> str:
        return str(SensorRef.parse(value))

    @field_validator("ttl_seconds")
    @classmethod
    def _is_capped(cls, value: int) -> int:
        most = int(MAX_TTL.total_seconds())
        if value > most:
            raise ValueError(f"a token may live at most {most} seconds (72 h)")
        return value

    @property
    def sensor(self) -> SensorRef:
        """The sensor that the token is for."""
        return SensorRef.parse(self.sensor_ref)


class NotMintableError(ValueError):
    """A token that would be refused as soon as it is used; the text says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MintedToken:
    """A token and what it says."""

    token: str = field(repr=False)
    claims: SensorClaims


def subject_for(request: TokenRequest, *, identity_id: uuid.UUID, state: IdentityState | None) -> str:
    """The ``sub`` of a token: the Sensor's uid where the cluster has a Sensor of that name, else the identity's id.

    Raises:
        NotMintableError: the API would refuse the token, by the state that the operator published of that Sensor.
    """
    if state is None:
        return str(identity_id)
    if state.deleted:
        raise NotMintableError(
            f"The Sensor {request.sensor_ref} was deleted, and its tokens are refused; apply it again, or use another name."
        )
    if missing := sorted(set(request.trigger_types) - set(state.trigger_types)):
        raise NotMintableError(
            f"The Sensor {request.sensor_ref} does not declare {', '.join(missing)}; it declares "
            f"{', '.join(sorted(state.trigger_types)) or 'none'}."
        )
    return state.uid


def mint_token(
    request: TokenRequest, *, subject: str, key: SigningKey, issuer: str, now: datetime, token_id: uuid.UUID
) -> MintedToken:
    """Make the token that was asked for."""
    issued_at = whole_second(now)
    claims = SensorClaims(
        issuer=issuer,
        subject=subject,
        sensor=request.sensor,
        trigger_types=tuple(dict.fromkeys(request.trigger_types)),
        issued_at=issued_at,
        expires_at=issued_at + timedelta(seconds=request.ttl_seconds),
        token_id=str(token_id),
    )
    return MintedToken(token=mint(claims, key=key), claims=claims)


class IdentityRow(msgspec.Struct, frozen=True, kw_only=True):
    """An identity as it is kept."""

    id: uuid.UUID
    login: str
    attributes: msgspec.Raw
    created_at: datetime
    updated_at: datetime


_COLUMNS: Final = tuple(IDENTITIES.c[name] for name in IdentityRow.__struct_fields__)


def ensure_identity(
    connection: Connection, *, login: str, attributes: dict[str, Any], new_id: uuid.UUID, now: datetime
) -> uuid.UUID:
    """Create the identity, or reuse it and keep the newest attributes.

    Args:
        connection: in a transaction, which the caller commits.
        login: ``sensor:<ref>``.
        attributes: what is known of it; members that are there already and not named here stay.
        new_id: its id, if it is new.
        now: the present time.

    Returns:
        its id.
    """
    insert = postgresql_insert(IDENTITIES) if connection.dialect.name == "postgresql" else sqlite_insert(IDENTITIES)
    values = {"id": new_id, "login": login, "attributes": {}, "created_at": now, "updated_at": now}
    connection.execute(insert.values(values).on_conflict_do_nothing(index_elements=["login"]))
    row = (
        connection.execute(
            select(IDENTITIES.c.id, IDENTITIES.c.attributes).where(IDENTITIES.c.login == login).with_for_update()
        )
    ).one()
    merged = {**msgspec.json.decode(row.attributes), **attributes}
    connection.execute(IDENTITIES.update().where(IDENTITIES.c.id == row.id).values(attributes=merged, updated_at=now))
    return uuid.UUID(str(row.id))


def list_identities(connection: Connection, *, after: str, limit: int) -> Sequence[IdentityRow]:
    """Identities in the order of their logins, from behind ``after``."""
    statement = select(*_COLUMNS).where(IDENTITIES.c.login > after).order_by(IDENTITIES.c.login).limit(limit)
    return [IdentityRow(**row) for row in (connection.execute(statement)).mappings()]
