"""How to reach the API server: as a pod does, or as ``kubectl`` does where there is no pod (``attune up``, tests)."""

import base64
import ssl
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from attune_sensor import SettingsError

_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(frozen=True, slots=True)
class Access:
    """Where the API server is, how it is trusted, and what is shown to it (read for each request, since tokens are renewed)."""

    server: str
    tls: ssl.SSLContext | None
    token: Callable[[], str | None]


def access_of(variables: Mapping[str, str], *, account: Path = _ACCOUNT) -> Access:
    """``KUBECONFIG`` when it is set, else the pod's own account, else ``~/.kube/config``.

    Raises:
        SettingsError: there is none of them, or it cannot be used.
    """
    file = variables.get("KUBECONFIG")
    if not file and (host := variables.get("KUBERNETES_SERVICE_HOST")):
        token = account / "token"
        if not token.exists():
            raise SettingsError(
                f"there is no token in {account}; name a ServiceAccount in the Sensor (spec.serviceAccountName) that may list "
                "and watch what its rules ask for"
            )
        host = f"[{host}]" if ":" in host else host
        return Access(
            server=f"https://{host}:{variables.get('KUBERNETES_SERVICE_PORT', '443')}",
            tls=ssl.create_default_context(cafile=str(account / "ca.crt")),
            token=lambda: token.read_text().strip(),
        )
    path = Path(file or "~/.kube/config").expanduser()
    try:
        return _from_kubeconfig(path)
    except (OSError, ValueError, KeyError, TypeError, StopIteration) as error:
        raise SettingsError(
            f"cannot use {path} to reach Kubernetes: {error or type(error).__name__}. Set KUBECONFIG to a file with a token or "
            "a client certificate (programs that fetch credentials are not run), or start `kubectl proxy` and name its address"
        ) from error


def _from_kubeconfig(path: Path) -> Access:
    import yaml  # only here: a pod has no such file, and need not pay for it

    config: Any = yaml.safe_load(path.read_text())
    context = _named(config["contexts"], config["current-context"])["context"]
    cluster = _named(config["clusters"], context["cluster"])["cluster"]
    user = _named(config["users"], context["user"])["user"] or {}
    if "exec" in user or "auth-provider" in user:
        raise ValueError("its user's credentials come from a program")
    server: str = cluster["server"].rstrip("/")
    tls = None
    if server.startswith("https:"):
        authority = _bytes(cluster, "certificate-authority", path)
        tls = ssl.create_default_context(cadata=authority.decode() if authority else None)
        if cluster.get("insecure-skip-tls-verify"):
            tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
        certificate, key = _bytes(user, "client-certificate", path), _bytes(user, "client-key", path)
        if certificate and key:
            with tempfile.NamedTemporaryFile() as both:  # Python reads them from files alone
                both.write(certificate + b"\n" + key)
                both.flush()
                tls.load_cert_chain(both.name)
    if token_file := user.get("tokenFile"):
        found = path.parent / token_file
        return Access(server, tls, lambda: found.read_text().strip())
    token = user.get("token")
    return Access(server, tls, lambda: token)


def _named(items: list[dict[str, Any]], name: str) -> dict[str, Any]:
    for item in items:
        if item["name"] == name:
            return item
    raise ValueError(f"it has no entry named {name}")


def _bytes(entry: Mapping[str, Any], name: str, path: Path) -> bytes | None:
    if data := entry.get(f"{name}-data"):
        return base64.b64decode(data)
    file = entry.get(name)
    return (path.parent / str(file)).read_bytes() if file else None
