"""How an API server is reached, and as whom: a pod's ServiceAccount, or a kubeconfig as kubectl reads it.

A kubeconfig may be several files, with relative paths, tokens, certificates and credential plugins (``exec``). Source:
the Kubernetes documentation, "Organizing Cluster Access Using kubeconfig Files" and "client-go credential plugins". The
official Python client reads them too, but importing `kubernetes.aio` costs 50 MiB of memory.
"""

import base64
import json
import os
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from attune_kit.watched_file import WatchedFile

_EXEC_TIMEOUT: Final = 120.0
#: A credential that expires within this time is fetched again.
_SLACK: Final = timedelta(seconds=30)
_SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")

Bearer = Callable[[], str | None]


class AccessError(Exception):
    """There is no usable access. The text is a sentence that says why, and names the file."""


class PluginError(AccessError):
    """A credential plugin failed, or printed no credential."""


@dataclass(frozen=True, kw_only=True)
class Access:
    """How an API server is reached, and as whom.

    Attributes:
        server: its URL.
        verify: for TLS; carries the client's certificate, if there is one.
        bearer: the token to send now, or None; may run a plugin, which takes a while (``slow``).
        slow: whether ``bearer`` may block for longer than a file takes to read.
        headers: headers to send with each request.
        server_name: what the server's certificate is checked against, when it is not the URL's host.
        proxy: URL of a proxy, or None.
        namespace: the namespace to use where none is named.
        origin: where this was found, for people.
        authority: the certificates that the server's is checked against (PEM); None for the system's.
        certificate: the client's certificate and its key (PEM), or None.
    """

    server: str
    verify: ssl.SSLContext
    bearer: Bearer = field(repr=False)
    slow: bool = False
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    server_name: str | None = None
    proxy: str | None = None
    namespace: str = "default"
    origin: str = ""
    authority: bytes | None = field(default=None, repr=False)
    certificate: tuple[bytes, bytes] | None = field(default=None, repr=False)


def find_access(environment: Mapping[str, str], *, account: Path = _SERVICE_ACCOUNT) -> Access:
    """What a program uses: ``KUBECONFIG`` when it is set, else the pod's ServiceAccount, else ``~/.kube/config``.

    Args:
        environment: the environment variables.
        account: where a pod finds its ServiceAccount.

    Raises:
        AccessError: there is none of them, or it cannot be used.
    """
    if not environment.get("KUBECONFIG") and "KUBERNETES_SERVICE_HOST" in environment:
        access = in_cluster(environment, account=account)
        if access is None:
            raise AccessError(f"There is no ServiceAccount token in {account}.")
        return access
    paths = files(None, environment)
    if not paths:
        raise AccessError("There is no kubeconfig. Run in a pod, or set KUBECONFIG to a kubeconfig file.")
    return load(paths, context=None)


def files(explicit: Path | None, environment: Mapping[str, str]) -> list[Path]:
    """The files that count, in their order: the one that was named, or those of ``KUBECONFIG``, or ``~/.kube/config``.

    Raises:
        AccessError: the one that was named is not there.
    """
    if explicit is not None:
        if not explicit.is_file():
            raise AccessError(f"There is no kubeconfig {explicit}.")
        return [explicit]
    if listed := environment.get("KUBECONFIG"):
        return [path for name in listed.split(os.pathsep) if name and (path := Path(name)).is_file()]
    usual = Path(environment.get("HOME", "/")) / ".kube" / "config"
    return [usual] if usual.is_file() else []


def load(paths: list[Path], *, context: str | None) -> Access:
    """The access that a context of these files gives.

    Raises:
        AccessError: the files are no kubeconfig, or there is no such context.
    """
    merged = _merge(paths)
    where = ", ".join(map(str, paths))
    name = context or merged.current
    if not name:
        raise AccessError(f"{where} has no current context: name one with --context ({_names(merged.contexts)}).")
    chosen = merged.contexts.get(name)
    if chosen is None:
        raise AccessError(f"There is no context {name} in {where}: there are {_names(merged.contexts)}.")
    cluster = merged.clusters.get(str(chosen.get("cluster")))
    if cluster is None or not cluster.get("server"):
        raise AccessError(f"The context {name} in {where} names no cluster with a server.")
    user = merged.users.get(str(chosen.get("user")), _Entry({}, Path()))
    return _access(
        cluster, user, namespace=str(chosen.get("namespace") or "default"), origin=f"context {name} of {where}"
    )


def in_cluster(environment: Mapping[str, str], *, account: Path = _SERVICE_ACCOUNT) -> Access | None:
    """Access as the ServiceAccount of the pod that we run in; None when we run in none."""
    host, port = environment.get("KUBERNETES_SERVICE_HOST"), environment.get("KUBERNETES_SERVICE_PORT", "443")
    if not host or not (account / "token").is_file():
        return None
    namespace = account / "namespace"
    return service_account(
        server=f"https://{f'[{host}]' if ':' in host else host}:{port}",
        token_file=account / "token",
        ca_file=account / "ca.crt",
        namespace=namespace.read_text().strip() if namespace.is_file() else "default",
    )


def service_account(*, server: str, token_file: Path, ca_file: Path, namespace: str = "default") -> Access:
    """Access by a token in a file, which kubelet renews.

    Args:
        server: the API server's URL.
        token_file: the token, read again when it has changed.
        ca_file: certificates that the server's is checked against; the system's are used when it is missing.
        namespace: the namespace to use where none is named.
    """
    authority = ca_file.read_bytes() if ca_file.exists() else None
    return Access(
        server=server.rstrip("/"),
        verify=ssl.create_default_context(cadata=authority.decode() if authority else None),
        bearer=WatchedFile(token_file, lambda content: content.decode().strip()).latest,
        namespace=namespace,
        origin="the ServiceAccount of this pod",
        authority=authority,
    )


def contexts(paths: list[Path]) -> list[str]:
    """The contexts' names."""
    return list(_merge(paths).contexts)


# -- reading


class _Entry(dict[str, Any]):
    """An entry, and the folder that its relative paths start from."""

    def __init__(self, values: Mapping[str, Any], folder: Path) -> None:
        super().__init__(values)
        self.folder = folder

    def bytes_of(self, name: str) -> bytes | None:
        """What stands under ``name-data``, or in the file ``name``."""
        if data := self.get(f"{name}-data"):
            return base64.b64decode(str(data))
        if path := self.get(name):
            try:
                return (self.folder / str(path)).read_bytes()
            except OSError as error:
                raise AccessError(f"{name} of the kubeconfig cannot be read: {error}.") from None
        return None


@dataclass
class _Merged:
    clusters: dict[str, _Entry] = field(default_factory=dict)
    users: dict[str, _Entry] = field(default_factory=dict)
    contexts: dict[str, _Entry] = field(default_factory=dict)
    current: str = ""


def _merge(paths: list[Path]) -> _Merged:
    """Of what several files say, the first holds."""
    import yaml

    merged = _Merged()
    for path in paths:
        try:
            body = yaml.safe_load(path.read_bytes()) or {}
            merged.current = merged.current or body.get("current-context") or ""
            for kind, found in (("cluster", merged.clusters), ("user", merged.users), ("context", merged.contexts)):
                for entry in body.get(f"{kind}s") or ():
                    found.setdefault(str(entry["name"]), _Entry(entry.get(kind) or {}, path.parent))
        except (OSError, UnicodeError, yaml.YAMLError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise AccessError(f"{path} is no kubeconfig that can be read: {type(error).__name__}: {error}") from None
    return merged


def _names(entries: Mapping[str, Any]) -> str:
    return ", ".join(entries) or "none"


def _access(cluster: _Entry, user: _Entry, *, namespace: str, origin: str) -> Access:
    if "auth-provider" in user:
        raise AccessError(f"The user of {origin} has an auth-provider, which Kubernetes gave up; use its exec plugin.")
    authority = cluster.bytes_of("certificate-authority")
    verify = ssl.create_default_context(cadata=authority.decode() if authority else None)
    if cluster.get("insecure-skip-tls-verify"):
        verify.check_hostname = False
        verify.verify_mode = ssl.CERT_NONE
    certificate, key = user.bytes_of("client-certificate"), user.bytes_of("client-key")
    if certificate and key:
        _load_certificate(verify, certificate, key)
    slow = bool(user.get("exec"))
    bearer: Bearer
    headers = dict(_impersonation(user))
    if user.get("exec"):
        plugin = _Plugin(user, cluster)
        certificate, key = plugin.use_certificate(verify) or (certificate, key)
        bearer = plugin.token
    elif path := user.get("tokenFile"):
        bearer = lambda: (user.folder / path).read_text().strip()  # noqa: E731 - read again each time: it is renewed
    elif token := user.get("token"):
        bearer = lambda: str(token)  # noqa: E731
    else:
        if user.get("username"):
            basic = base64.b64encode(f"{user['username']}:{user.get('password', '')}".encode()).decode()
            headers["Authorization"] = f"Basic {basic}"
        bearer = _no_bearer
    return Access(
        server=str(cluster["server"]).rstrip("/"),
        verify=verify,
        bearer=bearer,
        slow=slow,
        headers=headers,
        server_name=cluster.get("tls-server-name"),
        proxy=cluster.get("proxy-url"),
        namespace=namespace,
        origin=origin,
        authority=authority,
        certificate=(certificate, key) if certificate and key else None,
    )


def _no_bearer() -> None:
    return None


def _impersonation(user: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if name := user.get("as"):
        yield "Impersonate-User", str(name)
        if groups := user.get("as-groups"):
            # One header each would be needed, and these are set once: an impersonation with one group is the usual one.
            if len(groups) > 1:
                raise AccessError("The kubeconfig's user impersonates several groups, which attune cannot; name one.")
            yield "Impersonate-Group", str(groups[0])


def _load_certificate(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """Python reads certificates from files only; these are gone again at once."""
    with _temporary(certificate) as certificate_file, _temporary(key) as key_file:
        context.load_cert_chain(certificate_file, key_file)


@contextmanager
def _temporary(content: bytes) -> Iterator[str]:
    handle, name = tempfile.mkstemp()  # mode 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        yield name
    finally:
        Path(name).unlink()


class _Plugin:
    """A credential plugin: a program that prints a token, or a certificate, until when it is good."""

    def __init__(self, user: _Entry, cluster: _Entry) -> None:
        self._spec: Mapping[str, Any] = user["exec"]
        self._folder = user.folder
        self._cluster = cluster
        self._status: Mapping[str, Any] | None = None

    def token(self) -> str | None:
        """The token; the plugin is asked again when the last one is about to end."""
        token = self._current().get("token")
        return str(token) if token else None

    def use_certificate(self, context: ssl.SSLContext) -> tuple[bytes, bytes] | None:
        """Let ``context`` show the plugin's certificate, if it gives one; returns it and its key."""
        status = self._current()
        if not status.get("clientCertificateData"):
            return None
        pair = status["clientCertificateData"].encode(), str(status.get("clientKeyData", "")).encode()
        _load_certificate(context, *pair)
        return pair

    def _current(self) -> Mapping[str, Any]:
        if self._status is None or _ended(self._status.get("expirationTimestamp")):
            self._status = self._run()
        return self._status

    def _run(self) -> Mapping[str, Any]:
        spec = self._spec
        command = str(spec["command"])
        if os.sep in command:  # relative to the file; a bare name is looked up in PATH
            command = str(self._folder / command)
        interactive = spec.get("interactiveMode") != "Never" and sys.stdin.isatty()
        info: dict[str, Any] = {
            "apiVersion": spec.get("apiVersion", "client.authentication.k8s.io/v1"),
            "kind": "ExecCredential",
            "spec": {"interactive": interactive},
        }
        if spec.get("provideClusterInfo"):
            authority = self._cluster.bytes_of("certificate-authority")
            info["spec"]["cluster"] = {
                "server": self._cluster["server"],
                **({"certificate-authority-data": base64.b64encode(authority).decode()} if authority else {}),
            }
        extra = {str(entry["name"]): str(entry["value"]) for entry in spec.get("env") or ()}
        try:
            done = subprocess.run(  # noqa: S603 - the kubeconfig says what to run
                [command, *map(str, spec.get("args") or ())],
                env={**os.environ, **extra, "KUBERNETES_EXEC_INFO": json.dumps(info)},
                stdin=None if interactive else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                timeout=_EXEC_TIMEOUT,
                check=True,
            )
            status: Mapping[str, Any] = json.loads(done.stdout)["status"]
        except FileNotFoundError:
            hint = f" {spec['installHint'].strip()}" if spec.get("installHint") else ""
            raise AccessError(f"The kubeconfig's credential plugin {command} is not installed.{hint}") from None
        except OSError as error:
            raise AccessError(
                f"The kubeconfig's credential plugin {command} cannot be run: {error.strerror}."
            ) from None
        except subprocess.SubprocessError as error:
            raise PluginError(f"The kubeconfig's credential plugin {command} failed: {error}.") from None
        except (ValueError, KeyError, TypeError):
            raise PluginError(f"The kubeconfig's credential plugin {command} printed no credential.") from None
        return status


def _ended(time: str | None) -> bool:
    return time is not None and datetime.fromisoformat(time) - datetime.now(UTC) < _SLACK
