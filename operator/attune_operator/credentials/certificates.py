"""The TLS certificate of NATS and API when the operator makes it: authority, certificate, renewal. Pure but for new keys.

An authority of the installation's own signs one certificate for both servers. Clients trust the authority, not the
certificate, so renewing it changes nothing for them. X.509 as in RFC 5280.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_LIFE: Final = timedelta(days=3650)
CERTIFICATE_LIFE: Final = timedelta(days=90)
#: How long a new authority is known before it signs: clients read it again within minutes, pods that restart at once.
AUTHORITY_LEAD: Final = timedelta(days=1)
#: Servers of a NATS cluster are each other's clients, too.
_PURPOSES: Final = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)
#: Clocks of a cluster's machines differ a little.
_SKEW: Final = timedelta(minutes=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """A certificate authority.

    Attributes:
        key: its private key (PEM, PKCS #8), left out of the representation.
        certificate: its certificate (PEM).
    """

    key: str = field(repr=False)
    certificate: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingCertificate:
    """What a server needs.

    Attributes:
        key: its private key (PEM, PKCS #8), left out of the representation.
        certificate: its certificate (PEM).
    """

    key: str = field(repr=False)
    certificate: str


def make_authority(*, now: datetime) -> Authority:
    """A new authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    # The time makes the names of two authorities differ; clients look an issuer up by its name.
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"attune {now:%Y-%m-%dT%H:%M:%SZ}")])
    certificate = (
        _builder(name, name, key.public_key(), now=now, life=AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(_usage(authority=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Authority(key=_key_text(key), certificate=_certificate_text(certificate))


def issue(authority: Authority, names: Sequence[str], *, now: datetime) -> ServingCertificate:
    """A certificate of a server with a new key.

    Args:
        authority: signs it.
        names: DNS names of the server, at least one.
        now: the time.
    """
    issuer_key = _key(authority.key)
    issuer = x509.load_pem_x509_certificate(authority.certificate.encode())
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    certificate = (
        _builder(subject, issuer.subject, key.public_key(), now=now, life=CERTIFICATE_LIFE)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        .add_extension(x509.ExtendedKeyUsage(_PURPOSES), critical=False)
        .add_extension(_usage(authority=False), critical=True)
        .sign(issuer_key, hashes.SHA256())
    )
    return ServingCertificate(key=_key_text(key), certificate=_certificate_text(certificate))


def advance(known: Sequence[Authority], *, now: datetime) -> tuple[Authority, ...]:
    """The authorities to trust from now on, oldest first: a new one when the newest is two thirds through its life, without
    those that are over.
    """
    lasting = [each for each in known if _parsed(each).not_valid_after_utc > now]
    if not lasting or now >= _parsed(lasting[-1]).not_valid_before_utc + AUTHORITY_LIFE * 2 / 3:
        lasting.append(make_authority(now=now))
    return tuple(lasting)


def signing_authority(known: Sequence[Authority], *, now: datetime) -> Authority:
    """Which of the authorities signs: the newest that has been known long enough, or else the oldest."""
    ready = [each for each in known if _parsed(each).not_valid_before_utc + _SKEW + AUTHORITY_LEAD <= now]
    return ready[-1] if ready else known[0]


def renewal_reason(
    present: ServingCertificate | None, authorities: Sequence[Authority], names: Sequence[str], *, now: datetime
) -> str | None:
    """Why another certificate is needed, as part of a sentence; None when the present one does.

    Args:
        present: the certificate; None when there is none.
        authorities: those that clients trust.
        names: the names that it must have.
        now: the time.
    """
    if present is None:
        return "there is none"
    try:
        certificate = x509.load_pem_x509_certificate(present.certificate.encode())
        matches = _key(present.key).public_key() == certificate.public_key()
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        has = extension.value.get_values_for_type(x509.DNSName)
    except (ValueError, TypeError, x509.ExtensionNotFound):
        return "it is damaged"
    if not matches:
        return "its key is another one's"
    if set(has) != set(names):
        return "it has other names"
    if not any(_signed(certificate, authority) for authority in authorities):
        return "its authority is not the installation's"
    if now >= certificate.not_valid_before_utc + _SKEW + CERTIFICATE_LIFE * 2 / 3:
        return "two thirds of its life are over"
    return None


def dump(authorities: Sequence[Authority]) -> str:
    """The authorities as their Secret holds them."""
    return json.dumps([{"key": each.key, "certificate": each.certificate} for each in authorities], indent=1)


def load(text: str) -> tuple[Authority, ...]:
    """Read what :func:`dump` wrote.

    Raises:
        ValueError: the text is damaged.
    """
    try:
        found = tuple(Authority(key=each["key"], certificate=each["certificate"]) for each in json.loads(text))
        if not found or any(_key(each.key).public_key() != _parsed(each).public_key() for each in found):
            raise ValueError
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError("it does not hold certificate authorities") from None
    return found


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, *, now: datetime, life: timedelta
) -> x509.CertificateBuilder:
    begins = now.astimezone(UTC) - _SKEW
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(begins + life)
    )


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _signed(certificate: x509.Certificate, authority: Authority) -> bool:
    try:
        certificate.verify_directly_issued_by(_parsed(authority))
    except Exception:
        return False
    return True


def _parsed(authority: Authority) -> x509.Certificate:
    return x509.load_pem_x509_certificate(authority.certificate.encode())


def _key(text: str) -> ec.EllipticCurvePrivateKey:
    key = load_pem_private_key(text.encode(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("it is not an elliptic curve's key")
    return key


def _key_text(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def _certificate_text(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()
