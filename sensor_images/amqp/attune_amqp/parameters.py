"""What a rule wants to read. Pure."""

from collections.abc import Iterable
from typing import Annotated

import msgspec
from msgspec import Meta

from attune_kit.parameters import sentence
from attune_kit.servers import DEFAULT_SERVER, unknown_server
from attune_sensor import InvalidRuleError, Rule

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
    try:
        parameters = msgspec.convert(rule.parameters, type=Parameters)
    except msgspec.ValidationError as error:
        raise InvalidRuleError(sentence(error)) from None
    if (problem := unknown_server(parameters.server, servers)) is not None:
        raise InvalidRuleError(problem)
    return Subscription(server=parameters.server, queue=parameters.queue)
