"""The HTTP sensor's rules, addresses, answers and memory; and that its manifest agrees with its program."""

import contextlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
import yaml
import yarl
from hypothesis import given, settings
from hypothesis import strategies as st
from support.rule_stream import rule_state

from attune_contract.resources import Sensor as SensorResource
from attune_http.config import config_of
from attune_http.feeds import Entry, FeedError, entries_of
from attune_http.findings import Item, items_of, part_of
from attune_http.pace import Pace, wait_of
from attune_http.parameters import Subscription, subscription_of
from attune_http.payload import Changed, payload_of
from attune_http.pointers import MISSING, value_at
from attune_http.state import MOST_KNOWN, Change, State, pack, unpack
from attune_http.targets import allowed_networks, onward
from attune_sensor import InvalidRuleError, Rule, SettingsError, SourceError

PACK = Path(__file__).parents[3] / "packs" / "http" / "core.http.yaml"
SENSOR = SensorResource.from_object(yaml.safe_load(PACK.read_text()))
DECLARED = SENSOR.spec.canonical("core.httppoll")
assert DECLARED is not None
PAYLOADS = jsonschema.Draft202012Validator(DECLARED.payload_schema or {})
PARAMETERS = jsonschema.Draft202012Validator(DECLARED.parameters_schema or {})
CONFIG = config_of(
    {
        "servers": {"default": {"url": "https://api.example.com/v1"}, "other": {"url": "http://other"}},
        "hosts": ["example.org", "*.example.net"],
    }
)
ITEMS = {"mode": "items", "id": "/id"}


def subscription(**parameters: Any) -> Subscription:
    state = rule_state(trigger_type="core.httppoll", parameters=parameters)
    return subscription_of(Rule(state=state, since_us=0), CONFIG)


@pytest.mark.parametrize(
    ("parameters", "good"),
    [
        ({}, True),
        ({"path": "a/b", "query": {"per_page": 100, "label": ["a", "b"]}, "headers": {"Accept": "text/plain"}}, True),
        ({"url": "https://www.example.net/feed?x=1", "mode": "feed"}, True),
        ({**ITEMS, "pointer": "/a~1b/0", "updates": True, "listed": "oldestFirst", "first": "report"}, True),
        ({"interval": "1h30m", "timeout": "500ms"}, True),
        ({"mode": "items"}, False),
        ({"id": "/id"}, False),
        ({"mode": "feed", "id": "/id"}, False),
        ({"mode": "other"}, False),
        ({"path": "/absolute"}, False),
        ({"path": "a?b=c"}, False),
        ({"path": "a b"}, False),
        ({"url": "https://example.org/", "path": "a"}, False),
        ({"url": "https://example.org/", "server": "default"}, False),
        ({"url": "file:///etc/passwd"}, False),
        ({"pointer": "data"}, False),
        ({"pointer": "/~2"}, False),
        ({"headers": {"a b": "c"}}, False),
        ({"headers": {"A": 5}}, False),
        ({"interval": "soon"}, False),
        ({"password": "secret"}, False),
    ],
)
def test_the_manifest_and_the_program_agree(parameters: dict[str, Any], good: bool) -> None:
    assert PARAMETERS.is_valid(parameters) == good
    if good:
        subscription(**parameters)
    else:
        with pytest.raises(InvalidRuleError):
            subscription(**parameters)


@pytest.mark.parametrize(
    ("parameters", "complaint"),
    [
        ({"interval": "9s"}, "from 10 to 86400 s"),
        ({"timeout": "11s"}, "from 0.1 to 10 s"),
        ({"headers": {"Cookie": "a"}}, "for the Sensor's owner"),
        ({"headers": {"If-None-Match": "a"}}, "the sensor's own"),
        ({"headers": {"X": "a\r\nHost: b"}}, "cannot have"),
        ({"url": "https://user:secret@example.org/"}, "without credentials"),
        ({"url": "https://example.org.evil.test/"}, "no rule poll example.org.evil.test"),
        ({"url": "https://example.net/"}, "no rule poll example.net"),
        ({"url": "http://[::ffff:169.254.169.254]/"}, "no rule poll"),
        ({"mode": "feed", "pointer": "/a"}, "not for mode: feed"),
        ({"path": "a/../../admin"}, "without '..'"),
        ({"path": "a/%252e%252e/admin"}, "without '..'"),
        ({"path": "a%5c..%5cadmin"}, "without '..'"),
        ({"server": "unknown"}, "no server 'unknown'"),
    ],
)
def test_what_the_program_alone_can_refuse(parameters: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InvalidRuleError, match=complaint):
        subscription(**parameters)


def test_where_a_rule_polls() -> None:
    assert subscription().url == "https://api.example.com/v1"
    assert subscription(path="a", query={"q": "x&y", "n": [1, 2]}).url == "https://api.example.com/v1/a?q=x%26y&n=1&n=2"
    assert subscription(url="https://example.org/f?a=b", query={"c": "d"}).url == "https://example.org/f?a=b&c=d"


def test_what_is_remembered_belongs_to_what_is_found_and_not_to_where_the_server_is() -> None:
    first = subscription(path="a", **ITEMS)
    assert subscription(path="a", interval="5m", headers={"A": "b"}, **ITEMS).fingerprint == first.fingerprint
    moved = msgspec.structs.replace(first, url="https://elsewhere/a")
    assert moved.fingerprint == first.fingerprint
    for other in ({"path": "b"}, {"server": "other", "path": "a"}, {"path": "a", "pointer": "/x"}):
        assert subscription(**other, **ITEMS).fingerprint != first.fingerprint


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ({"servers": {"a/b": {"url": "http://h"}}}, "no name"),
        ({"servers": {"a": {"url": "ftp://h"}}}, "not like https"),
        ({"servers": {"a": {"url": "https://h/?a=b"}}}, "not like https"),
        ({"servers": {"a": {"url": "http://h", "ca": "s/ca"}}}, "ca is never used"),
        ({"servers": {"a": {"url": "http://h", "username": "u"}}}, "username and password"),
        ({"servers": {"a": {"url": "http://h", "bearer": "not a reference"}}}, "servers"),
        ({"servers": {"a": {"url": "http://h", "headers": {"Host": "x"}}}}, "the sensor's own"),
        ({"servers": {"a": {"url": "http://h", "redirects": ["http://h/path"]}}}, "redirects"),
        ({"hosts": ["https://example.org"]}, "not like example.com"),
        ({"hosts": ["*"]}, "not like example.com"),
        ({"hosts": ["*example.com"]}, "not like example.com"),
        ({"minInterval": "soon"}, "duration"),
        ({"maxBytes": 10}, "maxBytes"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_configuration_that_cannot_be_used(config: dict[str, Any], complaint: str) -> None:
    with pytest.raises(SettingsError, match=complaint):
        config_of(config)


def test_the_samples_and_the_configuration_of_the_pack_can_be_used() -> None:
    config = config_of(SENSOR.spec.config or {})
    for sample in (DECLARED.parameters_schema or {})["examples"] if DECLARED else []:
        subscription_of(Rule(state=rule_state(parameters=sample), since_us=0), config)


def test_redirects_lead_where_the_owner_of_the_sensor_says() -> None:
    server = config_of({"servers": {"a": {"url": "https://a.com/v1", "redirects": ["https://cdn.com"]}}}).servers["a"]
    here = yarl.URL("https://a.com/v1/x")

    def to(location: str | None, *, hops: int = 0, hosts: tuple[str, ...] | None = None) -> str | None:
        found = onward(here, location, server=server if hosts is None else None, hosts=hosts or (), hops=hops)
        return None if found is None else str(found)

    assert to("/other#part") == "https://a.com/other"
    assert to("https://cdn.com/x") == "https://cdn.com/x"
    for other in (
        "http://cdn.com/x",
        "https://cdn.com:8443/x",
        "http://a.com/",
        "https://b.com/",
        "file:///x",
        "",
        None,
    ):
        assert to(other) is None
    assert to("/other", hops=5) is None
    assert to("https://b.com/", hosts=("b.com",)) == "https://b.com/"
    assert to("http://b.com/", hosts=("b.com",)) is None
    assert to("https://c.com/", hosts=("b.com",)) is None


def test_only_addresses_that_are_written_out_may_be_loopback_or_the_like() -> None:
    assert allowed_networks(["https://example.com", "*.example.com"]) == []
    assert allowed_networks(["http://127.0.0.1:80/", "http://[::1]/", "169.254.169.254"]) == [
        "127.0.0.1/32",
        "::1/128",
        "169.254.169.254/32",
    ]
    assert allowed_networks(["http://localhost/"]) == ["127.0.0.0/8", "::1/128"]


ATOM = b"""<?xml version="1.0"?><feed xmlns="http://www.w3.org/2005/Atom"><title>t</title>
<entry><id>urn:1</id><title type="html">A &amp; b</title><link rel="self" href="s"/><link href="https://x/1"/>
<updated>2026-11-28T10:00:00Z</updated><author><name>Ann</name></author><category term="c"/>
<content type="xhtml"><div xmlns="http://www.w3.org/1999/xhtml">Hi <b>you</b></div></content></entry></feed>"""
RDF = b"""<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns="http://purl.org/rss/1.0/"
xmlns:dc="http://purl.org/dc/elements/1.1/"><channel/><item rdf:about="https://x/1"><title>One</title>
<dc:date>2026-11-28T10:00:00+01:00</dc:date><dc:creator>Ann</dc:creator></item></rdf:RDF>"""


def test_atom_and_rss_1() -> None:
    [atom] = entries_of(ATOM)
    assert atom == Entry(
        id="urn:1",
        at=datetime(2026, 11, 28, 10, tzinfo=UTC),
        fields={
            "title": "A & b",
            "link": "https://x/1",
            "content": "Hi you",
            "author": "Ann",
            "updated": "2026-11-28T10:00:00Z",
            "categories": ["c"],
        },
    )
    [rdf] = entries_of(RDF)
    assert (rdf.id, rdf.at) == ("https://x/1", datetime(2026, 11, 28, 9, tzinfo=UTC))


def test_rss_2_is_named_by_guid_else_by_link() -> None:
    found = entries_of(
        b"<rss><channel><item><guid>g</guid><link>l</link></item><item><link>l</link><pubDate>soon</pubDate></item>"
        b"<item><title>nameless</title></item></channel></rss>"
    )
    assert [(each.id, each.at) for each in found] == [("g", None), ("l", None), ("", None)]


@pytest.mark.parametrize(
    "raw",
    [
        b'<!DOCTYPE r [<!ENTITY a "x"><!ENTITY b "&a;&a;">]><rss><channel><title>&b;</title></channel></rss>',
        b'<!DOCTYPE r [<!ENTITY a SYSTEM "file:///etc/passwd">]><rss><channel><title>&a;</title></channel></rss>',
        b"<rss><channel>",
        b"",
        b"\xff\xfe\x00",
        b'<?xml version="1.0" encoding="no-such"?><rss/>',
        b"<html/>",
    ],
)
def test_what_is_no_feed_or_tries_something(raw: bytes) -> None:
    with pytest.raises(FeedError):
        entries_of(raw)


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: f"<rss>{text}</rss>".encode()))
def test_whatever_comes_is_a_feed_or_an_error(raw: bytes) -> None:
    with contextlib.suppress(FeedError):
        entries_of(raw)


def test_a_description_of_the_document_elsewhere_is_not_read() -> None:
    """RSS 0.91 names one."""
    start = b'<!DOCTYPE rss PUBLIC "-//N//DTD RSS 0.91//EN" "file:///etc/passwd">'
    [found] = entries_of(start + b"<rss><channel><item><guid>1</guid></item></channel></rss>")
    assert found.id == "1"


@pytest.mark.parametrize(
    ("pointer", "value"),
    [("", {"a": {"b/c": [1, {"~": 2}]}, "0": 3}), ("/a/b~1c/1/~0", 2), ("/0", 3), ("/a/b~1c/0", 1)],
)
def test_a_pointer_to_a_value(pointer: str, value: Any) -> None:
    assert value_at({"a": {"b/c": [1, {"~": 2}]}, "0": 3}, pointer) == value


@pytest.mark.parametrize("pointer", ["/x", "/l/2", "/l/01", "/l/-", "/l/-1", "/l/²", "/l/99999999999", "/l/0/x", "/"])
def test_a_pointer_to_nothing(pointer: str) -> None:
    assert value_at({"l": [1, 2]}, pointer) is MISSING


def test_what_counts_as_a_change() -> None:
    whole, state = subscription(), subscription(pointer="/state")
    assert part_of(b'{"a":1,"b":2}', whole).digest == part_of(b'{ "b": 2, "a": 1 }', whole).digest
    assert part_of(b"text", whole).digest != part_of(b"text ", whole).digest
    assert part_of(b'{"state": null}', state).digest != part_of(b"{}", state).digest
    assert part_of(b"{}", state).encoding == "none"
    with pytest.raises(SourceError, match="no JSON"):
        part_of(b"<html>", state)


def test_items_by_id_and_by_version() -> None:
    raw = b'[{"id": 2, "v": 1}, {"id": 1}, {"id": 2, "v": 2}, {"id": true}, {"id": ""}, 5]'
    found = items_of(raw, subscription(**ITEMS))
    assert ([item.id for item in found.items], found.nameless) == (["2", "1"], 3)
    assert found.items[0].fields == {"id": 2, "v": 2}  # oldest first, and the first of an id counts
    versions = items_of(raw, subscription(updates=True, **ITEMS))
    assert [item.id for item in versions.items] == ["2", "1", "2"]
    assert items_of(b'{"d": [{"id": 1}]}', subscription(pointer="/d", **ITEMS)).items[0].id == "1"
    with pytest.raises(SourceError, match="no list at /x"):
        items_of(b"{}", subscription(pointer="/x", **ITEMS))
    with pytest.raises(SourceError, match="20001 items"):
        items_of(msgspec.json.encode([{"id": n} for n in range(20_001)]), subscription(**ITEMS))


def test_what_is_remembered_outlives_a_process_and_is_bounded() -> None:
    state = State(fingerprint=b"f" * 12, began=5, etag='"e"', number=3, digest=b"d" * 16)
    state.change = Change("json", b"{}", 2, 7, '"e"')
    marks = [number.to_bytes(8, "big") for number in range(MOST_KNOWN + 5)]
    state.remember(marks)
    state.remember(marks[5:6])
    assert len(state.known) == MOST_KNOWN
    assert list(state.known)[-1] == marks[5]
    packed = pack(state)
    assert unpack(packed) == state
    assert len(packed) < 2 * 1024 * 1024
    for other in (b"", b"no state", packed[:-10]):
        assert unpack(other) is None


def test_how_long_to_wait() -> None:
    pace = Pace(60.0)
    pace.succeeded(100.0, chance=0.5)
    assert pace.next_at == 160.0
    waits = []
    for _ in range(12):
        pace.failed(0.0, "why", chance=0.999999)
        waits.append(round(pace.next_at))
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60, 60, 60, 60]
    pace.failed(0.0, "why", wait=300.0)
    assert (pace.next_at, pace.why) == (300.0, "why")
    pace.succeeded(0.0)
    assert pace.why is None


def test_retry_after() -> None:
    now = datetime(2026, 11, 28, 10, tzinfo=UTC)
    assert wait_of("120", now=now) == 120
    assert wait_of("Sat, 28 Nov 2026 10:01:00 GMT", now=now) == 60
    assert wait_of("Sat, 28 Nov 2026 09:00:00 GMT", now=now) == 0
    assert wait_of("999999", now=now) == 3600
    for nothing in (None, "", "soon", "-5", "²"):
        assert wait_of(nothing, now=now) == 0


def test_payloads_are_as_declared() -> None:
    item = Item(id="1", mark=b"", name="", at=None, fields={"id": 1}, size=8)
    change = Change("json", b'{"a": 1}', 8, 0, '"e"')
    contents: list[tuple[Subscription, Item | Changed]] = [
        (subscription(**ITEMS), item),
        (subscription(url="https://example.org/"), Changed(number=1, change=change)),
        (subscription(), Changed(number=1, change=Change("text", b"t", 1, 0, ""))),
        (subscription(), Changed(number=1, change=Change("base64", b"\0", 1, 0, ""))),
        (subscription(), Changed(number=1, change=Change("none", b"", 0, 0, ""))),
        (subscription(), Changed(number=1, change=Change("json", b"", 9_000_000, 0, ""))),
    ]
    for given_subscription, content in contents:
        for whole in (True, False):
            payload = payload_of("a/b", given_subscription, content, whole=whole)
            PAYLOADS.validate(msgspec.json.decode(msgspec.json.encode(payload)))
            assert ("truncated" in payload) == (not whole or "9000000" in str(payload))
