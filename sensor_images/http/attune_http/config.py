"""The Sensor's configuration (``spec.config``): which addresses its rules may poll, and with which credentials. Pure.

Which addresses are asked is the choice of the Sensor's owner: servers with credentials, of which rules name one and a path, and
hosts without any, of which rules may write whole addresses.
"""

import re
from typing import Annotated, Any, Final

import msgspec
import yarl
from msgspec import Meta

from attune_kit.parameters import microseconds
from attune_kit.servers import Reference
from attune_sensor import SettingsError, build_named

#: Bytes of an answer, decoded: as many as are read unless the configuration says otherwise, and at most.
LARGEST: Final = 2 * 1024 * 1024
_MOST_LARGEST: Final = 8 * 1024 * 1024
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,200}")
_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]{0,8000}")
#: Headers that belong to the connection, or to how this sensor asks.
RESERVED: Final = frozenset(
    {
        *("accept-encoding", "connection", "content-length", "expect", "host", "keep-alive", "te", "trailer"),
        *("if-match", "if-modified-since", "if-none-match", "if-range", "range", "transfer-encoding", "upgrade"),
    }
)


class _Given(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """A server as it is written."""

    url: str
    headers: dict[str, str] = {}
    secret_headers: dict[str, Reference] = {}
    bearer: Reference | None = None
    username: str | None = None
    password: Reference | None = None
    ca: Reference | None = None
    redirects: list[str] = []


class _Config(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    servers: dict[str, _Given] = {}
    hosts: list[str] = []
    min_interval: str = "10s"
    max_bytes: Annotated[int, Meta(ge=1024, le=_MOST_LARGEST)] = LARGEST
    requests_per_host: Annotated[int, Meta(ge=1, le=32)] = 2


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """A server that rules may name.

    Attributes:
        name: its name in the configuration.
        url: below which rules' paths are; it ends with a slash.
        headers: sent with each request.
        secret_headers: headers whose values are keys of Secrets.
        bearer: reference of the Secret's key with a token for ``Authorization: Bearer``.
        username: for ``Authorization: Basic``.
        password: reference of the Secret's key with the password.
        ca: reference of the Secret's key with the authority that signed its certificate; None: those of the image.
        redirects: origins that its answers may redirect to; there, nothing of this goes along.
    """

    name: str
    url: str
    headers: dict[str, str] = {}
    secret_headers: dict[str, str] = {}
    bearer: str | None = None
    username: str | None = None
    password: str | None = None
    ca: str | None = None
    redirects: frozenset[str] = frozenset()


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """The configuration.

    Attributes:
        servers: by name.
        hosts: whose addresses rules may write: names, and endings of names that begin with a dot.
        min_interval: seconds between two requests of a rule, at least.
        largest: bytes of an answer, decoded.
        per_host: requests to one host at a time.
    """

    servers: dict[str, Server]
    hosts: tuple[str, ...]
    min_interval: float
    largest: int
    per_host: int


def config_of(config: dict[str, Any]) -> Config:
    """The configuration.

    Raises:
        SettingsError: it cannot be used.
    """
    try:
        given = msgspec.convert(config, type=_Config)
        interval = microseconds(given.min_interval) / 1e6
    except (msgspec.ValidationError, ValueError) as error:
        raise SettingsError(f"spec.config of the Sensor cannot be used: {error}") from None
    return Config(
        servers=build_named(given.servers, _server),
        hosts=tuple(_host(each) for each in given.hosts),
        min_interval=interval,
        largest=given.max_bytes,
        per_host=given.requests_per_host,
    )


def wrong_header(name: str, value: str) -> str | None:
    """What is wrong with a header that is to be sent; None when nothing is."""
    if not _NAME.fullmatch(name):
        return f"{name!r} is no name of a header"
    if name.lower() in RESERVED:
        return f"the header {name} is the sensor's own"
    if not _VALUE.fullmatch(value):
        return f"the value of the header {name} has characters that a header cannot have"
    return None


def origin_of(url: yarl.URL) -> str:
    """Scheme, host and port."""
    return str(url.origin())


def read_url(text: str) -> yarl.URL | None:
    """An absolute address of HTTP without credentials and fragment; None when it is none."""
    try:
        url = yarl.URL(text)
        usable = url.scheme in ("http", "https") and bool(url.host) and bool(url.port)
    except ValueError:
        return None
    return url if usable and not url.user and not url.password and not url.fragment else None


def _server(name: str, given: _Given) -> Server:
    url = read_url(given.url)
    if url is None or url.query_string:
        raise ValueError("url is not like https://api.example.com/v1, without credentials, query and fragment")
    if given.ca is not None and url.scheme == "http":
        raise ValueError("url begins with http://, so ca is never used; write https://")
    if (given.username is None) != (given.password is None) or (
        given.bearer is not None and given.username is not None
    ):
        raise ValueError("give username and password, or bearer, or neither")
    for header, value in {**given.headers, **dict.fromkeys(given.secret_headers, "")}.items():
        if (problem := wrong_header(header, value)) is not None:
            raise ValueError(problem)
    return Server(
        name=name,
        url=str(url).rstrip("/") + "/",
        headers=given.headers,
        secret_headers=given.secret_headers,
        bearer=given.bearer,
        username=given.username,
        password=given.password,
        ca=given.ca,
        redirects=frozenset(_origin(each) for each in given.redirects),
    )


def _origin(text: str) -> str:
    url = read_url(text)
    if url is None or url.path not in ("", "/") or url.query_string:
        raise ValueError(f"redirects: {text!r} is not like https://files.example.com")
    return origin_of(url)


def _host(text: str) -> str:
    name = text.lower().removeprefix("*")
    if not re.fullmatch(r"\.?[a-z0-9:]([a-z0-9.:-]*[a-z0-9:])?", name) or (text.startswith("*") and name[0] != "."):
        raise SettingsError(f"spec.config.hosts of the Sensor: {text!r} is not like example.com or *.example.com")
    return name
