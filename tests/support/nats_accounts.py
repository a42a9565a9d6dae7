"""A NATS operator, account and users of a test's own: decentralised JWTs, as NATS's ``nsc`` makes them."""

import base64
import json
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

import nkeys
from nacl.signing import SigningKey


def _pair(prefix: int) -> nkeys.KeyPair:
    return nkeys.from_seed(bytearray(nkeys.encode_seed(bytes(SigningKey.generate()), prefix)))


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _jwt(
    *, subject: str, issuer: nkeys.KeyPair, kind: str, claims: dict[str, Any], expires_at: float | None = None
) -> str:
    payload: dict[str, Any] = {
        "jti": uuid.uuid4().hex,
        "iat": int(time.time()),
        "iss": issuer.public_key.decode(),
        "sub": subject,
        "name": kind,
        "nats": {"type": kind, "version": 2, **claims},
    }
    if expires_at is not None:
        payload["exp"] = int(expires_at)
    head = _encode(json.dumps({"typ": "JWT", "alg": "ed25519-nkey"}).encode())
    signed = f"{head}.{_encode(json.dumps(payload).encode())}"
    return f"{signed}.{_encode(issuer.sign(signed.encode()))}"


@dataclass
class NatsAccounts:
    """One operator, one account with JetStream, a system account, and users at will."""

    operator: nkeys.KeyPair = field(default_factory=lambda: _pair(nkeys.PREFIX_BYTE_OPERATOR))
    account: nkeys.KeyPair = field(default_factory=lambda: _pair(nkeys.PREFIX_BYTE_ACCOUNT))
    system: nkeys.KeyPair = field(default_factory=lambda: _pair(nkeys.PREFIX_BYTE_ACCOUNT))

    def server_config(self) -> str:
        """What goes into the server's configuration."""
        unlimited = {
            "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": True, "conn": -1, "leaf": -1,
        }  # fmt: skip
        jetstream = {"mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1}
        system = self.system.public_key.decode()
        account = self.account.public_key.decode()
        operator_jwt = _jwt(
            subject=self.operator.public_key.decode(),
            issuer=self.operator,
            kind="operator",
            claims={"system_account": system},
        )
        system_jwt = _jwt(subject=system, issuer=self.operator, kind="account", claims={"limits": unlimited})
        account_jwt = _jwt(
            subject=account, issuer=self.operator, kind="account", claims={"limits": {**unlimited, **jetstream}}
        )
        return (
            f"operator: {operator_jwt}\nsystem_account: {system}\nresolver: MEMORY\n"
            f"resolver_preload: {{ {account}: {account_jwt}, {system}: {system_jwt} }}\n"
        )

    def creds(
        self, *, publish: list[str] | None = None, subscribe: list[str] | None = None, ttl: float | None = None
    ) -> str:
        """A user's credentials file; without rights given, it may do everything."""
        user = _pair(nkeys.PREFIX_BYTE_USER)
        rights: dict[str, Any] = {"subs": -1, "data": -1, "payload": -1}
        if publish is not None:
            rights["pub"] = {"allow": publish}
        if subscribe is not None:
            rights["sub"] = {"allow": subscribe}
        jwt = _jwt(
            subject=user.public_key.decode(),
            issuer=self.account,
            kind="user",
            claims=rights,
            expires_at=None if ttl is None else time.time() + ttl,
        )
        return (
            f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{user.seed.decode()}\n------END USER NKEY SEED------\n"
        )
