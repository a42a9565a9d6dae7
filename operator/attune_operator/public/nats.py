"""NATS as the operator sets it up: its streams, and the keys and permissions of its users."""

from attune_operator.credentials.nats_accounts import account_jwts, server_config
from attune_operator.credentials.nats_jwt import Permissions, make_seed, public_of, user_creds
from attune_operator.credentials.nats_keys import NatsKeys, make_keys, sensor_seed
from attune_operator.credentials.nats_permissions import (
    EVERYTHING,
    actions_permissions,
    api_permissions,
    sensor_permissions,
)
from attune_operator.streams.definitions import acks_stream, actions_stream, rules_stream

__all__ = [
    "EVERYTHING",
    "NatsKeys",
    "Permissions",
    "account_jwts",
    "acks_stream",
    "actions_permissions",
    "actions_stream",
    "api_permissions",
    "make_keys",
    "make_seed",
    "public_of",
    "rules_stream",
    "sensor_permissions",
    "sensor_seed",
    "server_config",
    "user_creds",
]
