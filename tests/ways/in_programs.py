"""Ways that lie in a sensor's program, or in what it is sent: Stdio programs, sensors on the SDK, webhooks."""

from __future__ import annotations

import json
from typing import Any

from support.kubectl import Kubectl
from ways.stage import SYSTEM, Stage, program, python, rule
from ways.way import Manifest, Way, add


def _stdio(
    name: str, what: str, cause: str, script: str, *, but: str = "", parameters: Manifest | None = None, **spec: Any
) -> Way:
    def breaks(stage: Stage) -> None:
        stage.apply(program(script, **spec))
        stage.kube("wait", "--for=condition=Ready", "sensor/program", "-n", stage.namespace, "--timeout=90s")
        stage.begin()
        stage.apply(rule("way.program", parameters or {}))

    return Way(name=name, what=what, cause=cause, but=but, breaks=breaks)


_LINES = "n=0; while :; do n=$((n+1)); echo '{\"payload\": {\"n\": '$n'}}'; sleep 0.5; done"
_STRICT = [{"name": "way.program", "payloadSchema": {"type": "object", "required": ["user"]}}]

add(
    _stdio("program-not-found", "the program does not exist", r"nowhere", "", command=["/nowhere"]),
    _stdio(
        "program-exits",
        "the program ends with an error",
        r"status 3.*broker is away|broker is away",
        "echo broker is away >&2; exit 3",
    ),
    _stdio("program-ends", "the program ends at once, with status 0", r"ended with status 0", "exit 0"),
    _stdio(
        "program-is-silent",
        "the program prints nothing",
        r"has printed nothing so far",
        "sleep 10000",
    ),
    _stdio(
        "program-prints-garbage",
        "the program prints no JSON",
        r"nothing gets through.*(JSON|line)",
        "while :; do echo hello; sleep 0.2; done",
    ),
    _stdio(
        "program-prints-other-fields",
        "the program misspells a field",
        r"nothing gets through.*occured_at",
        'while :; do echo \'{"payload": {}, "occured_at": 1}\'; sleep 0.2; done',
    ),
    _stdio(
        "program-holds-back",
        "the program holds its output back in a pipe",
        r"--line-buffered",
        "while :; do echo; sleep 1; done | grep x",
        command=["sh", "-c", "while :; do echo x; sleep 1; done | grep x"],
    ),
    _stdio(
        "line-never-ends",
        "the program does not end its line",
        r"wait for the end of their line",
        "printf '{\"payload\"'; sleep 10000",
        but="a line may take ten seconds",
    ),
    _stdio(
        "payload-refused",
        "the payload does not fit payloadSchema",
        r"nothing gets through.*user",
        _LINES,
        triggerTypes=_STRICT,
    ),
    _stdio(
        "payload-too-deep",
        "the payload is nested too deep",
        r"nothing gets through.*(nested|deep|levels)",
        "while :; do python3 -c \"print('{\\\"payload\\\": {\\\"a\\\": ' + '['*40 + ']'*40 + '}}')\"; sleep 0.3; done",
    ),
    _stdio(
        "payload-too-large",
        "the payload is too large",
        r"nothing gets through.*(large|bytes|long|MiB)",
        'while :; do python3 -c "print(\'{\\"payload\\": {\\"a\\": \\"\' + \'x\'*2000000 + \'\\"}}\')"; sleep 0.3; done',
    ),
    _stdio(
        "time-refused",
        "events of 1960",
        r"nothing gets through.*(1960|1970|occurred)",
        'while :; do echo \'{"payload": {}, "occurred_at": "1960-01-01T00:00:00Z"}\'; sleep 0.3; done',
    ),
    _stdio(
        "program-rejects",
        "the program says that it cannot use the rule",
        r"no queue jobs",
        'echo \'{"ack": "Rejected", "message": "no queue jobs"}\'; sleep 10000',
    ),
    _stdio(
        "program-reports-failing",
        "the program says that it fails",
        r"no route to the broker",
        'echo \'{"ack": "Failing", "message": "no route to the broker"}\'; sleep 10000',
    ),
    _stdio(
        "when-fails",
        "stdio.when cannot be evaluated",
        r"nothing gets through.*(when|no such key|nowhere)",
        "while :; do echo '{}'; sleep 0.3; done",
        stdio={"format": "jsonlines", "when": "line.nowhere == 1"},
    ),
    _stdio(
        "when-no-bool",
        "stdio.when gives no bool",
        r"expected true or false|nothing gets through.*when",
        "while :; do echo '{\"a\": 1}'; sleep 0.3; done",
        stdio={"format": "jsonlines", "when": "line.a"},
    ),
    _stdio(
        "when-never-true",
        "stdio.when is never true",
        r"was wanted by the Sensor's spec\.stdio",
        "while :; do echo '{\"a\": 1}'; sleep 0.3; done",
        stdio={"format": "jsonlines", "when": "line.a == 2"},
    ),
    _stdio(
        "payload-no-object",
        "stdio.payload gives no object",
        r"nothing gets through.*(object|payload)",
        "while :; do echo '{\"a\": 1}'; sleep 0.3; done",
        stdio={"format": "jsonlines", "payload": "line.a"},
    ),
    _stdio(
        "pattern-never-found",
        "stdio.pattern is never found",
        r"was wanted by the Sensor's spec\.stdio",
        "while :; do echo hello; sleep 0.3; done",
        stdio={"format": "regex", "pattern": "(?P<x>goodbye)"},
    ),
)

# -- on the SDK --------------------------------------------------------------------------------------------------------

_SENSOR = """
import asyncio
from attune_sensor import Sensor, Trigger, InvalidRuleError
sensor = Sensor()
@sensor.trigger("way.python")
async def watch(trigger):
    {body}
{more}
raise SystemExit(sensor.run())
"""


def _sdk(name: str, what: str, cause: str, body: str, *, more: str = "", wrong: tuple[str, ...] = ()) -> Way:
    def breaks(stage: Stage) -> None:
        stage.apply(python(_SENSOR.format(body=body, more=more)))
        stage.kube("wait", "--for=condition=Ready", "sensor/python", "-n", stage.namespace, "--timeout=90s")
        stage.begin()
        stage.apply(rule("way.python", {}))

    return Way(name=name, what=what, cause=cause, breaks=breaks, wrong=wrong)


_NEVER_ACKS = """
from attune_sensor._acks import AckPublisher
AckPublisher.publish = lambda self, *said: None
"""
_OLD_ACKS = """
import msgspec
from attune_sensor import _acks
publish = _acks.AckPublisher.publish
def old(self, rule, *said):
    publish(self, msgspec.structs.replace(rule, generation=rule.generation - 1), *said)
_acks.AckPublisher.publish = old
"""

add(
    _sdk(
        "sensor-rejects",
        "the sensor rejects the Rule",
        r"no such queue: jobs",
        'raise InvalidRuleError("no such queue: jobs")',
    ),
    _sdk("sensor-fails", "the sensor's handler fails", r"broker is away", 'raise ConnectionError("broker is away")'),
    _sdk("sensor-completes", "the sensor says that the Rule has completed", r"has completed", "return"),
    _sdk(
        "sensor-never-acks",
        "the sensor acknowledges nothing",
        r"has not acknowledged generation 1",
        "await asyncio.sleep(10000)",
        more=_NEVER_ACKS,
    ),
    _sdk(
        "sensor-acks-older-generation",
        "the sensor acknowledges an older generation",
        r"has not acknowledged generation 1",
        "await asyncio.sleep(10000)",
        more=_OLD_ACKS,
    ),
    _sdk(
        "sensor-event-refused",
        "the sensor's events have NUL in them",
        r"nothing gets through.*NUL",
        'while True:\n        await trigger.emit({"a": "\\x00"})\n        await asyncio.sleep(0.3)',
    ),
)

# -- webhooks ----------------------------------------------------------------------------------------------------------

#: In the Secret attune-webhooks, which the core pack's Sensor lists; made before the first way.
SECRETS = {"ways-good": "a-secret-that-is-long-enough", "ways-bad-whsec": "whsec_!!!", "ways-empty": ""}
_SERVICE = f"/api/v1/namespaces/{SYSTEM}/services/sensor-core-webhook:80/proxy"


def _post(stage: Stage, path: str, body: object, times: int = 5) -> None:
    """Send requests through the API server; what is refused is what the way is about."""
    for _ in range(times):
        stage.kube.attempt("create", "--raw", f"{_SERVICE}{path}", "-f", "-", stdin=json.dumps(body))


def _webhook(
    name: str,
    what: str,
    cause: str,
    *,
    body: object = None,
    times: int = 5,
    auth: Manifest | None = None,
    more: Manifest | None = None,
) -> Way:
    path = f"/ways/{name}"

    def breaks(stage: Stage) -> None:
        stage.apply(rule("core.webhook", {"path": path, "auth": auth or {"type": "none"}, **(more or {})}))
        if times:
            stage.kube("wait", "--for=condition=Active", "rule/r", "-n", stage.namespace, "--timeout=30s")
            stage.begin()
            _post(stage, path, {"a": 1} if body is None else body, times)

    return Way(name=name, what=what, cause=cause, breaks=breaks)


def _same_path(stage: Stage) -> None:
    stage.apply(rule("core.webhook", {"path": "/ways/conflict", "auth": {"type": "none"}}, name="second"))


_GOOD = {"type": "bearer", "secrets": ["attune-webhooks/ways-good"]}

add(
    _webhook(
        "webhook-secret-missing",
        "the webhook's secret is not there",
        r"attune-webhooks/nothing-there|nothing-there",
        times=0,
        auth={"type": "bearer", "secrets": ["attune-webhooks/nothing-there"]},
    ),
    _webhook(
        "webhook-secret-not-listed",
        "the webhook's Secret is not in the Sensor's list",
        r"others/key|Secret others",
        times=0,
        auth={"type": "bearer", "secrets": ["others/key"]},
    ),
    _webhook(
        "webhook-secret-invalid",
        "the webhook's secret is no key",
        r"ways-bad-whsec",
        times=0,
        auth={"type": "standard", "secrets": ["attune-webhooks/ways-bad-whsec"]},
    ),
    _webhook(
        "webhook-secret-empty",
        "the webhook's secret is empty",
        r"ways-empty",
        times=0,
        auth={"type": "bearer", "secrets": ["attune-webhooks/ways-empty"]},
    ),
    _webhook(
        "webhook-unauthorized",
        "no request has the right token",
        r"nothing gets through.*(401|token|Authorization|bearer)",
        auth=_GOOD,
    ),
    _webhook(
        "webhook-throttled",
        "more requests come than are accepted",
        r"gets through.*429",
        times=12,
        more={"rate": {"perSecond": 0.01, "burst": 1}},
    ),
    _webhook(
        "webhook-body-too-large",
        "the bodies are too large",
        r"nothing gets through.*(large|bytes|413)",
        body={"a": "x" * 500},
        more={"maxBodyBytes": 100},
    ),
    _webhook(
        "webhook-when-never-true",
        "no request fulfils the Rule's when",
        r"No event yet.*parameters\.when did not hold",
        more={"when": {"fields": {"action": "opened"}}},
    ),
    _webhook(
        "webhook-method",
        "requests come with another method",
        r"nothing gets through.*(405|POST)",
        more={"methods": ["PUT"]},
    ),
    Way(
        name="webhook-path-taken",
        what="an older Rule has the path",
        cause=r"/ways/conflict.*(way-webhook-path-taken/r|taken|already|older|another)",
        before=lambda stage: [rule("core.webhook", {"path": "/ways/conflict", "auth": {"type": "none"}})],
        breaks=_same_path,
    ),
)


def prepare(kube: Kubectl) -> None:
    """Make the webhooks' Secret."""
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "attune-webhooks", "namespace": SYSTEM},
        "stringData": SECRETS,
    }
    kube.apply(secret)
