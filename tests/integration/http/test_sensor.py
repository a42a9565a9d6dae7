"""The HTTP sensor against a real HTTP server."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.eventually import until
from support.harness_events import payloads
from support.polled_server import Page, PolledServer

from attune_http.__main__ import handler
from attune_http.state import unpack
from attune_sensor import AckState, Rule, SettingsError
from attune_sensor.testing import FakeApi, SensorHarness

TYPE = "core.httppoll"
RSS = b"""<?xml version="1.0"?><rss version="2.0"><channel><title>News</title>
<item><title>Second</title><guid>2</guid><pubDate>Sat, 28 Nov 2026 10:00:00 GMT</pubDate></item>
<item><title>First</title><guid>1</guid></item></channel></rss>"""


@pytest.fixture
def server() -> Iterator[PolledServer]:
    """A server that listens."""
    with PolledServer() as server:
        yield server


def sensor(
    server: PolledServer,
    *,
    api: FakeApi | None = None,
    secrets: Path | None = None,
    config: dict[str, Any] | None = None,
    **of_server: Any,
) -> SensorHarness:
    known = {"default": {"url": server.url, **of_server}}
    return SensorHarness(
        handler,
        trigger_types=[TYPE],
        config={"minInterval": "20ms", "servers": known, **(config or {})},
        settings={"secrets_dir": secrets},
        api=api,
    )


def rule(harness: SensorHarness, path: str = "page", **parameters: Any) -> Rule:
    return harness.apply(TYPE, {"path": path, "interval": "20ms", **parameters})


async def active(harness: SensorHarness, path: str = "page", **parameters: Any) -> Rule:
    made = rule(harness, path, **parameters)
    await harness.wait_for(made, AckState.ACTIVE)
    return made


def listing(*numbers: int, **more: Any) -> Page:
    return Page(json.dumps({"data": [{"id": number, **more} for number in numbers]}).encode())


ITEMS: dict[str, Any] = {"mode": "items", "pointer": "/data", "id": "/id"}


async def test_a_change_is_an_event_and_an_answer_that_says_the_same_is_none(server: PolledServer) -> None:
    server.pages["/page"] = Page(b'{"state": "green", "at": 1}', etag='"1"')
    async with sensor(server) as harness:
        made = await active(harness, pointer="/state")
        server.pages["/page"] = Page(b'{"at": 2, "state": "green"}', etag='"2"')
        await until(lambda: server.statuses[-2:] == [304, 304] and server.headers["If-None-Match"] == '"2"')
        server.pages["/page"] = Page(b'{"at": 3, "state": "red"}', etag='"3"')
        assert await payloads(harness, 1) == [
            {
                "server": "default",
                "url": f"{server.url}/page",
                "number": 1,
                "etag": '"3"',
                "encoding": "json",
                "body": "red",
                "rule": made.ref,
            }
        ]
        server.pages["/page"] = Page(b'{"state": "green"}')
        server.pages["/page"] = Page(b'{"state": "green", "at": 4}')
        [back] = await payloads(harness, 1)
        assert (back["number"], back["body"]) == (2, "green")


async def test_new_items_of_a_list_are_events_oldest_first_and_each_is_one(server: PolledServer) -> None:
    server.pages["/page"] = listing(2, 1)
    api = FakeApi()
    async with sensor(server, api=api) as harness:
        await active(harness, **ITEMS)
        server.pages["/page"] = listing(4, 3, 2)
        assert [each["id"] for each in await payloads(harness, 2)] == ["3", "4"]
    server.pages["/page"] = listing(6, 5, 4, 3, 2, 1)
    async with sensor(server, api=api) as harness:
        await active(harness, **ITEMS)
        found = await payloads(harness, 2)
        assert [each["item"] for each in found] == [{"id": 5}, {"id": 6}]


async def test_the_first_items_are_reported_on_demand_and_changed_ones_again(server: PolledServer) -> None:
    server.pages["/page"] = listing(1, 2, state="open")
    async with sensor(server) as harness:
        await active(harness, **ITEMS, first="report", listed="oldestFirst", updates=True)
        assert [each["id"] for each in await payloads(harness, 2)] == ["1", "2"]
        server.pages["/page"] = Page(
            b'{"data": [{"id": 1, "state": "closed"}, {"state": "open", "id": 2}, {"no": "id"}]}'
        )
        assert [each["item"] for each in await payloads(harness, 1)] == [{"id": 1, "state": "closed"}]


async def test_entries_of_a_feed_whose_address_the_rule_writes(server: PolledServer) -> None:
    server.pages["/feed"] = Page(gzip.compress(RSS), headers={"Content-Encoding": "gzip"})
    async with sensor(server, config={"hosts": ["127.0.0.1"]}) as harness:
        made = harness.apply(
            TYPE, {"url": f"{server.url}/feed?a=b", "mode": "feed", "first": "report", "interval": "1m"}
        )
        first, second = [await harness.next_event() for _ in range(2)]
        assert first.payload == {
            "url": f"{server.url}/feed?a=b",
            "rule": made.ref,
            "id": "1",
            "item": {"title": "First"},
        }
        assert second.payload["item"]["title"] == "Second"
        assert second.occurred_at.isoformat() == "2026-11-28T10:00:00+00:00"


class TakesNoEvents(FakeApi):
    """Keeps states although it takes no events now."""

    async def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes] | str:
        was, self.available = self.available, True
        try:
            return await super().ask(method, path, body)
        finally:
            self.available = was


async def test_what_was_seen_while_the_api_was_away_is_reported_though_something_else_is_there_now(
    server: PolledServer,
) -> None:
    server.pages["/page"] = Page(b"one")
    api = TakesNoEvents()
    async with sensor(server, api=api) as harness:
        made = await active(harness)
        server.pages["/page"] = Page(b"two")
        await until(lambda: len(api.events) == 1, within=60)
        api.available = False
        server.pages["/page"] = Page(b"three")

        def is_kept() -> bool:
            kept = unpack(api.states[made.uid].state)
            return kept is not None and kept.number == 2

        await until(is_kept, within=60, what="the second change is kept")
        server.pages["/page"] = Page(b"four")
    api.available = True
    async with sensor(server, api=api) as harness:
        await active(harness)
        assert [(each["number"], each["body"]) for each in await payloads(harness, 2)] == [(2, "three"), (3, "four")]


async def test_a_server_that_fails_is_told_and_asked_when_it_says(server: PolledServer) -> None:
    server.pages["/page"] = Page(status=503, headers={"Retry-After": "2"})
    async with sensor(server) as harness:
        made = rule(harness)
        assert "answers 503" in await harness.wait_for(made, AckState.FAILING)
        server.pages["/page"] = Page(b"here")
        await harness.wait_for(made, AckState.ACTIVE)
        assert server.statuses[:2] == [503, 200]


async def test_credentials_go_to_their_server_and_not_where_it_redirects_to(
    server: PolledServer, tmp_path: Path
) -> None:
    folder = tmp_path / "attune-http"
    folder.mkdir()
    (folder / "token").write_text("s3cret\n")
    (folder / "key").write_text("k3y\n")
    keys: dict[str, Any] = {
        "bearer": "attune-http/token",
        "secretHeaders": {"X-Api-Key": "attune-http/key"},
        "headers": {"X-Team": "a"},
    }
    with PolledServer(file=Page(b"from elsewhere")) as other:
        server.pages["/page"] = Page(status=302, headers={"Location": f"{other.url}/file"})
        async with sensor(server, secrets=tmp_path, **keys) as harness:
            made = rule(harness)
            message = await harness.wait_for(made, AckState.FAILING)
            assert f"redirects to {other.url}/file" in message
            assert other.asked == []
            assert server.headers["Authorization"] == "Bearer s3cret"
            assert server.headers["X-Api-Key"] == "k3y"
        async with sensor(server, secrets=tmp_path, redirects=[other.url], **keys) as harness:
            await active(harness, first="report", headers={"X-Mine": "1"})
            assert [each["body"] for each in await payloads(harness, 1)] == ["from elsewhere"]
            assert {"authorization", "x-api-key", "x-team", "x-mine"}.isdisjoint(map(str.lower, other.headers))


async def test_a_name_that_means_a_loopback_address_is_refused_unless_it_is_written_out(
    server: PolledServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.pages["/page"] = Page(b"inner")

    async def resolve(_self: Any, host: str, port: int = 0, family: Any = 0) -> list[dict[str, Any]]:
        return [{"hostname": host, "host": "127.0.0.1", "port": port, "family": 2, "proto": 0, "flags": 4}]

    monkeypatch.setattr("aiohttp.resolver.ThreadedResolver.resolve", resolve)
    url = f"http://feeds.example.com:{server.port}/"
    async with sensor(server, config={"hosts": ["*.example.com"], "servers": {"default": {"url": url}}}) as harness:
        by_server = rule(harness)
        assert "loopback" in await harness.wait_for(by_server, AckState.FAILING)
        by_host = harness.apply(TYPE, {"url": f"{url}page", "interval": "1s"}, name="other")
        assert "loopback" in await harness.wait_for(by_host, AckState.FAILING)
    assert server.asked == []


@pytest.mark.parametrize(
    ("page", "complaint"),
    [
        (Page(b"x" * 5000), "more than 4096 bytes"),
        (Page(gzip.compress(b"x" * 5_000_000), headers={"Content-Encoding": "gzip"}), "more than 4096 bytes"),
        (Page(b"no gzip", headers={"Content-Encoding": "gzip"}), "gzip"),
        (Page(b"<rss>", headers={"Content-Encoding": "br"}), "encoding br"),
        (Page(b'<!DOCTYPE x [<!ENTITY a "aaaa">]><rss>&a;</rss>'), "entities"),
        (Page(b"<html/>"), "no feed"),
        (Page(b"{}"), "no XML"),
        (Page(status=302, headers={"Location": "/page"}), "redirects"),
    ],
)
async def test_an_answer_that_cannot_be_used_is_told(server: PolledServer, page: Page, complaint: str) -> None:
    server.pages["/page"] = page
    async with sensor(server, config={"maxBytes": 4096}) as harness:
        assert complaint in await harness.wait_for(rule(harness, mode="feed"), AckState.FAILING)


async def test_an_address_that_the_sensor_does_not_allow_is_rejected(server: PolledServer) -> None:
    async with sensor(server, config={"hosts": ["*.example.com"]}) as harness:
        cases: list[tuple[dict[str, Any], str]] = [
            ({"url": "http://169.254.169.254/latest"}, "no rule poll 169.254.169.254"),
            ({"url": "https://example.com/"}, "no rule poll example.com"),
            ({"path": "../x"}, "without '..'"),
            ({"path": "a/%2e%2e/x"}, "without '..'"),
            ({"server": "other"}, "no server 'other'"),
            ({"interval": "1ms"}, "parameters.interval"),
            ({"headers": {"Authorization": "mine"}}, "for the Sensor's owner"),
        ]
        for parameters, complaint in cases:
            made = harness.apply(TYPE, parameters)
            assert complaint in await harness.wait_for(made, AckState.REJECTED)


def test_a_configuration_that_cannot_be_used_is_refused() -> None:
    with pytest.raises(SettingsError, match="without credentials"):
        SensorHarness(handler, trigger_types=[TYPE], config={"servers": {"default": {"url": "http://u:p@h/"}}})
