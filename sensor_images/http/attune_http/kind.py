"""Addresses as a kind of source: servers, hosts and secrets of the Sensor, parameters of its rules."""

import asyncio
import ssl
from base64 import b64encode
from collections.abc import Callable
from typing import Any, Final

import yarl

from attune_http.config import Server, config_of
from attune_http.fetching import Answer, Fetcher
from attune_http.pace import Pace
from attune_http.parameters import Subscription, subscription_of
from attune_http.payload import payload_of
from attune_http.source import Polling
from attune_kit.server_secrets import ServerSecrets
from attune_sensor import Message, Rule, RuleStore, SensorContext

#: Answers that are read at a time, for all rules: they are in memory.
_AT_A_TIME: Final = 8


class Addresses:
    """A :class:`attune_sensor.SourceKind`.

    Args:
        context: the sensor's configuration, and where its secrets are.

    Attributes:
        remark: says something in the conditions of the rules that poll a subscription.

    Raises:
        SettingsError: the configuration cannot be used.
    """

    def __init__(self, context: SensorContext) -> None:
        self.remark: Callable[..., None] = lambda subscription, why, what: None
        self._config = config_of(context.config)
        self._secrets = ServerSecrets(context.settings.secrets_dir)
        self._context = context
        self._turns = Turns(self._config.per_host)
        self._rules: dict[str, tuple[Rule, Subscription, Pace]] = {}
        self._tls: ssl.SSLContext | None = None

    def subscription(self, rule: Rule) -> Subscription:
        """What the rule wants to poll.

        Raises:
            InvalidRuleError: its parameters cannot be used.
        """
        subscription = subscription_of(rule, self._config)
        known = self._rules.get(rule.uid)
        pace = known[2] if known is not None and known[1] == subscription else Pace(subscription.interval)
        self._rules[rule.uid] = rule, subscription, pace
        return subscription

    def forget(self, rule: Rule) -> None:
        """The rule is gone."""
        self._rules.pop(rule.uid, None)

    def describe(self, subscription: Subscription) -> str:
        """The subscription in a few words."""
        url = yarl.URL(subscription.url, encoded=subscription.url.isascii()).with_query(None)
        return str(url)[:200]

    def connect(self, subscription: Subscription) -> Polling:
        """A new source.

        Raises:
            MissingSecretError: a secret is missing.
        """
        rule, _, pace = self._rules[subscription.rule]
        server = None if subscription.server is None else self._config.servers[subscription.server]
        fetcher = Fetcher(
            subscription.url,
            server=server,
            config=self._config,
            tls=self._trusted(server),
            timeout=subscription.timeout,
        )
        return Polling(
            subscription,
            client=_Client(fetcher, subscription, server=server, secrets=self._secrets, turns=self._turns),
            store=RuleStore(self._context.source_events, rule),
            pace=pace,
            remark=lambda why: self.remark(subscription, why, what="items"),
        )

    def payload(self, rule: Rule, message: Message, *, whole: bool) -> dict[str, Any]:
        """What the rule's event carries."""
        return payload_of(rule.ref, self._rules[rule.uid][1], message.content, whole=whole)

    def _trusted(self, server: Server | None) -> ssl.SSLContext:
        if server is not None and server.ca is not None:
            return self._secrets.tls(server.name, server.ca)
        if self._tls is None:
            self._tls = ssl.create_default_context()
        return self._tls


class Turns:
    """So many requests at a time, of all and of each host.

    Args:
        per_host: requests to one host at a time.
    """

    def __init__(self, per_host: int) -> None:
        self._all = asyncio.Semaphore(_AT_A_TIME)
        self._per_host = per_host
        self._hosts: dict[str, tuple[asyncio.Semaphore, int]] = {}

    async def of(self, host: str, work: Callable[[], Any]) -> Any:
        """What the work returns, when it is its turn."""
        semaphore, users = self._hosts.get(host, (asyncio.Semaphore(self._per_host), 0))
        self._hosts[host] = semaphore, users + 1
        try:
            async with semaphore, self._all:
                return await work()
        finally:
            semaphore, users = self._hosts[host]
            if users == 1:
                del self._hosts[host]
            else:
                self._hosts[host] = semaphore, users - 1


class _Client:
    """Asks for one rule, with the server's credentials as they are now."""

    def __init__(
        self,
        fetcher: Fetcher,
        subscription: Subscription,
        *,
        server: Server | None,
        secrets: ServerSecrets,
        turns: Turns,
    ) -> None:
        self._fetcher = fetcher
        self._headers = dict(subscription.headers)
        self._host = yarl.URL(subscription.url).host or ""
        self._server = server
        self._secrets = secrets
        self._turns = turns

    async def get(self, known: Answer) -> Answer:
        """What is there now.

        Raises:
            FetchError: there is no answer that can be used.
            MissingSecretError: a secret is missing.
        """
        credentials = {} if self._server is None else credentials_of(self._server, self._secrets)
        answer: Answer = await self._turns.of(self._host, lambda: self._fetcher.get(self._headers, credentials, known))
        return answer

    async def close(self) -> None:
        """Close the connection."""
        await self._fetcher.close()


def credentials_of(server: Server, secrets: ServerSecrets) -> dict[str, str]:
    """The headers that go to a server and nowhere else.

    Raises:
        MissingSecretError: a secret is missing.
    """
    found = dict(server.headers)
    for header, reference in server.secret_headers.items():
        found[header] = _line(secrets.text(server.name, f"secretHeaders.{header}", reference))
    if server.bearer is not None:
        found["Authorization"] = f"Bearer {_line(secrets.text(server.name, 'bearer', server.bearer))}"
    if server.username is not None:
        password = _line(secrets.text(server.name, "password", server.password))
        found["Authorization"] = f"Basic {b64encode(f'{server.username}:{password}'.encode()).decode('ascii')}"
    return found


def _line(secret: str | None) -> str:
    return (secret or "").strip()
