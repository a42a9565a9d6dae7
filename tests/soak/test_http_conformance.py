"""The conformance kit's checks of the HTTP sensor, beside a real server. It needs no cluster, and takes a minute or two."""

import json
import time
from email.message import Message
from pathlib import Path

import pytest
from support.polled_server import Page, PolledServer
from support.source_conformance import assert_conforms

pytestmark = pytest.mark.nats

#: Nothing is sent: the list grows by the clock.
SEND = """
def send(rules):
    pass
"""


def items(_path: str, _headers: Message) -> Page:
    """An item for each half second of the last minutes."""
    now = int(time.time() * 2)
    return Page(json.dumps([{"id": number} for number in range(now, now - 240, -1)]).encode())


async def test_the_http_sensor_conforms(tmp_path: Path) -> None:
    with PolledServer(items=items) as server:
        await assert_conforms(
            tmp_path,
            module="attune_http",
            trigger_type="core.httppoll",
            parameters={
                "path": "items",
                "query": {"for": "$rule"},
                "mode": "items",
                "id": "/id",
                "interval": "200ms",
            },
            bad_parameters={"path": "items", "server": "unknown"},
            occurrence="id",
            config={"servers": {"default": {"url": server.url}}, "minInterval": "100ms"},
            send=SEND,
        )
