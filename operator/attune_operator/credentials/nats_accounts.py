"""The accounts of the NATS server, who may do what across them, and the configuration that names them. Pure.

=============  ===========================================  ==========================================================
account        streams                                      reaches other accounts
=============  ===========================================  ==========================================================
attune         acks, identities, history, events, actions,  imports the rule stream's API as ``attune.rulesjs.…``, the
               runs and their queue                         subjects ``attune.rules.>`` and JetStream's advisories
attune-rules   rules                                        exports these
attune-sensors none: it has no JetStream                    imports the calls on consumers as ``attune.js.…`` from
                                                            ``attune-rules``, and ``attune.acks.>`` from ``attune``
=============  ===========================================  ==========================================================

The rule stream has an account of its own because a consumer may name any subject of its stream's account for deliveries:
there is nothing else to be found there. Sensors have one of their own because an answer goes to whatever subject the asker
names in its own account: no stream takes it there.

Imports of the JetStream API need a prefix of their own. An account without JetStream answers requests under ``$JS.API`` by
itself, with an error, before the answer of the account that they are imported from.
"""

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from attune_contract import subjects
from attune_operator.credentials import nats_jwt
from attune_operator.credentials.nats_keys import NatsKeys

#: Where the server keeps the accounts' JWTs, relative to its working directory.
RESOLVER_DIRECTORY: Final = "accounts"
#: A user's JWT is part of one line of the protocol; a sensor's is longer than the default of 4 KiB.
_CONTROL_LINE: Final = "64KB"
#: Connections of all sensors together: each costs the server some 30 KB, and operator, API and runner must find room.
SENSOR_CONNECTIONS: Final = 5000
_RULES_STREAM_CALLS: Final = (
    f"CONSUMER.CREATE.{subjects.RULES_STREAM}.*.{subjects.ALL_RULES}",
    f"CONSUMER.MSG.NEXT.{subjects.RULES_STREAM}.*",
    f"CONSUMER.DELETE.{subjects.RULES_STREAM}.*",
)
_ADVISORIES: Final = "$JS.EVENT.ADVISORY.STREAM.>"


def _service(name: str, subject: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "subject": subject, "type": "service", **more}


def _stream(name: str, subject: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "subject": subject, "type": "stream", **more}


def account_jwts(keys: NatsKeys, *, issued_at: datetime, revoked: Mapping[str, int]) -> dict[str, str]:
    """The JWTs of all accounts, by their public keys.

    Args:
        keys: the keys.
        issued_at: a server keeps the newest of two.
        revoked: users of the sensors' account by their public keys, and until which ``iat`` theirs are refused (seconds since
            1970). Their connections are closed at once.
    """
    public = nats_jwt.public_of
    ours, rules, sensors = public(keys.account), public(keys.rules), public(keys.sensors)
    signing: Sequence[str] = [public(keys.signing)]
    return {
        ours: nats_jwt.account_jwt(
            operator_seed=keys.operator,
            account=ours,
            name="attune",
            issued_at=issued_at,
            signing_keys=signing,
            jetstream=True,
            exports=(_service("acks", subjects.ALL_ACKS),),
            imports=(
                _service("rule stream's API", "$JS.API.>", account=rules, local_subject=f"{subjects.RULES_API}.>"),
                _service("rules", subjects.ALL_RULES, account=rules),
                _stream(
                    "advisories", _ADVISORIES, account=rules, local_subject=f"{subjects.RULES_API}.{_ADVISORIES[1:]}"
                ),
            ),
        ),
        rules: nats_jwt.account_jwt(
            operator_seed=keys.operator,
            account=rules,
            name="attune-rules",
            issued_at=issued_at,
            signing_keys=signing,
            jetstream=True,
            exports=(
                # One export for all: those that overlap make the whole account invalid.
                _service("API", "$JS.API.>", response_type="Stream"),
                _service("rules", subjects.ALL_RULES),
                _stream("advisories", _ADVISORIES),
            ),
        ),
        sensors: nats_jwt.account_jwt(
            operator_seed=keys.operator,
            account=sensors,
            name="attune-sensors",
            issued_at=issued_at,
            signing_keys=[public(keys.sensors_signing)],
            jetstream=False,
            connections=SENSOR_CONNECTIONS,
            imports=(
                _service("acks", subjects.ALL_ACKS, account=ours),
                *(
                    _service(call.split(".")[1], f"$JS.API.{call}", account=rules, local_subject=f"{subjects.SENSOR_API}.{call}")
                    for call in _RULES_STREAM_CALLS
                ),
            ),
            revocations=revoked,
        ),
    }  # fmt: skip


def server_config(keys: NatsKeys) -> str:
    """The part of the server's configuration that says whom it trusts; the rest of it is the chart's, which includes this.

    Accounts change only by their revocations, which the operator publishes; users are in no file: a new sensor needs no word
    to the server.
    """
    system = nats_jwt.public_of(keys.system)
    operator = nats_jwt.operator_jwt(seed=keys.operator, system_account=system, created=keys.created)
    accounts = {
        **account_jwts(keys, issued_at=keys.created, revoked={}),
        system: nats_jwt.account_jwt(
            operator_seed=keys.operator, account=system, name="SYS", issued_at=keys.created, jetstream=False
        ),
    }
    preload = "\n".join(f"  {name}: {token}" for name, token in accounts.items())
    return (
        "# Written by attune-operator from the Secret attune-nats-auth; changes are overwritten.\n"
        f"operator: {operator}\n"
        f"system_account: {system}\n"
        f"max_control_line: {_CONTROL_LINE}\n"
        f'resolver {{ type: full, dir: "{RESOLVER_DIRECTORY}", allow_delete: false, interval: "2m" }}\n'
        f"resolver_preload {{\n{preload}\n}}\n"
    )


def cluster_config(keys: NatsKeys, routes: Sequence[str]) -> str:
    """The part of the block ``cluster`` of the server's configuration that must be secret: a server that may connect as one
    of the cluster is trusted with everything.

    Args:
        keys: the keys. The password follows from them, so that all servers have the same one at any time.
        routes: addresses of all servers, HOST:PORT.
    """
    password = hmac.digest(keys.operator.encode(), b"attune routes", hashlib.sha256).hex()
    listed = ", ".join(f'"nats-route://attune:{password}@{route}"' for route in routes)
    return (
        "# Written by attune-operator from the Secret attune-nats-auth; changes are overwritten.\n"
        f'authorization {{ user: "attune", password: "{password}" }}\n'
        f"routes: [{listed}]\n"
    )
