"""From a request's body to what an event can carry: JSON, form fields, text or base64."""

import base64
from email.message import Message
from io import BytesIO
from typing import Any, Final
from urllib.parse import parse_qsl

import msgspec
from multipart import MultipartError, MultipartParser

from attune_kit.bodies import Body, read_json, read_text

#: Fields of a form, and parts of a multipart body.
_MOST_FIELDS: Final = 1000
_MOST_PARTS: Final = 100
_FORM: Final = "application/x-www-form-urlencoded"
_MULTIPART: Final = "multipart/form-data"


_EMPTY: Final = Body("none", None)


def read_body(raw: bytes, content_type: str, *, parse_json: bool = False) -> Body:
    """Read a body by its content type. Whatever cannot be read so is carried as text or base64, never lost.

    Args:
        raw: as it was sent.
        content_type: the header, with its parameters.
        parse_json: read it as JSON whatever the content type is.
    """
    if not raw:
        return _EMPTY
    kind = content_type.partition(";")[0].strip().lower()
    if parse_json or kind == "application/json" or kind.endswith("+json"):
        found = read_json(raw)
    elif kind == _FORM:
        found = _read_form(raw)
    elif kind == _MULTIPART:
        found = _read_multipart(raw, content_type)
    else:
        found = None
    return found or read_text(raw)


def form_fields(raw: bytes) -> list[tuple[str, str]] | None:
    """The fields of a form-encoded body in order; None when it is none."""
    try:
        return parse_qsl(raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS)
    except ValueError:
        return None


def json_items(raw: bytes) -> list[bytes] | None:
    """The items of a JSON array, each as it was sent; None when it is no array of objects."""
    try:
        items = msgspec.json.decode(raw, type=list[msgspec.Raw])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    found = [bytes(item).strip() for item in items]
    return found if all(item.startswith(b"{") for item in found) else None


def _read_form(raw: bytes) -> Body | None:
    fields = form_fields(raw)
    if not fields:
        return None
    if len(fields) == 1 and fields[0][0] == "payload":
        # How GitHub sends JSON in its form mode, and Slack its interactions.
        found = read_json(fields[0][1].encode())
        if found is not None:
            return found
    return _form([(name, value) for name, value in fields])


def _form(fields: list[tuple[str, Any]]) -> Body | None:
    """Fields by name: a field that is repeated becomes a list."""
    gathered: dict[str, list[Any]] = {}
    for name, value in fields:
        if "\0" in name or (isinstance(value, str) and "\0" in value):
            return None
        gathered.setdefault(name, []).append(value)
    data = {name: values[0] if len(values) == 1 else values for name, values in gathered.items()}
    return Body("form", data, data)


def _read_multipart(raw: bytes, content_type: str) -> Body | None:
    """Fields as text, files as objects with ``filename``, ``contentType`` and ``base64``."""
    header = Message()
    header["Content-Type"] = content_type
    boundary = header.get_param("boundary")
    if not isinstance(boundary, str) or not boundary:
        return None
    fields: list[tuple[str, Any]] = []
    try:
        parser = MultipartParser(
            BytesIO(raw),
            boundary,
            content_length=len(raw),
            part_limit=_MOST_PARTS,
            memory_limit=len(raw) + 1,
            spool_limit=len(raw) + 1,
            disk_limit=1,
            strict=True,
        )
        for part in parser:
            if part.filename is None:
                fields.append((part.name, part.value))
            else:
                content = base64.b64encode(part.raw).decode("ascii")
                kind = part.content_type or ""
                fields.append((part.name, {"filename": part.filename, "contentType": kind, "base64": content}))
    except (MultipartError, ValueError, LookupError):
        return None
    return _form(fields) if fields else None
