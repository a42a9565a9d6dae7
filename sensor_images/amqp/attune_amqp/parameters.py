"""What a rule wants to read. Pure."""

from collections.abc import Iterable
from typing import Annotated

import msgspec
from msgspec import Meta

from attune_kit.servers import DEFAULT_SERVER
from attune_sensor import Rule, read_server_parameters

#: AMQP's limit of 255 bytes holds for longer alphabets too: the broker says so.
_Name = Annotated[str, Meta(pattern=r"^[^\x00-\x1f\x7f]+\Z", max_length=255)]


class Parameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A rule's parameters (packs/amqp/core.amqp.yaml describes them)."""

    queue: _Name
    server: str = DEFAULT_SERVER


class Subscription(msgspec.Struct, frozen=True, kw_only=True):
    """What rules share when they agree in it. A second reader of a queue would take messages away from the first."""

    server: str
    queue: str


def subscription_of(rule: Rule, *, servers: Iterable[str]) -> Subscription:
    """What the rule wants to read.

    Args:
        rule: the rule.
        servers: the servers that the Sensor knows.

    Raises:
        InvalidRuleError: its parameters cannot be used.
    """
    parameters = read_server_parameters(rule, Parameters, servers)
    return Subscription(server=parameters.server, queue=parameters.queue)
