"""The HTTP request of an action. Pure."""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final
from urllib.parse import urlencode, urljoin, urlsplit, urlunsplit

import msgspec

from attune_contract.actions import Run
from attune_contract.events import Event
from attune_contract.tracing import NO_TRACE, TRACEPARENT, TRACESTATE, Trace

_NAME: Final = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
#: What would begin another header, and what no header has (RFC 9110, 5.5).
_BAD_VALUE: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_BAD_URL: Final = re.compile(r"[\x00-\x20\x7f\\]")
_OURS: Final = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "te", "upgrade", "trailer", "keep-alive",
     "idempotency-key"}
)  # fmt: skip
#: The longest URL, and the largest body in bytes.
_LONGEST_URL: Final = 8192
_LARGEST_BODY: Final = 8 * 1024 * 1024
_MOST_REDIRECTS: Final = 5


class RequestError(ValueError):
    """The action, with its results filled in, is no request that can be sent. The text says why; it shows no values."""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A request, ready to be sent.

    Attributes:
        secret_headers: names of the headers whose values come from Secrets, in lower case.
    """

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes
    secret_headers: frozenset[str] = frozenset()

    @property
    def target(self) -> str:
        """Scheme, host and port."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}"

    def shown(self) -> str:
        """The request as people see it; values of Secrets are not in it, masks are for those that stand elsewhere."""
        lines = [f"{self.method} {self.url}"]
        for name, value in self.headers.items():
            lines.append(f"{name}: {'***' if name.lower() in self.secret_headers else value}")
        return "\n".join(lines) + f"\n\n{self.body[:1024].decode('utf-8', 'replace')}"


def secret_references(http: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """The headers whose values come from Secrets: name, Secret, key."""
    found = []
    for header in http.get("headers") or ():
        reference = (header.get("valueFrom") or {}).get("secretKeyRef")
        if reference:
            found.append((str(header["name"]), str(reference["name"]), str(reference["key"])))
    return found


def build(
    http: Mapping[str, Any],
    *,
    run: Run,
    event: Event,
    secrets: Mapping[str, str],
    agent: str,
    trace: Trace = NO_TRACE,
) -> Request:
    """The request of an action.

    Args:
        http: the action's part ``http``, with results filled in.
        run: its id is the idempotency key.
        event: what ``cloudEvent`` sends.
        secrets: values of the headers that come from Secrets, by the headers' names.
        agent: ``User-Agent``.
        trace: what the target is told of, unless the action has such headers itself.

    Raises:
        RequestError: it cannot be sent.
    """
    headers, body = _body(http, event)
    headers = {"User-Agent": agent, "Accept-Encoding": "identity", **headers}
    own = {str(header["name"]).lower() for header in http.get("headers") or ()}
    if TRACEPARENT not in own:
        headers |= trace_headers(trace)
    for header in http.get("headers") or ():
        name = str(header["name"])
        _set(headers, name, secrets[name].strip("\r\n") if name in secrets else _text(header.get("value", "")))
    headers["Idempotency-Key"] = str(run.id)
    return Request(
        method=str(http.get("method", "POST")),
        url=checked_url(_with_query(_text(http["url"]), http.get("query"))),
        headers=headers,
        body=body,
        secret_headers=frozenset(name.lower() for name in secrets),
    )


def trace_headers(trace: Trace) -> dict[str, str]:
    """The headers that tell a target of HTTP or NATS which trace a request belongs to; none without a trace."""
    if not trace.traceparent:
        return {}
    headers = {TRACEPARENT: trace.traceparent}
    if trace.tracestate:
        headers[TRACESTATE] = trace.tracestate
    return headers


def _set(headers: dict[str, str], name: str, value: str) -> None:
    if not _NAME.fullmatch(name):
        raise RequestError(f"{name!r} is no name of a header")
    if name.lower() in _OURS or name.lower().startswith("proxy-"):
        raise RequestError(f"the header {name} is set by Attune or by HTTP itself")
    if _BAD_VALUE.search(value):
        raise RequestError(f"the value of the header {name} has a line break or a control character in it")
    for there in [each for each in headers if each.lower() == name.lower()]:
        del headers[there]
    headers[name] = value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _with_query(url: str, query: Mapping[str, Any] | None) -> str:
    if not query:
        return url
    parts = urlsplit(url)
    added = urlencode({name: _text(value) for name, value in query.items()})
    return urlunsplit(parts._replace(query=f"{parts.query}&{added}" if parts.query else added))


@lru_cache(maxsize=256)
def checked_url(url: str) -> str:
    """The URL, if it is one that may be asked for.

    Raises:
        RequestError: it is none.
    """
    if len(url) > _LONGEST_URL:
        raise RequestError(f"the url has more than {_LONGEST_URL} characters")
    if _BAD_URL.search(url):
        raise RequestError("the url has a blank, a line break, a backslash or a control character in it")
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise RequestError(f"the url cannot be read: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise RequestError("the url does not begin with http:// or https:// and a host")
    if "@" in parts.netloc:
        raise RequestError("the url has a user in it; put credentials into a Secret, and name it in a header")
    if "%" in parts.hostname:
        raise RequestError("the url's host has a percent sign in it")
    return urlunsplit(parts._replace(fragment=""))


def _body(http: Mapping[str, Any], event: Event) -> tuple[dict[str, str], bytes]:
    if http.get("cloudEvent"):
        return _cloud_event(str(http["cloudEvent"]), event)
    if http.get("form") is not None:
        pairs = {name: _text(value) for name, value in http["form"].items()}
        return {"Content-Type": "application/x-www-form-urlencoded"}, urlencode(pairs).encode()
    if http.get("text") is not None:
        return {"Content-Type": "text/plain; charset=utf-8"}, _bounded(_text(http["text"]).encode())
    if "body" in http:
        return {"Content-Type": "application/json"}, _bounded(msgspec.json.encode(http["body"]))
    return {}, b""


def _bounded(body: bytes) -> bytes:
    if len(body) > _LARGEST_BODY:
        raise RequestError(f"the body has more than {_LARGEST_BODY} bytes")
    return body


def _cloud_event(mode: str, event: Event) -> tuple[dict[str, str], bytes]:
    """The event as a CloudEvent 1.0, with the attributes that it has on NATS, too."""
    attributes = {
        "specversion": "1.0",
        "id": str(event.id),
        "source": f"/attune/sensors/{event.sensor_ref}",
        "type": "dev.attune.event",
        "subject": f"{event.rule_namespace}/{event.rule_name}",
        "time": event.occurred_at,
        "triggertype": event.trigger_type,
        **trace_headers(Trace(event.traceparent, event.tracestate)),
    }
    if mode == "Structured":
        document = {**attributes, "datacontenttype": "application/json", "data": event.payload}
        return {"Content-Type": "application/cloudevents+json"}, _bounded(msgspec.json.encode(document))
    headers = {f"ce-{name}": value for name, value in attributes.items()}
    return {**headers, "Content-Type": "application/json"}, _bounded(bytes(event.payload))


def redirected(request: Request, status: int, location: str | None, *, hops: int) -> Request | None:
    """The request that an answer asks for instead; None when the answer is the end of it.

    Only what repeats the same request is followed: 307 and 308, and any redirect of GET and HEAD. To another origin neither the
    headers from Secrets nor the other headers of the action go along.

    Raises:
        RequestError: the redirect cannot be followed.
    """
    if status not in (301, 302, 303, 307, 308) or not location:
        return None
    if status not in (307, 308) and request.method not in ("GET", "HEAD"):
        return None
    if hops >= _MOST_REDIRECTS:
        raise RequestError(f"the target redirected more than {_MOST_REDIRECTS} times")
    url = checked_url(urljoin(request.url, location))
    if request.url.startswith("https:") and url.startswith("http:"):
        raise RequestError("the target redirected from https to http")
    headers = request.headers
    onward = Request(method=request.method, url=url, headers=headers, body=request.body)
    if onward.target != request.target:
        kept = ("user-agent", "accept-encoding", "content-type", "idempotency-key")
        headers = {
            name: value for name, value in headers.items() if name.lower() in kept or name.lower().startswith("ce-")
        }
    return Request(
        method=request.method,
        url=url,
        headers=headers,
        body=request.body,
        secret_headers=request.secret_headers,
    )
