"""The cluster's certificates, made with openssl: three authorities and what they sign.

`ca` is the cluster's own (everything that talks to the API server), `front-proxy-ca` only vouches for the API server
when it passes requests on to extension servers, and `etcd-ca` keeps etcd to the API server alone: a pod in the host
network that holds a certificate of the cluster gets no way around the API.

Elliptic keys, as making a dozen RSA ones would take longer than starting the cluster. They are valid for a year: a
development cluster is created again more often than that.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .commands import capture

DAYS = "365"
_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A certificate and its key, both as PEM files."""

    certificate: Path
    key: Path

    @classmethod
    def named(cls, folder: Path, name: str) -> Pair:
        return cls(certificate=folder / f"{name}.crt", key=folder / f"{name}.key")


def authority(folder: Path, name: str) -> Pair:
    """Make a self-signed authority, and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    pair = Pair.named(folder, name)
    command = ["openssl", "req", "-x509", *_KEY, "-days", DAYS, "-subj", f"/CN={name}"]
    # The default configuration's v3_ca section already says CA:TRUE; clients also check a usage.
    usage = ["-addext", "keyUsage=critical,digitalSignature,keyCertSign,cRLSign"]
    capture([*command, *usage, "-keyout", pair.key, "-out", pair.certificate], what="making a certificate authority")
    pair.key.chmod(0o600)
    return pair


def extensions(*, server: bool, names: Sequence[str] = (), addresses: Sequence[str] = ()) -> str:
    """The openssl extension file of a certificate that serves under `names` and `addresses`, or only identifies a client."""
    usages = "serverAuth,clientAuth" if server else "clientAuth"
    lines = ["basicConstraints=CA:FALSE", "keyUsage=digitalSignature", f"extendedKeyUsage={usages}"]
    alternatives = [f"DNS:{name}" for name in names] + [f"IP:{address}" for address in addresses]
    if alternatives:
        lines.append(f"subjectAltName={','.join(alternatives)}")
    return "\n".join(lines) + "\n"


def issue(
    signer: Pair,
    folder: Path,
    name: str,
    *,
    user: str,
    group: str | None = None,
    server: bool = False,
    names: Sequence[str] = (),
    addresses: Sequence[str] = (),
) -> Pair:
    """Make a key and a certificate for `user` (in `group`), signed by `signer`."""
    pair = Pair.named(folder, name)
    subject = (f"/O={group}" if group else "") + f"/CN={user}"
    request = folder / f"{name}.csr"
    extension = folder / f"{name}.ext"
    extension.write_text(extensions(server=server, names=names, addresses=addresses))
    capture(["openssl", "req", "-new", *_KEY, "-subj", subject, "-keyout", pair.key, "-out", request])
    sign = ["openssl", "x509", "-req", "-days", DAYS, "-CAcreateserial", "-CA", str(signer.certificate)]
    capture([*sign, "-CAkey", signer.key, "-in", request, "-extfile", extension, "-out", pair.certificate])
    request.unlink()
    extension.unlink()
    pair.key.chmod(0o600)
    return pair


def service_account_key(folder: Path) -> Path:
    """Make the key that ServiceAccount tokens are signed with (RSA, as everywhere: some verifiers know only RS256)."""
    key = folder / "service-accounts.key"
    capture(["openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", key])
    key.chmod(0o600)
    return key


def kubeconfig(path: Path, *, server: str, authority: Path, client: Pair, name: str, embed: bool = False) -> None:
    """Write a kubeconfig; with `embed` it holds certificates and key itself and can be copied elsewhere.

    It is JSON, which every reader of YAML reads.
    """

    def reference(field: str, file: Path) -> dict[str, str]:
        if embed:
            return {f"{field}-data": base64.b64encode(file.read_bytes()).decode()}
        return {field: str(file)}

    user = reference("client-certificate", client.certificate) | reference("client-key", client.key)
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {"server": server} | reference("certificate-authority", authority)}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(json.dumps(content, indent=2) + "\n")
    temporary.chmod(0o600)
    temporary.replace(path)
