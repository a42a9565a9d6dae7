"""Requests as values, and what the webhook sensor's checks say of them."""

from collections.abc import Mapping, Sequence
from typing import Any

from support.rule_stream import rule_state

from attune_kit.secret_files import SecretFiles
from attune_sensor import Rule
from attune_webhook.auth import Auth, auth_of
from attune_webhook.authentication import Authenticator
from attune_webhook.http.answers import RefusalError
from attune_webhook.http.request import Request
from attune_webhook.key_ring import KeyRing
from attune_webhook.parameters import Hook, hook_of
from attune_webhook.paths import PathTemplate, path_of
from attune_webhook.rates import Bucket
from attune_webhook.routes import Route
from attune_webhook.sns import SnsMessages

HOST = "hooks.example.org"


def request(
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    *,
    method: str = "POST",
    target: str = "/a",
    **changes: Any,
) -> Request:
    """A request with its body."""
    lower = {"host": HOST, **{name.lower(): value for name, value in (headers or {}).items()}}
    return Request(method=method, path=target.partition("?")[0], target=target, headers=lower, body=body, **changes)


def template(text: str) -> PathTemplate:
    found = path_of(text)
    assert found is not None
    return found


async def _no_fetch(url: str) -> bytes:
    raise OSError(f"nothing is fetched in this test, and not {url}")


class Sender:
    """Checks requests to one rule, as the sensor does.

    Args:
        auth: the rule's parameter.
        secrets: the contents of the secrets, whatever their references.
    """

    def __init__(self, auth: Mapping[str, Any], secrets: Sequence[bytes], *, sns: SnsMessages | None = None) -> None:
        names = [f"h/s{number}" for number in range(len(secrets))]
        given = dict(auth)
        if names:
            given["secrets"] = names
        self.auth: Auth = auth_of(given)
        self.files = dict(zip(names, secrets, strict=True))
        self._given = given
        self._authenticator = Authenticator(keys=KeyRing(_Files(self.files)), sns=sns or SnsMessages(fetch=_no_fetch))
        state = rule_state(parameters={}, trigger_type="core.webhook")
        hook = Hook(path=template("/a"), auth=self.auth)
        self.route = Route(rule=Rule(state=state, since_us=0), hook=hook, bucket=Bucket(rate=1, burst=1, now=0))

    def hook(self, **parameters: Any) -> Hook:
        """The hook of a rule with this ``auth``."""
        state = rule_state(parameters={"path": "/a", "auth": self._given, **parameters}, trigger_type="core.webhook")
        return hook_of(Rule(state=state, since_us=0))

    async def refusal(self, given: Request, *, now: float) -> str | None:
        """Why the request is refused, in one word; None when it is accepted."""
        try:
            routes = self._authenticator.by_head(given, [self.route])
            await self._authenticator.with_body(given, routes, now=now)
        except RefusalError as refusal:
            return refusal.kind
        return None

    def accepts(self, given: Request, *, now: float) -> bool:
        """Whether the request is accepted; for tests that are not asynchronous."""
        found = self.refusal(given, now=now)
        try:
            found.send(None)
        except StopIteration as end:
            return end.value is None
        raise AssertionError("it waited for something")


class _Files(SecretFiles):
    """Secrets in memory. As files they lose the line break at their end."""

    def __init__(self, contents: Mapping[str, bytes]) -> None:
        super().__init__(None)
        self._contents = contents

    def read(self, reference: str) -> bytes | None:
        return self._contents.get(reference, b"").rstrip(b"\r\n") or None
