"""Printing events as the API gets them."""

from __future__ import annotations

import itertools
import json
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from attune_cluster.console import ClusterError

POLL = 0.25
"""Seconds between two looks for new events."""


def _get(url: str, token: str, trusted: ssl.SSLContext | None) -> dict[str, Any]:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(request, timeout=10, context=trusted) as response:
            body: dict[str, Any] = json.load(response)
            return body
    except urllib.error.HTTPError as error:
        raise ClusterError(
            f"The API answered {error.code} to {url}: {error.read(2000).decode(errors='replace')}"
        ) from error
    except (urllib.error.URLError, TimeoutError) as error:
        raise ClusterError(f"The API cannot be reached at {url}: {error}") from error


def events(base: str, token: str, trusted: ssl.SSLContext | None) -> Iterator[dict[str, Any]]:
    """The newest stored event, and then each event that is stored from now on, in order, for ever."""
    newest = _get(f"{base}/api/v1/events?order=desc&limit=1", token, trusted)["data"]
    yield from newest
    after = newest[0]["seq"] if newest else 0
    while True:
        page = _get(f"{base}/api/v1/events?order=asc&limit=500&after_seq={after}", token, trusted)["data"]
        yield from page
        if page:
            after = page[-1]["seq"]
        else:
            time.sleep(POLL)


def show(base: str, token: str, *, trusted: ssl.SSLContext | None, count: int | None) -> None:
    """Print one line per event, until `count` were printed (None: until interrupted).

    Args:
        base: the API's address.
        token: of a caller that may read events.
        trusted: how an `https` address's certificate is checked.
        count: how many.
    """
    print(f"{'OCCURRED':27} {'STORED AFTER':>12}  {'TRIGGER TYPE':20} {'RULE':32} PAYLOAD", flush=True)
    for event in itertools.islice(events(base, token, trusted), count):
        late = datetime.fromisoformat(event["received_at"]) - datetime.fromisoformat(event["occurred_at"])
        rule = f"{event['rule_namespace']}/{event['rule_name']}"
        payload = json.dumps(event["payload"], separators=(",", ":"))
        print(
            f"{event['occurred_at']:27} {late.total_seconds() * 1000:9.1f} ms  "
            f"{event['trigger_type']:20} {rule:32} {payload[:100]}",
            flush=True,
        )
