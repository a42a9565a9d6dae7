"""Names of deliveries, for messages that their publishers have given no name. Pure."""

from collections.abc import Callable
from hashlib import sha256


class Deliveries:
    """Names of what a session has delivered to this process and what is not acknowledged.

    A broker delivers again with the same number and a mark (DUP) what was not acknowledged when the connection was lost. So it
    can be told here that it is the same message. Another process does not know its name: to it, it is another message
    (decision 125).

    Args:
        new_name: makes a name that no other delivery has.
    """

    def __init__(self, new_name: Callable[[], str]) -> None:
        self._new_name = new_name
        self._names: dict[int, tuple[bytes, str]] = {}  # by packet id: what it is, and its name

    def name(self, packet_id: int, *, again: bool, topic: str, body: bytes) -> str:
        """The name of a delivery.

        Args:
            packet_id: its number; 0: it has none, and is delivered once.
            again: the broker says that it has delivered it before.
            topic: where it was published.
            body: its body. A number that has got to another message meanwhile, by another process, is noticed by these two.
        """
        if packet_id == 0:
            return self._new_name()
        digest = sha256(b"%d %b %b" % (len(topic), topic.encode(errors="replace"), body)).digest()
        known = self._names.get(packet_id)
        if again and known is not None and known[0] == digest:
            return known[1]
        name = self._new_name()
        self._names[packet_id] = digest, name
        return name

    def acknowledge(self, packet_id: int) -> None:
        """A message was acknowledged: its number may be another message's from now on."""
        self._names.pop(packet_id, None)

    def forget(self) -> None:
        """The session is another one, or another process has read it: the numbers mean nothing any more."""
        self._names.clear()

    def __len__(self) -> int:
        """How many names are kept."""
        return len(self._names)
