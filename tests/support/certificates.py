"""A certificate authority of the test's own, made as the operator makes its own."""

from datetime import UTC, datetime

from attune_operator.credentials import certificates


class Authority:
    """Signs certificates; ``pem`` is what trusts them."""

    def __init__(self) -> None:
        self._made = certificates.make_authority(now=datetime.now(UTC))
        self.pem = self._made.certificate

    def issue(self, *names: str) -> tuple[str, str]:
        """A certificate for these DNS names, and its key, both PEM."""
        served = certificates.issue(self._made, names, now=datetime.now(UTC))
        return served.certificate, served.key
