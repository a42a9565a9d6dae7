"""Reads messages whose properties are not what MQTT says, instead of losing the connection at each of them.

Brokers pass texts on that the client's decoder takes for a broken connection: U+FEFF, which MQTT allows, or bytes that are no
UTF-8, from brokers that do not look. The message would be delivered again and again, and those behind it never.
"""

from typing import Any

from paho.mqtt import properties
from paho.mqtt.exception import MalformedPacket


def use_lenient_decoder() -> None:
    """Have the client decode what can be decoded, and leave the rest as it is."""
    properties.readUTF = text


def text(buffer: Any, maxlen: int) -> tuple[str, int]:
    """A text and how many bytes it takes; bytes that are no UTF-8 become escapes, so different ones stay different.

    Args:
        buffer: what was received, from the text's length on.
        maxlen: how many bytes of it there are at most.

    Raises:
        MalformedPacket: there are fewer bytes than its length says.
    """
    end = 2 + int.from_bytes(buffer[:2], "big")
    if maxlen < 2 or end > maxlen:
        raise MalformedPacket("a text that is cut off")
    return bytes(buffer[2:end]).decode("utf-8", "backslashreplace"), end
