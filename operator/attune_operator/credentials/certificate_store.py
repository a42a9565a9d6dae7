"""Keeps the certificate of NATS and API in a Secret that both mount, and the authority that signs it in another.

The Secret of the certificate has what cert-manager would write: ``tls.crt``, ``tls.key`` and ``ca.crt``. That of the
authority is read by the operator alone. Level-triggered: each check reads both and writes the difference. When a Secret is
deleted, what is in memory is written again, since sensors trust it.
"""

import asyncio
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import structlog

from attune_operator.credentials import certificates, own_secrets
from attune_operator.credentials.certificates import Authority, ServingCertificate
from attune_operator.resources.kinds import SECRET, Object
from attune_operator.runtime.client import Client

_log = structlog.stdlib.get_logger(__name__)

AUTHORITY_KEY: Final = "authorities.json"
#: Secrets of this type must have these keys, which API servers check.
_TLS_TYPE: Final = "kubernetes.io/tls"


class CertificateStore:
    """The certificate and its authorities. Call :meth:`ensure` first.

    Args:
        client: to Kubernetes.
        namespace: of both Secrets.
        secret: name of the certificate's Secret. The authority's has ``-authority`` appended.
        hosts: DNS names of NATS and API.
        now: the clock.
    """

    def __init__(
        self,
        client: Client,
        *,
        namespace: str,
        secret: str,
        hosts: Sequence[str],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._secret = secret
        self._hosts = hosts
        self._now = now
        self._authorities: tuple[Authority, ...] = ()
        self._serving: ServingCertificate | None = None
        self._nudged = asyncio.Event()
        self._directory = tempfile.TemporaryDirectory(prefix="attune-operator-tls-", ignore_cleanup_errors=True)
        self.ca_file = Path(self._directory.name) / "ca.crt"
        self.certificate_file = Path(self._directory.name) / "tls.crt"

    @property
    def secrets(self) -> tuple[str, str]:
        """Names of both Secrets."""
        return self._secret, f"{self._secret}-authority"

    def files(self, nats_url: str) -> dict[str, Path]:
        """The operator's own copies, by the settings that name them. A NATS server of the user's own has another certificate.

        Args:
            nats_url: servers, separated by commas.
        """
        ours = {"sensor_ca_file": self.ca_file}
        if all(urlsplit(url.strip()).hostname in self._hosts for url in nats_url.split(",")):
            ours |= {"nats_ca_file": self.ca_file, "nats_certificate_file": self.certificate_file}
        return ours

    def nudge(self) -> None:
        """Check again soon: one of the Secrets was touched."""
        self._nudged.set()

    def close(self) -> None:
        """Remove the operator's own copies."""
        self._directory.cleanup()

    async def run(self, *, interval: float) -> None:
        """Keep both Secrets until cancelled.

        Args:
            interval: seconds between two checks.
        """
        await own_secrets.keep(self.ensure, self._nudged, interval=interval, log=_log, failed="certificate_not_checked")

    async def ensure(self) -> None:
        """Bring both Secrets and the files to their desired state.

        Raises:
            ClusterError: Kubernetes could not be reached or refused.
        """
        now = self._now()
        authorities = await self._ensure_authorities(now)
        await self._ensure_certificate(authorities, now)

    async def _ensure_authorities(self, now: datetime) -> tuple[Authority, ...]:
        name = self.secrets[1]
        found = await self._client.get(SECRET, self._namespace, name)
        known = self._read_authorities(found) or self._authorities
        wanted = await asyncio.to_thread(certificates.advance, known, now=now)
        text = certificates.dump(wanted)
        if found is None or own_secrets.content(found, AUTHORITY_KEY) != text:
            await own_secrets.write(self._client, self._namespace, name, {AUTHORITY_KEY: text}, found)
            _log.info("certificate_authority_written", secret=f"{self._namespace}/{name}", authorities=len(wanted))
        self._authorities = wanted
        return wanted

    def _read_authorities(self, found: Object | None) -> tuple[Authority, ...]:
        if found is None:
            return ()
        try:
            return certificates.load(own_secrets.content(found, AUTHORITY_KEY))
        except ValueError as error:
            _log.error("certificate_authority_damaged", secret=f"{self._namespace}/{self.secrets[1]}", why=str(error))
            return ()

    async def _ensure_certificate(self, authorities: Sequence[Authority], now: datetime) -> None:
        found = await self._client.get(SECRET, self._namespace, self._secret)
        present = self._serving
        if found is not None:
            present = ServingCertificate(
                key=own_secrets.content(found, "tls.key"), certificate=own_secrets.content(found, "tls.crt")
            )
        reason = certificates.renewal_reason(present, authorities, self._hosts, now=now)
        if reason is not None or present is None:
            signer = certificates.signing_authority(authorities, now=now)
            present = await asyncio.to_thread(certificates.issue, signer, self._hosts, now=now)
        # Newest first: it is the one that is needed longest.
        trusted = "".join(each.certificate for each in reversed(authorities))
        wanted = {"tls.crt": present.certificate, "tls.key": present.key, "ca.crt": trusted}
        if found is None or any(own_secrets.content(found, key) != text for key, text in wanted.items()):
            await own_secrets.write(self._client, self._namespace, self._secret, wanted, found, kind=_TLS_TYPE)
            _log.info(
                "certificate_written", secret=f"{self._namespace}/{self._secret}", why=reason or "its Secret differed"
            )
        self._serving = present
        await asyncio.to_thread(self._write_files, trusted, present.certificate)

    def _write_files(self, trusted: str, certificate: str) -> None:
        for path, text in ((self.ca_file, trusted), (self.certificate_file, certificate)):
            if not path.exists() or path.read_text() != text:
                temporary = path.with_suffix(".new")
                temporary.write_text(text)
                temporary.replace(path)
