"""Amazon SNS: messages signed with a certificate that they name, and subscriptions that are confirmed by opening an URL.

https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message.html
"""

import asyncio
import base64
import binascii
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp

from attune_webhook.schemes.signatures import Refused

#: Fetches an HTTPS URL; returns the body of a 200, and raises OSError for everything else.
Fetch = Callable[[str], Awaitable[bytes]]

_NOTIFICATION: Final = ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type")
_CONFIRMATION: Final = ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")
_SIGNED: Final = {
    "Notification": _NOTIFICATION,
    "SubscriptionConfirmation": _CONFIRMATION,
    "UnsubscribeConfirmation": _CONFIRMATION,
}
_HASHES: Final = {"1": "SHA1", "2": "SHA256"}
_MOST_CERTIFICATES: Final = 32
#: Seconds for which a certificate is kept, and for which one that could not be fetched is not fetched again.
_KEPT: Final = 3600.0
_KEPT_FAILURE: Final = 10.0
_TIMEOUT: Final = aiohttp.ClientTimeout(total=5.0)
_LARGEST_ANSWER: Final = 64 * 1024


class SnsMessages:
    """Judges messages of Amazon SNS.

    Args:
        fetch: fetches certificates, and opens the URLs that confirm subscriptions.
        clock: seconds, monotonic.
    """

    def __init__(self, *, fetch: Fetch, clock: Callable[[], float] = time.monotonic) -> None:
        self._fetch = fetch
        self._clock = clock
        self._certificates: dict[str, tuple[float, bytes | None]] = {}
        self._lock = asyncio.Lock()

    async def check(self, data: Any, topics: tuple[str, ...]) -> Refused | None:
        """Whether a message is signed by Amazon and comes from one of the topics; None when it does.

        Args:
            data: the message, decoded.
            topics: the ARNs that are accepted. Nothing is fetched for others.
        """
        kind, topic = _text(data, "Type"), _text(data, "TopicArn")
        if kind not in _SIGNED or not _text(data, "Signature"):
            return Refused("unsigned", "no signed SNS message")
        if topic not in topics:
            return Refused("signature", "the message comes from a topic that parameters.auth.topics does not list")
        url = _text(data, "SigningCertURL")
        if not _is_amazon(url, topic) or not urlsplit(url).path.endswith(".pem"):
            return Refused("signature", f"the certificate is not at {host_of(topic)}")
        certificate = await self._certificate(url)
        if certificate is None:
            return Refused("signature", "the certificate cannot be fetched now")
        if not _verifies(certificate, data, kind):
            return Refused("signature", "the signature does not match")
        return None

    async def confirm(self, data: Mapping[str, Any]) -> bool:
        """Confirm a subscription, when the message asks for it. The message must have been checked.

        Returns:
            Whether it was such a message.

        Raises:
            OSError: the subscription could not be confirmed.
        """
        if _text(data, "Type") != "SubscriptionConfirmation":
            return False
        url = _text(data, "SubscribeURL")
        if not _is_amazon(url, _text(data, "TopicArn")):
            raise OSError("SubscribeURL does not belong to the region of the topic")
        await self._fetch(url)
        return True

    async def _certificate(self, url: str) -> bytes | None:
        async with self._lock:
            read_at, certificate = self._certificates.get(url, (float("-inf"), None))
            if self._clock() - read_at < (_KEPT_FAILURE if certificate is None else _KEPT):
                return certificate
            try:
                certificate = await self._fetch(url)
            except OSError:
                certificate = None
            if len(self._certificates) >= _MOST_CERTIFICATES:
                self._certificates.clear()
            self._certificates[url] = (self._clock(), certificate)
            return certificate


def host_of(topic: str) -> str:
    """The host of a topic's region."""
    _, partition, _, region, *_ = topic.split(":")
    return f"sns.{region}.amazonaws.com" + (".cn" if partition == "aws-cn" else "")


def _is_amazon(url: str, topic: str) -> bool:
    """Whether an URL belongs to SNS in the topic's region."""
    try:
        parts = urlsplit(url)
        return parts.scheme == "https" and parts.netloc == host_of(topic)
    except ValueError:
        return False


def _text(data: Any, name: str) -> str:
    value = data.get(name) if isinstance(data, dict) else None
    return value if isinstance(value, str) else ""


def _verifies(certificate: bytes, data: Mapping[str, Any], kind: str) -> bool:
    # Loaded when a rule first needs it: it takes 10 MiB.
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    name = _HASHES.get(_text(data, "SignatureVersion"))
    if name is None:
        return False
    lines = [f"{field}\n{data[field]}\n" for field in _SIGNED[kind] if isinstance(data.get(field), str)]
    try:
        key = x509.load_pem_x509_certificate(certificate).public_key()
        signature = base64.b64decode(_text(data, "Signature"), validate=True)
        if not isinstance(key, RSAPublicKey):
            return False
        key.verify(signature, "".join(lines).encode(), PKCS1v15(), getattr(hashes, name)())
    except (InvalidSignature, ValueError, binascii.Error):
        return False
    return True


async def fetch(url: str) -> bytes:
    """Fetch an URL over HTTPS, without following redirects.

    Raises:
        OSError: it did not answer 200 within 5 s.
    """
    try:
        async with (
            aiohttp.ClientSession(timeout=_TIMEOUT, trust_env=True) as session,
            session.get(url, allow_redirects=False) as answer,
        ):
            if answer.status != 200:
                raise OSError(f"HTTP {answer.status}")
            return await answer.content.read(_LARGEST_ANSWER)
    except (aiohttp.ClientError, TimeoutError) as error:
        raise OSError(str(error) or type(error).__name__) from None
