"""What a rule wants to read. Pure."""

from collections.abc import Iterable
from typing import Annotated, Any, Literal, cast

import msgspec
from msgspec import Meta

from attune_kit.servers import DEFAULT_SERVER
from attune_sensor import InvalidRuleError, Rule, read_parameters, read_server_parameters

#: PostgreSQL's identifiers have at most 63 bytes.
_Name = Annotated[str, Meta(min_length=1, max_length=63, pattern=r"^[^\x00]+\Z")]


class TableParameters(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True, tag_field="mode", tag="table"
):
    """Parameters of a rule that reads a table (packs/postgres/core.postgres.yaml describes them)."""

    server: str = DEFAULT_SERVER
    schema: _Name = "public"
    table: _Name
    id: _Name = "id"
    order: _Name | None = None
    done: Literal["delete", "mark"]
    mark: _Name | None = None
    body: _Name | None = None
    time: _Name | None = None


class ListenParameters(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    rename="camel",
    forbid_unknown_fields=True,
    tag_field="mode",
    tag="listen",
):
    """Parameters of a rule that listens on a channel."""

    server: str = DEFAULT_SERVER
    channel: _Name


Parameters = TableParameters | ListenParameters
_PARAMETERS = cast("type[Parameters]", Parameters)  # which msgspec takes for a type


class TableSubscription(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of one table, taken in one way: what rules share when they agree in it.

    Attributes:
        server: the server's name.
        schema, table: which table.
        id: the column that names a row.
        order: the column that rows are ordered by, before ``id``; None: by ``id`` alone.
        mark: the column that says that a row is done; None: rows are deleted.
        time: the column with the time of a row; None: it has none.
    """

    server: str
    schema: str
    table: str
    id: str
    order: str | None
    mark: str | None
    time: str | None


class ChannelSubscription(msgspec.Struct, frozen=True, kw_only=True):
    """Notifications on one channel."""

    server: str
    channel: str


Subscription = TableSubscription | ChannelSubscription


def parameters_of(rule: Rule) -> Parameters:
    """The parameters of a rule that was checked by :func:`subscription_of`."""
    found: Any = read_parameters(rule.parameters, _PARAMETERS)
    return cast("Parameters", found)


def subscription_of(rule: Rule, *, servers: Iterable[str]) -> Subscription:
    """What the rule wants to read.

    Args:
        rule: the rule.
        servers: the servers that the Sensor knows.

    Raises:
        InvalidRuleError: its parameters cannot be used.
    """
    parameters = read_server_parameters(rule, _PARAMETERS, servers)
    if isinstance(parameters, ListenParameters):
        return ChannelSubscription(server=parameters.server, channel=parameters.channel)
    if parameters.done == "mark" and parameters.mark is None:
        raise InvalidRuleError("parameters.mark: name the column that says that a row is done, or write done: delete")
    if parameters.done == "delete" and parameters.mark is not None:
        raise InvalidRuleError("parameters.mark: rows are deleted, so it is never used; write done: mark")
    return TableSubscription(
        server=parameters.server,
        schema=parameters.schema,
        table=parameters.table,
        id=parameters.id,
        order=parameters.order,
        mark=parameters.mark,
        time=parameters.time,
    )
