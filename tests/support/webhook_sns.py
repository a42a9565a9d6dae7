"""Amazon SNS as it signs, with a certificate of our own in place of Amazon's."""

import base64
import json
from datetime import UTC, datetime, timedelta
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

TOPIC = "arn:aws:sns:eu-west-1:123456789012:builds"
CERTIFICATE_URL = "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-1.pem"
SUBSCRIBE_URL = "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&Token=t"


@cache
def private_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@cache
def certificate() -> bytes:
    """The certificate as PEM."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sns.amazonaws.com")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private_key().public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30))
        .sign(private_key(), hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM)


async def fetch(url: str) -> bytes:
    """What Amazon's servers answer."""
    if url == CERTIFICATE_URL:
        return certificate()
    if url == SUBSCRIBE_URL:
        return b"<ConfirmSubscriptionResponse/>"
    raise OSError(f"HTTP 404: {url}")


def sns_message(
    message_id: str, text: str, *, confirmation: bool = False, version: str = "2", topic: str = TOPIC
) -> bytes:
    """A signed message."""
    message = {
        "Type": "SubscriptionConfirmation" if confirmation else "Notification",
        "MessageId": message_id,
        "TopicArn": topic,
        "Message": text,
        "Timestamp": "2026-11-27T12:00:00.000Z",
        **({"SubscribeURL": SUBSCRIBE_URL, "Token": "t"} if confirmation else {"Subject": "a subject"}),
    }
    signed = "".join(f"{name}\n{message[name]}\n" for name in sorted(message))
    algorithm = hashes.SHA256() if version == "2" else hashes.SHA1()
    signature = private_key().sign(signed.encode(), padding.PKCS1v15(), algorithm)
    message |= {
        "SignatureVersion": version,
        "Signature": base64.b64encode(signature).decode(),
        "SigningCertURL": CERTIFICATE_URL,
    }
    return json.dumps(message).encode()
