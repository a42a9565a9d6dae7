"""One Sensor's credentials: reads what is in its Secret, asks the policy, and creates new ones. Talks to nothing outside.

The reconciler writes what it returns. The token itself leaves only in :attr:`Issued.files`.
"""

import base64
import secrets
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from attune_contract import claims, environment, names
from attune_contract.claims import SensorClaims
from attune_contract.identity import SensorRef
from attune_contract.resources import Sensor
from attune_operator.credentials import mint, policy
from attune_operator.credentials.keys import KeySet
from attune_operator.credentials.mint import DamagedError, ReadToken
from attune_operator.credentials.policy import Input, NatsUser, Renewal
from attune_operator.resources.companions import NOT_BEFORE


class NatsUsers(Protocol):
    """Creates and reads NATS credentials of sensors."""

    def issue(self, ref: SensorRef, *, uid: str, issued_at: datetime, expires_at: datetime) -> str:
        """Return the text of ``nats.creds``."""
        ...

    def read(self, ref: SensorRef, text: str, *, uid: str) -> NatsUser:
        """Return who the credentials are for.

        Raises:
            DamagedError: the operator did not create them.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Requests:
    """What the Sensor's annotations request; ``problems`` are sentences about those that cannot be read."""

    rotate_at: datetime | None = None
    revoke_before: datetime | None = None
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """New credentials. ``files`` are secret and left out of the representation."""

    files: dict[str, str] = field(repr=False)
    token: ReadToken


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessment:
    """What is in the Secret, and what the policy says of it.

    ``files`` is what the Secret holds now (only the files that belong there). ``accepted_from`` is the earliest ``iat`` that
    the API accepts, in seconds since the epoch. ``warnings`` are sentences for the condition CredentialsValid.
    """

    input: Input
    renewal: Renewal | None
    accepted_from: int | None
    files: dict[str, str] = field(repr=False)
    warnings: tuple[str, ...] = ()


def parse_time(text: str) -> datetime:
    """Read a time with its zone (RFC 3339).

    Raises:
        ValueError: it is not one.
    """
    parsed = datetime.fromisoformat(text.strip())
    if parsed.tzinfo is None:
        raise ValueError("the time has no zone")
    return parsed.astimezone(UTC)


def requests(annotations: Mapping[str, str]) -> Requests:
    """Read the annotations ``attune.dev/rotate-at`` and ``attune.dev/revoke-before``."""
    times: dict[str, datetime | None] = {}
    problems = []
    for name in (names.ROTATE_AT, names.REVOKE_BEFORE):
        text = annotations.get(name)
        try:
            times[name] = None if text is None else parse_time(text)
        except (ValueError, OverflowError):
            times[name] = None
            problems.append(
                f"The annotation {name} is not a time. Example: 2026-11-23T12:00:00Z (`date -u +%Y-%m-%dT%H:%M:%SZ`)."
            )
    return Requests(
        rotate_at=times[names.ROTATE_AT], revoke_before=times[names.REVOKE_BEFORE], problems=tuple(problems)
    )


def effective_ttl(wanted: timedelta, *, shortest: timedelta) -> tuple[timedelta, str]:
    """Return the lifetime within its limits, and a sentence if that is not the requested one."""
    ttl = min(max(wanted, shortest), claims.MAX_TTL)
    if ttl == wanted:
        return ttl, ""
    which = "shortest" if ttl > wanted else "longest"
    return ttl, f"spec.token.ttl is {wanted}, but the {which} lifetime is {ttl}, which is used."


class Issuer:
    """Assesses and creates credentials. ``nats`` is None where sensors need none for NATS."""

    def __init__(
        self,
        *,
        issuer: str,
        shortest_ttl: timedelta,
        keys: Callable[[], KeySet],
        nats: NatsUsers | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        new_id: Callable[[], str] = lambda: str(uuid.UUID(bytes=secrets.token_bytes(16), version=4)),
    ) -> None:
        self._issuer = issuer
        self._shortest_ttl = shortest_ttl
        self._keys = keys
        self._nats = nats
        self._now = now
        self._new_id = new_id

    def assess(self, sensor: Sensor, secret: Mapping[str, Any] | None) -> Assessment:
        """Assess what is in the Sensor's Secret (None: there is none)."""
        keys, encoded = self._keys(), (secret or {}).get("data") or {}
        files, damage = {}, {}
        for name in self._file_names():
            if name in encoded:
                try:
                    files[name] = base64.b64decode(encoded[name], validate=True).decode()
                except ValueError:
                    damage[name] = "it is not text"
        token, nats = None, None
        if environment.TOKEN_KEY in files:
            try:
                token = mint.read(files[environment.TOKEN_KEY], keys=keys, issuer=self._issuer)
            except DamagedError as error:
                damage[environment.TOKEN_KEY] = str(error)
        if self._nats is not None and environment.NATS_CREDS_KEY in files:
            try:
                nats = self._nats.read(
                    sensor.ref,
                    files[environment.NATS_CREDS_KEY],
                    uid=sensor.metadata.uid,
                )
            except DamagedError as error:
                damage[environment.NATS_CREDS_KEY] = str(error)
        requested = requests(sensor.metadata.annotations)
        ttl, warning = effective_ttl(sensor.spec.token.lifetime(), shortest=self._shortest_ttl)
        data = Input(
            ref=sensor.ref,
            uid=sensor.metadata.uid,
            trigger_types=tuple(declared.name for declared in sensor.spec.trigger_types),
            ttl=ttl,
            now=self._now(),
            keys=keys,
            secret_exists=secret is not None,
            token=token,
            damage=damage.get(environment.TOKEN_KEY, ""),
            not_before=_not_before(secret),
            nats_wanted=self._nats is not None,
            nats=nats,
            nats_damage=damage.get(environment.NATS_CREDS_KEY, ""),
            rotate_at=requested.rotate_at,
            revoke_before=requested.revoke_before,
        )
        renewal = policy.decide(data)
        return Assessment(
            input=data,
            renewal=renewal,
            accepted_from=policy.accepted_from(data, renewal),
            files=files,
            warnings=(*((warning,) if warning else ()), *requested.problems),
        )

    def _file_names(self) -> tuple[str, ...]:
        return (environment.TOKEN_KEY,) + ((environment.NATS_CREDS_KEY,) if self._nats is not None else ())

    def issue(self, assessed: Assessment) -> Issued:
        """Create new credentials.

        Raises:
            ValueError: there is no key to sign with, or the result could not be read back: it would be found damaged and
                be created again, without end.
        """
        data = assessed.input
        key = data.keys.signing_key
        if key is None:
            raise ValueError("there is no signing key yet")
        # Whole seconds: NumericDate has no use for more, and what is written must equal what is read.
        issued_at = self._now().replace(microsecond=0)
        token = SensorClaims(
            issuer=self._issuer,
            subject=data.uid,
            sensor=data.ref,
            trigger_types=data.trigger_types,
            issued_at=issued_at,
            expires_at=issued_at + data.ttl,
            token_id=self._new_id(),
        )
        files = {environment.TOKEN_KEY: mint.mint(token, key=key)}
        try:
            mint.read(files[environment.TOKEN_KEY], keys=data.keys, issuer=self._issuer)
        except DamagedError as error:
            raise ValueError(f"no token can be created for it: {error}") from None
        if self._nats is not None:
            files[environment.NATS_CREDS_KEY] = self._nats.issue(
                data.ref, uid=data.uid, issued_at=issued_at, expires_at=token.expires_at
            )
        return Issued(files=files, token=ReadToken(kid=key.kid, claims=token))


def _not_before(secret: Mapping[str, Any] | None) -> int | None:
    annotations = ((secret or {}).get("metadata") or {}).get("annotations") or {}
    try:
        return int(annotations[NOT_BEFORE])
    except (KeyError, ValueError):
        return None
