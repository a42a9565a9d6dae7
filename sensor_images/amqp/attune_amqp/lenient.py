"""Reads messages whose properties are not what AMQP says, instead of losing the connection at each of them.

Brokers pass such properties on unread: times in microseconds, names in other encodings than UTF-8. The client's decoder takes
them for a broken connection. The message would then be delivered again and again, and those behind it never.
"""

import struct
from typing import Any

from pamqp import decode


def use_lenient_decoders() -> None:
    """Have the client decode what can be decoded, and leave the rest as it is."""
    decode.METHODS["shortstr"] = short_string
    decode.METHODS["timestamp"] = timestamp
    decode.METHODS["table"] = table
    decode.TABLE_MAPPING[b"T"] = timestamp
    decode.TABLE_MAPPING[b"F"] = table


def short_string(value: bytes) -> tuple[int, str]:
    """A string and how many bytes it takes; bytes that are no UTF-8 become escapes, so different ones stay different.

    Raises:
        ValueError: there is no length, or there are fewer bytes than it says.
    """
    if not value:
        raise ValueError("a short string without a length")
    end = value[0] + 1
    if end > len(value):
        raise ValueError("a short string that is cut off")
    return end, value[1:end].decode("utf-8", "backslashreplace")


def table(value: bytes) -> tuple[int, dict[str, Any]]:
    """A table, such as a message's headers, and how many bytes it takes; names are read as :func:`short_string` does.

    Raises:
        ValueError: there are fewer bytes than its length says, or a value is of an unknown type.
    """
    end = 4 + int.from_bytes(value[:4], "big")
    if end > len(value):
        raise ValueError("a table that is cut off")
    found: dict[str, Any] = {}
    at = 4
    while at < end:
        taken, name = short_string(value[at:end])
        at += taken
        taken, found[name] = decode.embedded_value(value[at:end])
        at += taken
    return end, found


def timestamp(value: bytes) -> tuple[int, Any]:
    """A time and how many bytes it takes; as a number when it is no time in seconds or milliseconds.

    Raises:
        ValueError: there are fewer bytes than a time has.
    """
    try:
        return decode.timestamp(value)
    except (ValueError, OverflowError, OSError):
        if len(value) < 8:
            raise
    found: tuple[int] = struct.unpack(">Q", value[:8])
    return 8, found[0]
