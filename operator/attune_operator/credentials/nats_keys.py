"""The keys of NATS's decentralised authorisation, and how the Secret ``attune-nats-auth`` holds them. Pure.

Seeds never leave that Secret and the operator's memory.
"""

import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from attune_operator.credentials import nats_jwt

_ACCOUNTS: Final = ("account", "signing", "system", "rules", "sensors", "sensors_signing")
#: Keys that a Secret written before sensors had an account of their own lacks.
_LATER: Final = ("rules", "sensors", "sensors_signing")


@dataclass(frozen=True, slots=True, kw_only=True)
class NatsKeys:
    """Seeds, left out of the representation.

    Attributes:
        operator: signs accounts.
        account: the account of operator and API, with all streams but the rules'.
        signing: signs the users of ``account`` and ``rules``.
        system: the system account, through which the operator replaces accounts.
        rules: the account of the rule stream alone.
        sensors: the account of all sensors. It has no JetStream.
        sensors_signing: signs sensors, and their keys are derived from it.
        created: when the keys were made.
    """

    operator: str = field(repr=False)
    account: str = field(repr=False)
    signing: str = field(repr=False)
    system: str = field(repr=False)
    rules: str = field(repr=False)
    sensors: str = field(repr=False)
    sensors_signing: str = field(repr=False)
    created: datetime


def make_keys(*, now: datetime, new_seed: Callable[[], bytes]) -> NatsKeys:
    """New keys, of 32 random bytes each."""
    return NatsKeys(
        operator=nats_jwt.make_seed("operator", new_seed()),
        created=now.replace(microsecond=0),
        **{name: nats_jwt.make_seed("account", new_seed()) for name in _ACCOUNTS},
    )


def dump(keys: NatsKeys) -> str:
    """The keys as the Secret holds them."""
    seeds = {name: getattr(keys, name) for name in ("operator", *_ACCOUNTS)}
    return json.dumps({**seeds, "created": keys.created.isoformat()}, indent=1)


def load(text: str, *, new_seed: Callable[[], bytes]) -> NatsKeys:
    """Read what :func:`dump` wrote. Keys that an older version did not have are made.

    Raises:
        ValueError: the text is damaged.
    """
    try:
        document = json.loads(text)
        seeds = {
            name: str(document[name])
            if name in document or name not in _LATER
            else nats_jwt.make_seed("account", new_seed())
            for name in ("operator", *_ACCOUNTS)
        }
        letters = [nats_jwt.public_of(seed)[0] for seed in seeds.values()]
        keys = NatsKeys(**seeds, created=datetime.fromisoformat(document["created"]))
    except (ValueError, KeyError, TypeError, UnicodeEncodeError):
        raise ValueError("it does not hold NATS keys") from None
    if letters != ["O", *("A" for _ in _ACCOUNTS)] or keys.created.tzinfo is None:
        raise ValueError("its NATS keys have other roles than they should")
    return keys


def sensor_seed(keys: NatsKeys, uid: str) -> str:
    """The user key of the Sensor with this uid.

    It is derived, so that it stays the same when its JWT is renewed: to revoke a Sensor, whatever it was given, one entry in
    the account's JWT is enough, and nothing has to be remembered of each renewal.
    """
    raw = hmac.digest(keys.sensors_signing.encode(), b"attune sensor " + uid.encode(), hashlib.sha256)
    return nats_jwt.make_seed("user", raw)
