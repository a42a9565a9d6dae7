"""The installed system under test, as its users and operators see it."""

from __future__ import annotations

import base64
import ssl
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import yaml
from support.eventually import eventually
from support.kubectl import Kubectl, Manifest, condition

SYSTEM = "attune-system"
REPOSITORY = Path(__file__).resolve().parents[2]
PACK = REPOSITORY / "packs" / "core"


@dataclass(frozen=True)
class Event:
    """A stored event as the API returns it, with its times parsed."""

    id: str
    trigger_type: str
    rule_uid: str
    occurred_at: datetime
    received_at: datetime
    payload: dict[str, Any]


class Tunnel:
    """A Service through `kubectl port-forward`, which is started again when it stalled, or the Service's pod was replaced.

    Requests are sent again, too: send what is the same when it comes twice.
    """

    def __init__(self, kube: Kubectl, service: str, *, secure: bool = False) -> None:
        self._kube = kube
        self._service = service
        self._secure = secure  # by HTTPS, with the operator's certificate
        self._stack = ExitStack()
        self._client: httpx.Client | None = None

    def _connected(self) -> httpx.Client:
        if self._client is None:
            number, scheme = (443, "https") if self._secure else (80, "http")
            trusted = authority(self._kube) if self._secure else True
            port = self._stack.enter_context(self._kube.port_forward(f"service/{self._service}", number, SYSTEM))
            self._client = self._stack.enter_context(
                httpx.Client(base_url=f"{scheme}://127.0.0.1:{port}", timeout=30, verify=trusted)
            )
        return self._client

    def close(self) -> None:
        self._client = None
        self._stack.close()

    def send(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send a request.

        503 says "ask again" (docs/api.md), for example while new signing keys reach the API. As every client must, this one
        does.
        """

        if self._secure:
            options["extensions"] = {"sni_hostname": f"{self._service}.{SYSTEM}.svc"}  # not the tunnel's name

        def answered() -> list[httpx.Response]:
            try:
                answer = self._connected().request(method, path, **options)
            except httpx.TransportError:
                self.close()
                raise
            assert answer.status_code != 503, answer.text
            return [answer]  # an answer of 400 or more is false by itself

        return eventually(answered, within=120, what=f"{self._service} answers {method} {path}")[0]


def authority(kube: Kubectl) -> ssl.SSLContext:
    """Trust in the certificate that the operator has made, and in no other."""
    secret = kube.get("secret", "attune-tls", SYSTEM)
    return ssl.create_default_context(cadata=base64.b64decode(secret["data"]["ca.crt"]).decode())


class Api(Tunnel):
    """The API, and a reader's token. It is asked by HTTPS, unless as a client from before TLS was the default (`secure`)."""

    def __init__(self, kube: Kubectl, token: str, *, secure: bool = True) -> None:
        super().__init__(kube, "attune-api", secure=secure)
        self.token = token

    def request(self, method: str, path: str, *, token: str | None = None, **options: Any) -> httpx.Response:
        """Send a request with the reader's token, or with `token` ("" for none)."""
        bearer = self.token if token is None else token
        headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
        return self.send(method, path, headers=headers, **options)

    def events(self, rule_uid: str) -> list[Event]:
        """All events of a rule, oldest first."""
        found: list[Event] = []
        query: dict[str, str] = {"rule_uid": rule_uid, "order": "asc", "limit": "1000"}
        while True:
            answer = self.request("GET", "/api/v1/events", params=query)
            assert answer.status_code == 200, f"{answer.status_code}: {answer.text}"
            page = answer.json()
            found += [
                Event(
                    id=event["id"],
                    trigger_type=event["trigger_type"],
                    rule_uid=event["rule_uid"],
                    occurred_at=datetime.fromisoformat(event["occurred_at"]),
                    received_at=datetime.fromisoformat(event["received_at"]),
                    payload=event["payload"],
                )
                for event in page["data"]
            ]
            if not page.get("next_cursor") or not page["data"]:
                return found
            query["cursor"] = page["next_cursor"]


def assert_unbroken(events: list[Event], interval: timedelta) -> None:
    """By the times at which they occurred, each event is one interval after the one before: no gap, none twice."""
    times = sorted(event.occurred_at for event in events)
    gaps = {later - earlier for earlier, later in pairwise(times)}
    assert gaps == {interval}, f"gaps {sorted(gaps)} between {[time.isoformat() for time in times]}"


@dataclass
class AppliedRule:
    """A Rule that a test applied."""

    name: str
    namespace: str
    kube: Kubectl
    api: Api

    @property
    def object(self) -> Manifest:
        return self.kube.get("rule", self.name, self.namespace)

    @property
    def uid(self) -> str:
        uid: str = self.object["metadata"]["uid"]
        return uid

    @property
    def created_at(self) -> datetime:
        return datetime.fromisoformat(self.object["metadata"]["creationTimestamp"])

    def condition(self, kind: str) -> Manifest:
        """The condition, said of the present generation (else LookupError)."""
        body = self.object
        found = condition(body, kind)
        if found.get("observedGeneration") != body["metadata"]["generation"]:
            raise LookupError(f"{kind} is not of generation {body['metadata']['generation']} yet: {found}")
        return found

    def wait_condition(self, kind: str, status: str, *, reason: str = "", within: float = 15) -> Manifest:
        def reached() -> Manifest | None:
            found = self.condition(kind)
            wanted = found["status"] == status and (not reason or found["reason"] == reason)
            assert wanted, f"{self.name}: {found}"
            return found

        result = eventually(reached, within=within, what=f"{kind}={status} {reason}")
        assert result is not None
        return result

    def patch(self, spec: Manifest) -> None:
        self.kube.patch("rule", self.name, self.namespace, {"spec": spec})

    def delete(self) -> None:
        self.kube.delete("rule", self.name, self.namespace)

    def events(self) -> list[Event]:
        return self.api.events(self.uid)

    def wait_events(self, enough: Callable[[list[Event]], bool], *, within: float, what: str = "") -> list[Event]:
        uid = self.uid

        def probe() -> list[Event] | None:
            found = self.api.events(uid)
            return found if enough(found) else None

        result = eventually(probe, within=within, what=what or f"events of {self.name}")
        assert result is not None
        return result

    def wait_unbroken(
        self, interval: timedelta, *, enough: Callable[[list[Event]], bool], within: float = 60
    ) -> list[Event]:
        """Its events, once there are enough and they are unbroken. One that is still on its way is no gap, one that is lost
        stays one.
        """

        def unbroken(events: list[Event]) -> bool:
            if not enough(events):
                return False
            assert_unbroken(events, interval)
            return True

        return self.wait_events(
            unbroken, within=within, what=f"enough events of {self.name}, each {interval} after the last"
        )


@dataclass
class System:
    """What a test works with: the cluster, the API, and a namespace of its own."""

    kube: Kubectl
    api: Api
    namespace: str = ""
    _made: list[tuple[str, str, str]] = field(default_factory=list)

    def rule(
        self,
        name: str,
        *,
        trigger: str = "core.intervaltimer",
        parameters: Manifest | None = None,
        enabled: bool = True,
        namespace: str = "",
    ) -> AppliedRule:
        """Apply a Rule."""
        manifest = {
            "apiVersion": "attune.dev/v1alpha1",
            "kind": "Rule",
            "metadata": {"name": name, "namespace": namespace or self.namespace},
            "spec": {"enabled": enabled, "trigger": {"type": trigger, "parameters": parameters or {"interval": 1}}},
        }
        self.kube.apply(manifest)
        return AppliedRule(name, namespace or self.namespace, self.kube, self.api)

    def sensor(self, name: str, *, wait: bool = True, **spec: Any) -> None:
        """Apply a timer Sensor in the test's namespace; it wins its Rules over the pack's. Waits until it is Ready."""
        pack = self.pack_sensor()
        manifest = {
            "apiVersion": "attune.dev/v1alpha1",
            "kind": "Sensor",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {"image": pack["spec"]["image"], "triggerTypes": pack["spec"]["triggerTypes"], **spec},
        }
        self.kube.apply(manifest)
        if wait:
            self.kube(
                "wait", "--for=condition=Ready", f"sensor/{name}", "-n", self.namespace, "--timeout=180s", timeout=200
            )

    def pack_sensor(self) -> Manifest:
        """The manifest of core.timer as packs/core has it."""
        for path in sorted(PACK.glob("*.yaml")):
            for document in yaml.safe_load_all(path.read_text()):
                if document and document["kind"] == "Sensor" and document["metadata"]["name"] == "core.timer":
                    found: Manifest = document
                    return found
        raise LookupError(f"{PACK} has no Sensor core.timer")

    def pods(self, sensor: str, namespace: str) -> list[Manifest]:
        """The pods of a Sensor that are not ending."""
        pods = self.kube.list("pods", namespace, f"attune.dev/sensor={sensor}")
        return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]

    def wait_ready_pod(self, sensor: str, namespace: str, *, other_than: str = "", within: float = 60) -> Manifest:
        """The Sensor's pod once it is Ready, and is not the one named by its uid in `other_than`."""

        def ready() -> Manifest | None:
            for pod in self.pods(sensor, namespace):
                if pod["metadata"]["uid"] != other_than and condition(pod, "Ready")["status"] == "True":
                    return pod
            return None

        pod = eventually(ready, within=within, what=f"a ready pod of {namespace}/{sensor}")
        assert pod is not None
        return pod


@contextmanager
def temporary_namespace(kube: Kubectl) -> Iterator[str]:
    """A namespace that goes away with the test, held to the restricted Pod Security level."""
    name = f"e2e-{uuid.uuid4().hex[:8]}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted", "attune-e2e": "yes"}
    kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    try:
        yield name
    finally:
        kube("delete", "namespace", name, "--wait=false")
