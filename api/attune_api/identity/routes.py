"""Keys, callers, identities, and tokens for sensors outside the cluster."""

import uuid
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import structlog
from fastapi import APIRouter, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import ValidationError
from sqlalchemy import Connection

from attune_api.dependencies import ANY_TOKEN, CALLER_ONLY, CallerDep, ServicesDep
from attune_api.events.table import rfc3339
from attune_api.identity.callers import Caller, ClusterCaller, SensorCaller
from attune_api.identity.cluster import Right
from attune_api.identity.keys import KeysUnavailableError, SigningKey
from attune_api.identity.minting import (
    NotMintableError,
    TokenRequest,
    ensure_identity,
    list_identities,
    mint_token,
    subject_for,
)
from attune_api.identity.schemas import IdentityPage, KeySet, TokenAnswer, WhoAnswer
from attune_api.services import Services
from attune_api.web.answers import json_answer
from attune_api.web.cursors import InvalidCursorError, decode_text, encode_text
from attune_api.web.problems import ProblemError, documented, unavailable

log = structlog.get_logger(__name__)

router = APIRouter(tags=["identity"])


@router.get(
    "/.well-known/jwks.json",
    operation_id="getKeys",
    summary="Public keys of sensor tokens",
    response_class=Response,
    responses={200: {"model": KeySet}, **documented(503)},
)
async def jwks(services: ServicesDep) -> Response:
    """The keys that sensor tokens are verified with, as a JSON Web Key Set."""
    try:
        keys = services.keys.current(at_once=True)
    except KeysUnavailableError as error:
        raise unavailable(str(error), kind="keys-unavailable", retry_after=2) from None
    return json_answer(keys.jwks(), headers={"Cache-Control": "public, max-age=30"})


@router.get(
    "/auth/whoami",
    operation_id="whoAmI",
    summary="Who is calling",
    response_class=Response,
    responses={200: {"model": WhoAnswer}, **documented(401, 503)},
    openapi_extra=ANY_TOKEN,
)
async def whoami(caller: CallerDep) -> Response:
    """Whom the token speaks for, and what it allows."""
    return json_answer({"data": _who(caller)}, headers={"Cache-Control": "no-store"})


def _who(caller: Caller) -> dict[str, Any]:
    match caller:
        case SensorCaller():
            return {
                "login": caller.login,
                "kind": "sensor",
                "trigger_types": sorted(caller.trigger_types),
                "expires_at": caller.claims.expires_at,
            }
        case ClusterCaller():
            return {"login": caller.login, "kind": "cluster", "groups": list(caller.groups)}
    return {"login": caller.login, "kind": "admin"}


#: Documented, not read by FastAPI: see attune_api.web.bodies.
_TOKEN_REQUEST: Final = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/TokenRequest"}}},
    }
}


@router.post(
    "/auth/sensor-token",
    operation_id="createSensorToken",
    summary="Mint a sensor token",
    status_code=201,
    response_class=Response,
    responses={201: {"model": TokenAnswer}, **documented(400, 401, 403, 408, 409, 413, 415, 422, 503)},
    openapi_extra={**_TOKEN_REQUEST, **CALLER_ONLY},
)
async def create_sensor_token(http_request: Request, services: ServicesDep, caller: CallerDep) -> Response:
    """A token for a sensor outside the cluster; one inside is given its own.

    The caller needs the right to `create` the subresource `sensors/token` in the sensor's namespace. The identity
    `sensor:<ref>` is created, or reused when it is there.
    """
    request = _token_request(await services.bodies.read_small(http_request))
    sensor = request.sensor
    await services.access.require(
        caller,
        Right(verb="create", resource="sensors", subresource="token", namespace=sensor.namespace, name=sensor.name),
    )
    if request.ttl_seconds < services.settings.token_min_ttl:
        raise ProblemError(
            422, f"ttl_seconds must be at least {services.settings.token_min_ttl}.", kind="invalid-request"
        )
    key = _signing_key(services)
    now = datetime.now(UTC)

    def identify(connection: Connection) -> tuple[uuid.UUID, str]:
        identity_id = ensure_identity(
            connection,
            login=sensor.login,
            attributes={"trigger_types": request.trigger_types, "minted_by": caller.login},
            new_id=uuid.uuid4(),
            now=now,
        )
        # Inside the transaction: a token that cannot be minted leaves no identity behind.
        return identity_id, subject_for(request, identity_id=identity_id, state=services.states.get(str(sensor)))

    try:
        identity_id, subject = await services.database.write(identify)
    except NotMintableError as error:
        raise ProblemError(409, str(error), kind="token-not-mintable") from None
    minted = mint_token(
        request, subject=subject, key=key, issuer=services.settings.token_issuer, now=now, token_id=uuid.uuid4()
    )
    services.metrics.tokens_minted.inc()
    log.info(
        "sensor_token_minted",
        sensor=str(sensor),
        by=caller.login,
        kid=key.kid,
        jti=minted.claims.token_id,
        trigger_types=list(minted.claims.trigger_types),
        expires_at=minted.claims.expires_at.isoformat(),
    )
    data = {
        "identity_id": identity_id,
        "sensor_ref": str(sensor),
        "token": minted.token,
        "expires_at": minted.claims.expires_at,
        "trigger_types": list(minted.claims.trigger_types),
    }
    return json_answer({"data": data}, status=201, headers={"Cache-Control": "no-store"})


def _token_request(body: bytes) -> TokenRequest:
    try:
        return TokenRequest.model_validate_json(body)
    except ValidationError as error:
        errors = error.errors(include_url=False)
        if errors[0]["type"] == "json_invalid":
            raise ProblemError(
                400, f"The body is not JSON text in UTF-8: {errors[0]['msg']}.", kind="invalid-json"
            ) from None
        raise RequestValidationError([{**each, "loc": ("body", *each["loc"])} for each in errors]) from None


def _signing_key(services: Services) -> SigningKey:
    if services.signing_keys is None:
        raise unavailable(
            "This API makes no sensor tokens. To let it: chart value api.sensorTokens.enabled=true, or the setting "
            "ATTUNE_API_SIGNING_KEYS_FILE.",
            kind="minting-off",
            retry_after=60,
        )
    try:
        key = services.signing_keys.current()
        published = services.keys.current(at_once=True).by_id.get(key.kid)
    except KeysUnavailableError as error:
        raise unavailable(str(error), kind="keys-unavailable", retry_after=2) from None
    if published is None or published.public_bytes_raw() != key.private.public_key().public_bytes_raw():
        raise unavailable(
            f"The active signing key {key.kid!r} is not among the published keys yet; ask again.",
            kind="key-not-published",
            retry_after=5,
        )
    return key


@router.get(
    "/api/v1/identities",
    operation_id="listIdentities",
    summary="List identities",
    response_class=Response,
    responses={200: {"model": IdentityPage}, **documented(400, 401, 403, 422, 503)},
    openapi_extra=CALLER_ONLY,
)
async def identities(
    services: ServicesDep,
    caller: CallerDep,
    cursor: Annotated[str | None, Query(max_length=500, description="An answer's next_cursor.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="Identities on a page at most.")] = 100,
) -> Response:
    """Whom tokens were minted for, by login. Needs the right to `list` sensors in all namespaces."""
    await services.access.require(caller, Right(verb="list", resource="sensors"))
    try:
        after = "" if cursor is None else decode_text(cursor)
    except InvalidCursorError as error:
        raise ProblemError(400, str(error), kind="invalid-cursor") from None
    rows = await services.database.read(lambda connection: list_identities(connection, after=after, limit=limit + 1))
    shown = rows[:limit]
    data = [
        {
            "id": row.id,
            "login": row.login,
            "attributes": row.attributes,
            "created_at": rfc3339(row.created_at),
            "updated_at": rfc3339(row.updated_at),
        }
        for row in shown
    ]
    more = encode_text(shown[-1].login) if len(rows) > limit else None
    return json_answer({"data": data, "next_cursor": more})
