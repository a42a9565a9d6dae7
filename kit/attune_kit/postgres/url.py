"""URLs of PostgreSQL databases, as libpq reads them (PostgreSQL manual, "Connection Strings"), for a driver that knows less.

No message of an error repeats what may be part of a password.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl, quote, unquote

SCHEMES: Final = ("postgresql", "postgres", "postgresql+asyncpg")
_PORT: Final = 5432

#: Read by asyncpg itself, from a URL.
_TLS: Final = frozenset(
    {"sslmode", "sslrootcert", "sslcert", "sslkey", "sslpassword", "sslcrl", "sslnegotiation"}
    | {"ssl_min_protocol_version", "ssl_max_protocol_version"}
)
_TLS_MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
#: Sent to the server.
_SETTINGS: Final = ("application_name", "options")
#: Handed to asyncpg.
_DRIVER: Final = ("passfile", "krbsrvname", "gsslib")
#: About what this program does by itself, or does not need: a dead server is noticed with and without them.
_WITHOUT_EFFECT: Final = frozenset(
    {"keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout", "sslcompression"}
    | {"sslsni", "load_balance_hosts", "fallback_application_name", "gssdelegation"}
)
#: What there is only one way of doing here, and the values that agree with it.
_ONLY: Final[Mapping[str, Sequence[str]]] = {
    "gssencmode": ("disable", "prefer"),
    "client_encoding": ("utf8", "utf-8", "unicode", "auto"),
    "target_session_attrs": ("any", "read-write", "primary"),
    "channel_binding": ("disable", "prefer", "require"),
}
_SECRET: Final = ("password", "sslpassword")
_ESCAPES: Final = "in a user or a password, write @ as %40, : as %3A, / as %2F, ? as %3F, # as %23 and % as %25"


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresUrl:
    """A database, and how to connect to it. What is None or empty is what asyncpg takes: ``PG…`` variables, or its defaults."""

    hosts: tuple[tuple[str, int], ...] = ()
    """Names or addresses with their ports, to be tried in this order; a name that begins with ``/`` is a socket's directory."""
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    database: str | None = None
    tls: Mapping[str, str] = field(default_factory=dict, repr=False)
    """libpq's parameters about TLS."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """What is sent to the server when connecting."""
    driver: Mapping[str, str] = field(default_factory=dict)
    """Further arguments of ``asyncpg.connect``."""
    connect_timeout: float | None = None
    """Seconds."""
    parameters: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """The query of the URL, to show it."""

    @property
    def binds_channel(self) -> bool:
        """Whether the URL asks for channel binding, which the driver does not have."""
        return ("channel_binding", "require") in self.parameters

    def tls_url(self) -> str:
        """The parameters about TLS as a URL for asyncpg, which takes some of them in no other way."""
        query = "&".join(f"{name}={quote(value, safe='')}" for name, value in self.tls.items())
        return f"postgresql:///?{query}" if query else "postgresql:///"

    def shown(self) -> str:
        """The URL without its secrets."""
        who = "" if self.user is None else quote(self.user, safe="")
        who += "" if self.password is None else ":***"
        hosts = ",".join(_shown_host(host, port) for host, port in self.hosts)
        query = "&".join(
            f"{name}={'***' if name in _SECRET else quote(value, safe='/=,:-')}"
            for name, value in self.parameters
            if name not in ("user", "password", "host", "port", "dbname", "database")
        )
        return (
            f"postgresql://{who}{'@' if who else ''}{hosts}"
            f"/{quote(self.database or '', safe='')}{'?' if query else ''}{query}"
        )


def _shown_host(host: str, port: int) -> str:
    if host.startswith("/"):
        return f"{quote(host, safe='')}:{port}"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse(url: str) -> PostgresUrl:
    """Read a URL.

    Raises:
        ValueError: it is none, or asks for what cannot be had; the text says what to write instead.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in SCHEMES:
        raise ValueError("not a database URL; write sqlite:////path/file or postgresql://user:password@host/name")
    rest, _, query = rest.partition("?")
    authority, _, path = rest.partition("/")
    if authority.count("@") > 1 or "@" in path or "#" in rest:
        raise ValueError(f"the database URL cannot be taken apart: {_ESCAPES}")
    credentials, at, where = authority.rpartition("@")
    user, colon, password = credentials.partition(":")
    parameters = _parameters(query)
    given = dict(parameters)
    hosts = _hosts(where) if where else ()
    ports = _numbers(given["port"]) if "port" in given else ()
    if "host" in given:
        # SQLAlchemy's way of writing several hosts, and libpq's.
        hosts = _hosts(",".join(value for name, value in parameters if name == "host"), unquoted=True)
    if ports:
        hosts = _with_ports(hosts, ports)
    database = given.get("dbname", given.get("database")) or unquote(path) or None
    return PostgresUrl(
        hosts=tuple((host, port or _PORT) for host, port in hosts),
        user=given.get("user") or (unquote(user) if at and user else None),
        password=given.get("password") or (unquote(password) if colon else None),
        database=database,
        tls={name: value for name, value in given.items() if name in _TLS},
        settings={name: value for name, value in given.items() if name in _SETTINGS},
        driver={name: value for name, value in given.items() if name in _DRIVER},
        connect_timeout=_seconds(given["connect_timeout"]) if "connect_timeout" in given else None,
        parameters=tuple(parameters),
    )


def _parameters(query: str) -> list[tuple[str, str]]:
    # A + stands for itself, as in libpq.
    parameters = [
        ("sslmode" if name == "ssl" else name, value)  # SQLAlchemy's name
        for name, value in parse_qsl(query.replace("+", "%2B"), keep_blank_values=True)
    ]
    if not all(re.fullmatch("[a-z_]+", name) for name, _ in parameters):
        raise ValueError(f"the database URL cannot be taken apart: {_ESCAPES}")
    parameters = [(name, value) for name, value in parameters if value]
    for name, value in parameters:
        if name in _ONLY and value.lower() not in _ONLY[name]:
            wanted = ", ".join(_ONLY[name])
            raise ValueError(f"the database URL asks for {name}={value}, which cannot be had; leave it out ({wanted})")
        if name == "sslmode" and value not in _TLS_MODES:
            raise ValueError(f"sslmode of the database URL must be one of {', '.join(_TLS_MODES)}")
        if name not in _KNOWN:
            raise ValueError(
                f"the database URL has a parameter {name!r}, which is not supported; leave it out. "
                f"Those that are: {', '.join(sorted(_KNOWN))}"
            )
    return parameters


_KNOWN: Final = (
    _TLS
    | _WITHOUT_EFFECT
    | set(_SETTINGS)
    | set(_DRIVER)
    | set(_ONLY)
    | {"host", "port", "user", "password", "dbname", "database", "connect_timeout"}
)


def _hosts(text: str, *, unquoted: bool = False) -> tuple[tuple[str, int | None], ...]:
    hosts: list[tuple[str, int | None]] = []
    for part in text.split(","):
        if unquoted and part.startswith("/"):
            hosts.append((part, None))
            continue
        found = re.fullmatch(r"(?:\[([^\]]+)\]|([^:\[\]]*))(?::([0-9]+))?", part)
        if found is None:
            raise ValueError(f"the database URL has a host or port that is none; {_ESCAPES}")
        name = found[1] or found[2]
        hosts.append((name if unquoted else unquote(name), int(found[3]) if found[3] else None))
    return tuple((host or "localhost", port) for host, port in hosts)


def _numbers(text: str) -> tuple[int, ...]:
    if not re.fullmatch(r"[0-9]+(,[0-9]+)*", text):
        raise ValueError("port of the database URL must be a number, or one for each host, with commas in between")
    return tuple(int(part) for part in text.split(","))


def _with_ports(
    hosts: tuple[tuple[str, int | None], ...], ports: tuple[int, ...]
) -> tuple[tuple[str, int | None], ...]:
    if len(ports) == 1:
        ports *= max(len(hosts), 1)
    hosts = hosts or tuple(("localhost", None) for _ in ports)
    if len(ports) != len(hosts):
        raise ValueError(
            f"the database URL has {len(hosts)} hosts and {len(ports)} ports; give one port for each, or one"
        )
    return tuple((host, own or port) for (host, own), port in zip(hosts, ports, strict=True))


def _seconds(text: str) -> float | None:
    if not re.fullmatch(r"-?[0-9]+", text):
        raise ValueError("connect_timeout of the database URL must be a whole number of seconds")
    return float(text) if int(text) > 0 else None  # not positive: no bound, which here is our own


def connect_arguments(url: PostgresUrl) -> dict[str, Any]:
    """The arguments of ``asyncpg.connect`` that are the same for each host."""
    return {"user": url.user, "password": url.password, "database": url.database, **url.driver}
