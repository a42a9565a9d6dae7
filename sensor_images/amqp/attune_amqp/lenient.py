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
    decode.TABLE_MAPPING[b"T"] = timestamp


def short_string(value: bytes) -> tuple[int, str]:
    """A string and how many bytes it takes; bytes that are no UTF-8 become escapes, so different ones stay different.

    Raises:
        ValueError: there is no length.
    """
    if not value:
        raise ValueError("a short string without a length")
    end = value[0] + 1
    return end, value[1:end].decode("utf-8", "backslashreplace")


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
