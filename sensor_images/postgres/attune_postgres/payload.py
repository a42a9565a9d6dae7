"""From rows and notifications to events. Pure."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from attune_kit.bodies import Body, read_body, read_json, read_text
from attune_postgres.parameters import ListenParameters, TableParameters


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A row that was read.

    Attributes:
        id: its id as text.
        size: bytes of the row as JSON.
        data: the row as a JSON object; None when it is too large to be sent.
        types: the table's columns with their types.
    """

    id: str
    size: int
    data: bytes | None
    types: Mapping[str, str]


class Notification(msgspec.Struct, frozen=True, kw_only=True):
    """A notification that was heard.

    Attributes:
        text: what it says.
        heard_at: when.
    """

    text: str
    heard_at: datetime


_COLUMNS = msgspec.json.Decoder(dict[str, msgspec.Raw])


def row_payload(rule: str, parameters: TableParameters, row: Row, *, whole: bool) -> dict[str, Any]:
    """What the event of a row carries.

    Args:
        rule: the rule, as namespace/name.
        parameters: what the rule asks for.
        row: the row.
        whole: False: say only how large it is.
    """
    payload: dict[str, Any] = {
        "server": parameters.server,
        "table": f"{parameters.schema}.{parameters.table}",
        "id": row.id,
        "rule": rule,
    }
    if not whole or row.data is None:
        return {**payload, "truncated": True, "bytes": row.size}
    columns = _COLUMNS.decode(row.data)
    if parameters.body is not None:
        if parameters.body not in columns:
            return {**payload, **_carried(row.data), "missing": parameters.body}
        body = body_of(bytes(columns.pop(parameters.body)), row.types.get(parameters.body, ""))
        payload |= {"encoding": body.encoding, "body": body.carried}
        return {**payload, **_carried(msgspec.json.encode(columns))}
    return {**payload, **_carried(row.data)}


def body_of(value: bytes, of_type: str) -> Body:
    """What a column holds, as messages of other sensors are carried: JSON if it is some, else text, else base64.

    Args:
        value: the column as PostgreSQL writes it in JSON.
        of_type: the column's type.
    """
    if value == b"null":
        return Body("none", None)
    if of_type in ("json", "jsonb"):
        return read_json(value) or read_text(value)
    if value.startswith(b'"'):
        text: str = msgspec.json.decode(value, type=str)
        if of_type == "bytea" and text.startswith("\\x"):
            return read_body(bytes.fromhex(text[2:]))
        return read_body(text.encode())
    return read_json(value) or read_text(value)


def time_of(row: bytes | None, column: str | None) -> datetime | None:
    """The time that a column of a row says; one without a zone is UTC. None for none, and for none that events can have."""
    if row is None or column is None:
        return None
    try:
        found = datetime.fromisoformat(msgspec.json.decode(_COLUMNS.decode(row)[column], type=str))
        return found.astimezone(UTC) if found.tzinfo is not None else found.replace(tzinfo=UTC)
    except (KeyError, ValueError, OverflowError, msgspec.MsgspecError):  # infinity, or before our calendar
        return None


def notification_payload(
    rule: str, parameters: ListenParameters, notification: Notification, *, whole: bool
) -> dict[str, Any]:
    """What the event of a notification carries."""
    payload: dict[str, Any] = {"server": parameters.server, "channel": parameters.channel, "rule": rule}
    raw = notification.text.encode()
    if not whole:
        return {**payload, "truncated": True, "bytes": len(raw)}
    body = read_body(raw)
    return {**payload, "encoding": body.encoding, "body": body.carried}


def _carried(row: bytes) -> dict[str, Any]:
    """A row as JSON; as text when the API cannot store it as JSON."""
    body = read_json(row)
    return {"row": body.carried} if body is not None else {"rowText": row.decode()}
