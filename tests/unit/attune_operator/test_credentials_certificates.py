"""The operator's certificate authority and certificates, over their lives."""

import ssl
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest
from cryptography import x509

from attune_operator.credentials import certificates
from attune_operator.credentials.certificate_store import CertificateStore
from attune_operator.credentials.certificates import (
    AUTHORITY_LEAD,
    CERTIFICATE_LIFE,
    Authority,
    ServingCertificate,
    advance,
    issue,
    make_authority,
    renewal_reason,
    signing_authority,
)
from attune_operator.runtime.client import Client

NOW = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
HOSTS = ["attune-api.attune-system.svc", "attune-nats.attune-system.svc"]


def trusts(trusted: str, served: ServingCertificate, *, at: datetime) -> bool:
    """Whether a client that trusts these certificates would take this one."""
    certificate = x509.load_pem_x509_certificate(served.certificate.encode())
    if not certificate.not_valid_before_utc <= at <= certificate.not_valid_after_utc:
        return False
    for authority in x509.load_pem_x509_certificates(trusted.encode()):
        if authority.subject == certificate.issuer and authority.not_valid_after_utc >= at:
            certificate.verify_directly_issued_by(authority)
            return True
    return False


def handshake(trusted: str, served: ServingCertificate, host: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A TLS handshake in memory, as OpenSSL judges it."""
    folder = tmp_path_factory.mktemp("tls")
    (folder / "tls.crt").write_text(served.certificate)
    (folder / "tls.key").write_text(served.key)
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context(cadata=trusted).wrap_bio(to_client, to_server, server_hostname=host)
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    waiting = {client, server}
    for _ in range(10):
        for side in tuple(waiting):
            try:
                side.do_handshake()
                waiting.discard(side)
            except ssl.SSLWantReadError:
                continue
    assert not waiting


@pytest.mark.parametrize("host", HOSTS)
def test_clients_that_trust_the_authority_take_the_certificate(
    host: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    authority = make_authority(now=datetime.now(UTC))
    handshake(authority.certificate, issue(authority, HOSTS, now=datetime.now(UTC)), host, tmp_path_factory)


def test_they_take_it_for_no_other_name_and_from_no_other_authority(tmp_path_factory: pytest.TempPathFactory) -> None:
    authority, other = make_authority(now=datetime.now(UTC)), make_authority(now=datetime.now(UTC))
    served = issue(authority, HOSTS, now=datetime.now(UTC))
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        handshake(authority.certificate, served, "example.org", tmp_path_factory)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(other.certificate, served, HOSTS[0], tmp_path_factory)


def test_renewal_says_why() -> None:
    authority, other = make_authority(now=NOW), make_authority(now=NOW)
    present = issue(authority, HOSTS, now=NOW)

    def reason(served: ServingCertificate | None = present, *, hosts: list[str] = HOSTS, days: float = 0) -> str | None:
        return renewal_reason(served, [authority], hosts, now=NOW + timedelta(days=days))

    assert reason() is None
    assert reason(hosts=list(reversed(HOSTS))) is None
    assert reason(days=59.9) is None
    assert reason(days=60.1) == "two thirds of its life are over"
    assert reason(None) == "there is none"
    assert reason(hosts=[*HOSTS, "more.example"]) == "it has other names"
    assert reason(issue(other, HOSTS, now=NOW)) == "its authority is not the installation's"
    assert reason(ServingCertificate(key=present.key, certificate="nonsense")) == "it is damaged"
    assert reason(ServingCertificate(key="nonsense", certificate=present.certificate)) == "it is damaged"
    swapped = ServingCertificate(key=issue(authority, HOSTS, now=NOW).key, certificate=present.certificate)
    assert reason(swapped) == "its key is another one's"


def test_over_twenty_five_years_every_client_takes_what_is_served() -> None:
    """Clients that read the authorities a day ago, and pods that were away for less than a certificate's last third."""
    authorities: tuple[Authority, ...] = ()
    serving: ServingCertificate | None = None
    known_yesterday = ""
    renewals, at_once = 0, set[int]()
    for day in range(365 * 25):
        now = NOW + timedelta(days=day)
        authorities = advance(authorities, now=now)
        if renewal_reason(serving, authorities, HOSTS, now=now) is not None:
            serving = issue(signing_authority(authorities, now=now), HOSTS, now=now)
            renewals += 1
        at_once.add(len(authorities))
        assert serving is not None
        trusted = "".join(each.certificate for each in authorities)
        assert trusts(trusted, serving, at=now)
        if day > 0:
            assert trusts(known_yesterday, serving, at=now), f"day {day}"
        known_yesterday = trusted
    assert at_once == {1, 2}
    assert renewals == pytest.approx(365 * 25 / (CERTIFICATE_LIFE.days * 2 / 3), abs=3)


def test_a_new_authority_does_not_sign_before_clients_know_it() -> None:
    old = make_authority(now=NOW - timedelta(days=2500))
    both = advance((old,), now=NOW)
    assert len(both) == 2
    assert signing_authority(both, now=NOW) is old
    assert signing_authority(both, now=NOW + AUTHORITY_LEAD) is both[1]
    assert signing_authority(both[1:], now=NOW) is both[1], "the only one signs at once"


def test_authorities_that_are_over_are_forgotten() -> None:
    old, new = make_authority(now=NOW - timedelta(days=3651)), make_authority(now=NOW)
    assert advance((old, new), now=NOW) == (new,)


def test_what_was_stored_is_read_and_what_is_damaged_is_refused() -> None:
    one, two = make_authority(now=NOW), make_authority(now=NOW)
    assert certificates.load(certificates.dump((one, two))) == (one, two)
    mixed = certificates.dump((Authority(key=one.key, certificate=two.certificate),))
    for text in ("", "[]", "{}", "[1]", '[{"key": "a", "certificate": "b"}]', mixed):
        with pytest.raises(ValueError, match="it does not hold certificate authorities"):
            certificates.load(text)


def test_no_key_is_in_a_representation() -> None:
    authority = make_authority(now=NOW)
    assert "PRIVATE" not in repr(authority) + repr(issue(authority, HOSTS, now=NOW))


@pytest.mark.parametrize(
    ("url", "ours"),
    [
        ("tls://attune-nats.attune-system.svc:4222", True),
        ("nats://nats.example:4222", False),
        ("tls://attune-nats.attune-system.svc:4222, tls://nats.example", False),
    ],
)
def test_a_nats_server_of_ones_own_is_not_checked_with_our_authority(url: str, ours: bool) -> None:
    store = CertificateStore(cast("Client", None), namespace="attune-system", secret="attune-tls", hosts=HOSTS)
    try:
        nats = {"nats_ca_file", "nats_certificate_file"} if ours else set[str]()
        assert store.files(url).keys() == {"sensor_ca_file", *nats}
    finally:
        store.close()
