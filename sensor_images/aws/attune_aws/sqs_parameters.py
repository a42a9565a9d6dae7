"""What a rule wants to read from SQS. Pure."""

import re
from collections.abc import Mapping
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from attune_aws.config import Server
from attune_kit.servers import DEFAULT_SERVER
from attune_sensor import InvalidRuleError, Rule, read_server_parameters

TYPE: Final = "core.sqsqueue"
_NAME: Final = r"[-_a-zA-Z0-9]{1,80}(?:\.fifo)?"
#: A queue's name, or its URL: https://sqs.eu-central-1.amazonaws.com/123456789012/orders.
_QUEUE: Final = re.compile(rf"(?:https?://(?P<host>[^/\s]+)/(?P<account>[0-9]{{12}})/)?(?P<name>{_NAME})")
_AMAZON: Final = re.compile(r"(?:sqs\.(?P<region>[a-z0-9-]+)|(?P<old>[a-z0-9-]+)\.queue)\.amazonaws\.com(?:\.cn)?")


class Parameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A rule's parameters (packs/aws/core.aws.yaml describes them)."""

    queue: Annotated[str, Meta(min_length=1, max_length=512)]
    server: str = DEFAULT_SERVER
    unwrap: Literal["none", "sns", "s3"] = "none"


class QueueSubscription(msgspec.Struct, frozen=True, kw_only=True):
    """What rules share when they agree in it: one queue. A message goes to one reader, so nothing else is in it.

    Attributes:
        server: a name in the Sensor's configuration.
        account: the account that has the queue; None: the server's own.
        name: the queue's name.
    """

    server: str
    account: str | None
    name: str

    @property
    def fifo(self) -> bool:
        """Whether the queue keeps an order; SQS has it in the name."""
        return self.name.endswith(".fifo")

    @property
    def place(self) -> str:
        """The first part of its messages' names."""
        return "/".join(part for part in (self.server, self.account, self.name) if part is not None)


def subscription_of(rule: Rule, *, servers: Mapping[str, Server]) -> QueueSubscription:
    """What the rule wants to read.

    Args:
        rule: the rule.
        servers: the servers that the Sensor knows.

    Raises:
        InvalidRuleError: its parameters cannot be used.
    """
    parameters = read_server_parameters(rule, Parameters, servers)
    found = _QUEUE.fullmatch(parameters.queue)
    if found is None:
        raise InvalidRuleError(
            f"parameters.queue: {parameters.queue!r} is neither the name of a queue nor a URL like "
            "https://sqs.eu-central-1.amazonaws.com/123456789012/orders"
        )
    _check_region(found["host"], servers[parameters.server])
    return QueueSubscription(server=parameters.server, account=found["account"], name=found["name"])


def _check_region(host: str | None, server: Server) -> None:
    """Requests go to the server and not to the URL's host: a rule's author may not choose whom the sensor calls."""
    amazon = _AMAZON.fullmatch(host or "")
    if amazon is None or server.region is None or server.url is not None:
        return
    region = amazon["region"] or amazon["old"]
    if region != server.region:
        raise InvalidRuleError(
            f"parameters.queue: the queue is in {region}, and the server {server.name!r} of the Sensor reads {server.region}"
        )
