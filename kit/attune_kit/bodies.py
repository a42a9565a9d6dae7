"""From bytes to what an event can carry: JSON, text or base64. What somebody sends is never lost because it is no JSON."""

import base64
from typing import Any, Final

import msgspec

#: How deep a JSON body may be nested to be carried as JSON: the API's limit less what is around the body.
_DEEPEST: Final = 30


class Body(msgspec.Struct, frozen=True):
    """A body as it is carried.

    Attributes:
        encoding: ``json``, ``form``, ``text``, ``base64``, or ``none`` for an empty body.
        carried: what the payload holds; JSON as it was sent (:class:`msgspec.Raw`).
        data: the decoded JSON or the form's fields, for looking values up; None for other encodings.
    """

    encoding: str
    carried: Any
    data: Any = None


def read_body(raw: bytes) -> Body:
    """Read a body of which nobody says what it is: as JSON if it is some, else as text, else as base64."""
    if not raw:
        return Body("none", None)
    return read_json(raw) or read_text(raw)


def read_json(raw: bytes) -> Body | None:
    """The body as JSON that the API can store: not with a NUL character, nor nested without end."""
    try:
        value = msgspec.json.decode(raw)
        if b"\\u" in raw:
            msgspec.json.encode(value)  # half a surrogate pair can be decoded, but not be written anywhere
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    if not _shallow(raw, value) or (b"\\u0000" in raw and _has_nul(value)):
        return None
    return Body("json", msgspec.Raw(raw), value)


def _shallow(raw: bytes, value: Any) -> bool:
    if raw.count(b"{") + raw.count(b"[") <= _DEEPEST:
        return True
    level = [value]
    for _ in range(_DEEPEST):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return True
    return not any(isinstance(value, dict | list) for value in level)


def _inside(value: Any) -> Any:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _has_nul(value: Any) -> bool:
    """Whether a string in it has a NUL. Text that only mentions the escape of one has none."""
    todo = [value]
    while todo:
        one = todo.pop()
        if isinstance(one, str):
            if "\0" in one:
                return True
        elif isinstance(one, dict):
            if any("\0" in name for name in one):
                return True
            todo.extend(one.values())
        elif isinstance(one, list):
            todo.extend(one)
    return False


def read_text(raw: bytes) -> Body:
    """The body as text, or as base64 where it is no UTF-8 or has a NUL character."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        text = "\0"
    if "\0" not in text:
        return Body("text", text)
    return Body("base64", base64.b64encode(raw).decode("ascii"))
