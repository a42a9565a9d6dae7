"""The event API: events, tokens, histories."""

import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from attune_cli.targets.http import TIMEOUT, Bearer, BearerAuth, failure, said, unreachable
from attune_cli.targets.httpx_client import httpx

#: For the first try of a request that may be repeated. The API answers within a second; a tunnel that stalls never does.
_FIRST_TRY: Final = httpx.Timeout(4.0)


def no_certificates() -> ssl.SSLContext:
    """Trust in no certificate at all, for where there is no TLS: reading the machine's authorities takes a while."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class Api:
    """A client of the event API.

    Args:
        url: where it is; for messages only, when there is a transport.
        bearer: the token to send now.
        signed_in: by what, for the message when it is refused.
        transport: how it is reached, when not by the network.
    """

    def __init__(
        self,
        url: str,
        *,
        bearer: Bearer,
        signed_in: str,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.url = url
        self.signed_in = signed_in
        self._client = httpx.Client(
            base_url=url,
            auth=BearerAuth(bearer),
            transport=transport,
            verify=ssl.create_default_context()
            if url.startswith("https:") and transport is None
            else no_certificates(),
            timeout=TIMEOUT,
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def request(self, method: str, path: str, *, token: str | None = None, **options: Any) -> Any:
        """Send a request; the decoded answer.

        Args:
            method: of HTTP.
            path: from ``/`` on.
            token: to send instead of our own.
            options: as httpx takes them.

        Raises:
            CliError: no answer, or none that is a success.
        """
        if token is not None:
            options["auth"] = BearerAuth(lambda: token)
        try:
            answer = self._answer(method, path, options)
        except httpx.HTTPError as error:
            raise unreachable("The API", self.url, error) from None
        self._check(answer, own=token is None)
        try:
            return answer.json()
        except ValueError:
            raise unreachable("The API", self.url, ValueError("it answers with something else")) from None

    def _answer(self, method: str, path: str, options: Mapping[str, Any]) -> httpx.Response:
        if method == "GET":
            # A tunnel through the API server and the kubelet may stall, or end with its pod: what only reads is asked again
            # on a new connection.
            try:
                return self._client.request(method, path, timeout=_FIRST_TRY, **options)
            except httpx.TransportError:
                pass
        return self._client.request(method, path, **options)

    def ready(self) -> Mapping[str, Any]:
        """What the API says of its own health, well or not.

        Raises:
            CliError: it says nothing.
        """
        try:
            body = self._answer("GET", "/ready", {}).json()
        except (httpx.HTTPError, ValueError) as error:
            raise unreachable("The API", self.url, error) from None
        return body if isinstance(body, dict) else {}

    @contextmanager
    def stream(
        self, path: str, *, params: Mapping[str, Any], headers: Mapping[str, str], patience: float
    ) -> Iterator[httpx.Response]:
        """An answer that is read as it comes; it counts as ended after ``patience`` seconds without anything.

        Raises:
            httpx.HTTPError: no answer, or it broke off.
            CliError: it is none that is a success.
        """
        timeout = httpx.Timeout(TIMEOUT.connect, read=patience)
        with self._client.stream("GET", path, params=params, headers=headers, timeout=timeout) as answer:
            if not answer.is_success:
                answer.read()
            self._check(answer)
            yield answer

    def _check(self, answer: httpx.Response, *, own: bool = True) -> None:
        if answer.is_success:
            return
        text = said(answer, "detail", "title").rstrip(".")
        if own and answer.status_code in (401, 403):
            text += f". You are signed in by {self.signed_in}"
        raise failure(answer.status_code, f"The API says: {text}.")
