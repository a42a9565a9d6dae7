"""One HTTP request as values: what the decisions of this sensor are made of."""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl

from attune_kit.bodies import Body
from attune_sensor import Trace, read_trace
from attune_webhook.bodies import read_body

#: A query with more fields is cut.
_MOST_QUERY_FIELDS: Final = 1000


class Request:
    """A request whose body has been read.

    Args:
        method: in upper case.
        path: decoded, without the query.
        target: path and query as they were sent.
        headers: by lower-case name; repeated headers are joined by ``", "`` (RFC 9110, section 5.2).
        body: as it was sent.
        parse_json: read the body as JSON whatever its content type is.
    """

    __slots__ = ("_body", "_query", "body", "headers", "method", "parse_json", "path", "target")

    def __init__(
        self,
        *,
        method: str,
        path: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes,
        parse_json: bool = False,
    ) -> None:
        self.method = method
        self.path = path
        self.target = target
        self.headers = headers
        self.body = body
        self.parse_json = parse_json
        self._body: Body | None = None
        self._query: dict[str, list[str]] | None = None

    @property
    def content_type(self) -> str:
        """The media type, in lower case and without parameters."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def trace(self) -> Trace:
        """The trace that the sender says it belongs to."""
        given = self.headers.get("traceparent")
        return Trace() if given is None else read_trace(given, self.headers.get("tracestate", ""))

    @property
    def query(self) -> dict[str, list[str]]:
        """Each name of the query with its values, in order."""
        if self._query is None:
            self._query = {}
            text = self.target.partition("?")[2].partition("#")[0]
            if text:
                for name, value in parse_qsl(text, keep_blank_values=True, errors="replace")[:_MOST_QUERY_FIELDS]:
                    self._query.setdefault(name, []).append(value)
        return self._query

    @property
    def read(self) -> Body:
        """The body as the event carries it; decoded once."""
        if self._body is None:
            self._body = read_body(self.body, self.headers.get("content-type", ""), parse_json=self.parse_json)
        return self._body

    def with_body(self, body: bytes) -> "Request":
        """The same request with another body: one item of a batch."""
        return Request(
            method=self.method,
            path=self.path,
            target=self.target,
            headers=self.headers,
            body=body,
            parse_json=self.parse_json,
        )


def field_of(data: Any, path: str) -> Any:
    """A value inside JSON by its path, like ``data.items.0.id``; None when there is none.

    Numbers are positions in lists. The parts of a path are separated by dots, so names with dots cannot be reached.
    """
    for part in path.split("."):
        if isinstance(data, dict):
            data = data.get(part)
        elif isinstance(data, list) and part.isascii() and part.isdigit() and len(part) < 6:
            data = data[int(part)] if int(part) < len(data) else None
        else:
            return None
    return data


def text_of(value: Any) -> str | None:
    """A string or a whole number as text; None for everything else, and for the empty string."""
    if isinstance(value, str):
        return value or None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return None
