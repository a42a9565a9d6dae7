"""The Sensor's configuration (``spec.config``): which databases its rules may read, and with which credentials.

They stand here and not in rules: see decision 96.
"""

import dataclasses
from pathlib import Path
from typing import Any, Final

import msgspec

from attune_kit.postgres.url import PostgresUrl, parse
from attune_kit.servers import WrittenServer
from attune_sensor import read_servers

#: What names files, which the sensor's pod does not have: the mounted Secrets are named by references.
_FILES: Final = ("sslrootcert", "sslcert", "sslkey", "sslpassword", "sslcrl")
#: Modes in which nobody looks at the server's certificate.
_UNCHECKED: Final = ("disable", "allow", "prefer")


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """A database, of one server or of several that follow each other.

    Attributes:
        name: its name in the configuration.
        url: where it is, and how to connect; without secrets.
        password: reference of the Secret's key with the password.
        ca: reference of the Secret's key with the authority that signed its certificate; None: those of the image.
    """

    name: str
    url: PostgresUrl
    password: str | None
    ca: str | None

    @property
    def where(self) -> str:
        """Host and port, or several of them."""
        return ",".join(f"{host}:{port}" for host, port in self.url.hosts)


def servers_of(config: dict[str, Any]) -> dict[str, Server]:
    """The servers by name.

    Raises:
        SettingsError: the configuration cannot be used.
    """
    return read_servers(config, WrittenServer, _server)


def connect_url(server: Server, *, password: str | None, ca_file: Path | None) -> PostgresUrl:
    """The URL with its secrets.

    Args:
        server: the server.
        password: the password, if one is needed.
        ca_file: the file with the authority of its certificate; without ``sslmode`` the certificate is then checked in full.
    """
    tls = dict(server.url.tls)
    if ca_file is not None:
        tls = {"sslmode": "verify-full", **tls, "sslrootcert": str(ca_file)}
    elif tls.get("sslmode") in ("verify-ca", "verify-full"):
        tls["sslrootcert"] = "system"
    return dataclasses.replace(server.url, password=password, tls=tls)


def _server(name: str, given: WrittenServer) -> Server:
    url = parse(given.url)
    if not url.hosts or any(host.startswith("/") for host, _ in url.hosts) or not url.database:
        raise ValueError("url is not like postgresql://user@host:5432/database")
    if url.password is not None:
        raise ValueError("url holds a password; write password as a reference like secret/key")
    if url.user is not None and given.username is not None:
        raise ValueError("url and username both say who the user is; leave one of them out")
    if (user := url.user or given.username) is None:
        raise ValueError("no user; write username, or postgresql://user@host/database")
    if url.driver:
        raise ValueError(f"url says {', '.join(url.driver)}, which is not supported; leave it out")
    if (problem := _problem_with_tls(url, ca=given.ca is not None)) is not None:
        raise ValueError(problem)
    return Server(name=name, url=dataclasses.replace(url, user=user), password=given.password, ca=given.ca)


def _problem_with_tls(url: PostgresUrl, *, ca: bool) -> str | None:
    files = [name for name in _FILES if name in url.tls and (name, url.tls[name]) != ("sslrootcert", "system")]
    mode = url.tls.get("sslmode")
    if files:
        advice = "write ca as a reference like secret/ca.crt" if files == ["sslrootcert"] else "leave it out"
        return f"url says {', '.join(files)}, but the pod has no such file; {advice}"
    if ca and mode in _UNCHECKED:
        return f"url says sslmode={mode}, so ca is never used; write sslmode=verify-full, or leave it out"
    if ca and "sslrootcert" in url.tls:
        return "url says sslrootcert=system, so ca is never used; leave one of them out"
    return None
