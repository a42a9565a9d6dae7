"""What a rule wants to read. Pure."""

from collections.abc import Mapping
from hashlib import sha256
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from attune_kit.servers import DEFAULT_SERVER
from attune_mqtt.config import Server
from attune_sensor import InvalidRuleError, Rule, read_server_parameters

_LEVEL: Final = r"[^+#/\x00-\x1f\x7f]"
#: A topic filter: ``+`` is a whole level, ``#`` all that are left.
FILTER: Final = (
    rf"^(\$share/{_LEVEL}+/)?(({_LEVEL}*|\+)/)*({_LEVEL}+|\+|#)\Z"
    rf"|^(\$share/{_LEVEL}+/)?(({_LEVEL}*|\+)/)+\Z"
)
_FIELD: Final = r"^[^.\s{}]+(\.[^.\s{}]+)*\Z"


class Parameters(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """A rule's parameters (packs/mqtt/core.mqtt.yaml describes them)."""

    topic: Annotated[str, Meta(pattern=FILTER, max_length=1024)]
    server: str = DEFAULT_SERVER
    id_property: Annotated[str, Meta(min_length=1, max_length=128)] | None = None
    id_field: Annotated[str, Meta(pattern=_FIELD, max_length=512)] | None = None
    retained: bool = False


class Subscription(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What rules share when they agree in it: a session of a broker, with one topic filter.

    Attributes:
        server: the server's name.
        topic: the topic filter.
        id_property: the user property in which publishers name their messages; None: in none.
        id_field: the path of the body's field in which they do; None: in none.
        retained: whether what the broker keeps of a topic becomes events.
    """

    server: str
    topic: str
    id_property: str | None = None
    id_field: str | None = None
    retained: bool = False


def subscription_of(rule: Rule, *, servers: Mapping[str, Server]) -> Subscription:
    """What the rule wants to read.

    Args:
        rule: the rule.
        servers: the servers that the Sensor knows, by name.

    Raises:
        InvalidRuleError: its parameters cannot be used.
    """
    parameters = read_server_parameters(rule, Parameters, servers)
    if parameters.id_property is not None and not servers[parameters.server].new:
        raise InvalidRuleError(
            f"parameters.idProperty: the server {parameters.server} is read with MQTT 3.1.1, which has no properties; "
            "use idField, or version 5"
        )
    return Subscription(
        server=parameters.server,
        topic=parameters.topic,
        id_property=parameters.id_property,
        id_field=parameters.id_field,
        retained=parameters.retained,
    )


def client_id(sensor: str, subscription: Subscription) -> str:
    """The name of the session: the same after a restart, and another one for each subscription.

    MQTT 3.1.1 lets brokers refuse more than 23 characters, and other characters than digits and letters. What a parameter does
    not say is not in it, so parameters of later releases leave the sessions of earlier ones as they are.

    Args:
        sensor: the Sensor, as namespace/name.
        subscription: what is read.
    """
    named = msgspec.json.encode((sensor, subscription), order="deterministic")
    return f"attune{sha256(named).hexdigest()[:17]}"
