"""The API as rules about events see it, in memory: events that the test stores, and states of rules."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec

from attune_sensor.testing import FakeApi


class PatternApi(FakeApi):
    """A :class:`FakeApi` that also answers ``/api/v1/sensor/events`` and ``…/states``.

    Attributes:
        log: what is stored, oldest first.
        refused: rules for which it answers 403.
        unwritable: whether it cannot keep states now.
        after: behind which place it was asked last.
        ahead: how far its clock is ahead of the machine's.
    """

    def __init__(self) -> None:
        super().__init__()
        self.log: list[dict[str, Any]] = []
        self.refused: set[str] = set()
        self.unwritable = False
        self.after = -1
        self.ahead = timedelta()

    def now(self) -> datetime:
        """Its time."""
        return datetime.now(UTC) + self.ahead

    def store(
        self, name: str, payload: dict[str, Any], *, ago: float = 0.0, kind: str = "core.webhook"
    ) -> dict[str, Any]:
        """Store an event of a rule."""
        now = self.now()
        event = {
            "id": str(uuid.uuid4()),
            "seq": len(self.log) + 1,
            "trigger_type": kind,
            "rule_uid": f"uid-{name}",
            "rule_namespace": "default",
            "rule_name": name,
            "sensor_ref": "default/x",
            "occurred_at": (now - timedelta(seconds=ago)).isoformat(),
            "received_at": now.isoformat(),
            "payload": payload,
        }
        self.log.append(event)
        return event

    async def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes] | str:
        """Any other request."""
        if not self.available:
            return "the test says so"
        parts = urlsplit(path)
        query = parse_qs(parts.query)
        uid = query["rule_uid"][0] if query else parts.path.rpartition("/")[2]
        if uid in self.refused:
            return 403, b'{"detail": "The test says so."}'
        if parts.path.endswith("/events"):
            return 200, self._page(query)
        if method == "PUT" and self.unwritable:
            return 503, b'{"detail": "The test says so."}'
        return await super().ask(method, path, body)

    def _page(self, query: dict[str, list[str]]) -> bytes:
        newest = len(self.log)
        after = int(query["after"][0]) if "after" in query else newest
        self.after = after
        found = [event for event in self.log if event["seq"] > after and event["rule_name"] in query["name"]]
        page = {"data": found, "position": newest, "newest": newest, "asked_at": self.now().isoformat()}
        return msgspec.json.encode(page)
