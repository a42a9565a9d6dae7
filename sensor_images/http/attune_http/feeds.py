"""Reads feeds: RSS 2.0, RSS 1.0 and Atom. Pure.

The XML is from strangers. It may name no entity of its own and nothing outside of itself: defusedxml refuses that.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final
from xml.etree.ElementTree import Element, ParseError

import msgspec
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

#: Categories of an entry that are carried.
_MOST_CATEGORIES: Final = 50


class FeedError(ValueError):
    """It is no feed that can be read. The text says why."""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of a feed.

    Attributes:
        id: its id: of RSS the ``guid``, else the link; empty when it has neither.
        at: when it was published, or updated if it does not say; None when it says neither.
        fields: what events carry.
    """

    id: str
    at: datetime | None
    fields: dict[str, Any]


def entries_of(raw: bytes) -> list[Entry]:
    """The entries of a feed, in its order.

    Raises:
        FeedError: it is none.
    """
    try:
        root = fromstring(raw, forbid_dtd=False, forbid_entities=True, forbid_external=True)
    except DefusedXmlException as error:
        raise FeedError(f"the feed defines entities or names external ones, which is not allowed ({error})") from None
    except (ParseError, ValueError, LookupError) as error:
        raise FeedError(f"the answer is no XML: {error}") from None
    match _local(root):
        case "rss":
            channel = next(_children(root, "channel"), None)
            return [] if channel is None else [_rss(each) for each in _children(channel, "item")]
        case "RDF":
            return [_rss(each) for each in _children(root, "item")]
        case "feed":
            return [_atom(each) for each in _children(root, "entry")]
        case other:
            raise FeedError(f"the answer is XML, but no feed: its root is {other[:100]!r}, and not rss, RDF or feed")


def _rss(item: Element) -> Entry:
    link = _text(item, "link")
    published = _text(item, "pubDate") or _text(item, "date")
    about = next((value for name, value in item.attrib.items() if name.endswith("}about")), "")
    fields = {
        "title": _text(item, "title"),
        "link": link,
        "summary": _text(item, "description"),
        "content": _text(item, "encoded"),
        "author": _text(item, "author") or _text(item, "creator"),
        "published": published,
        "categories": _categories(item, lambda each: (each.text or "").strip()),
    }
    return Entry(id=_text(item, "guid") or about or link, at=_time(published), fields=_given(fields))


def _atom(entry: Element) -> Entry:
    links = [(each.get("rel", "alternate"), each.get("href", "")) for each in _children(entry, "link")]
    link = next((to for rel, to in links if rel == "alternate"), links[0][1] if links else "")
    author = next(_children(entry, "author"), None)
    published, updated = _text(entry, "published"), _text(entry, "updated")
    fields = {
        "title": _text(entry, "title"),
        "link": link,
        "summary": _text(entry, "summary"),
        "content": _text(entry, "content"),
        "author": "" if author is None else _text(author, "name"),
        "published": published,
        "updated": updated,
        "categories": _categories(entry, lambda each: each.get("term", "").strip()),
    }
    return Entry(id=_text(entry, "id") or link, at=_time(published) or _time(updated), fields=_given(fields))


def _local(element: Element) -> str:
    return str(element.tag).rpartition("}")[2]


def _children(element: Element, name: str) -> Iterator[Element]:
    return (each for each in element if _local(each) == name)


def _text(element: Element, name: str) -> str:
    """The text of the first child of this name that has some; markup in it gives its text."""
    for each in _children(element, name):
        if text := "".join(each.itertext()).strip():
            return text
    return ""


def _categories(element: Element, text: Callable[[Element], str]) -> list[str]:
    return [found for each in _children(element, "category") if (found := text(each))][:_MOST_CATEGORIES]


def _given(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value}


def _time(text: str) -> datetime | None:
    """A time as feeds write it; None when it cannot be read, or is none that an event can have."""
    found: datetime | None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        try:
            found = parsedate_to_datetime(text)
        except (ValueError, TypeError, IndexError, OverflowError):
            return None
    if found.tzinfo is None:
        found = found.replace(tzinfo=UTC)
    return found if 1980 <= found.year <= 2100 else None
