"""The program around it all: settings, health, supervision, Events."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from attune_kit.supervisor import Supervisor
from attune_operator import __main__ as program
from attune_operator.credentials import issuer
from attune_operator.resources.kinds import DEPLOYMENT, NAMESPACE, SENSOR
from attune_operator.runtime.events import EventRecorder, ObjectEvent, ObjectReference, event_body
from attune_operator.runtime.probes import Heartbeat, Probes
from attune_operator.settings import Settings

P = "ATTUNE_OPERATOR_"


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "NAMESPACE": "system",
        "WATCH_NAMESPACES": "a, b,,a",
        "TOKEN_MIN_TTL": "10m",
        "SWEEP_INTERVAL": "90",
        "LOG_LEVEL": "debug",
        "NATS_CREDS_FILE": "",
        "SENSOR_CA_FILE": "/ca.crt",
    }.items():
        monkeypatch.setenv(P + name, value)
    settings = Settings()
    assert settings.namespace == "system"
    assert settings.watch_namespaces == ("a", "b")
    assert settings.token_min_ttl == timedelta(minutes=10)
    assert settings.sweep_interval == timedelta(seconds=90)
    assert settings.log_level == "DEBUG"
    assert settings.nats_creds_file is None
    assert settings.sensor_ca_file == Path("/ca.crt")
    assert settings.nats_url_for_sensors == settings.nats_url


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TOKEN_MIN_TTL", "soon"),
        ("SWEEP_INTERVAL", "0"),
        ("WORKERS", "0"),
        ("NATS_AUTH", "perhaps"),
        ("LOG_LEVEL", "loud"),
    ],
)
def test_a_setting_that_is_wrong_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, value: str
) -> None:
    monkeypatch.setenv(P + name, value)
    with pytest.raises(ValidationError):
        Settings()
    assert program.main([]) == 2
    assert P + name in capsys.readouterr().err


def test_passwords_in_urls_are_masked() -> None:
    settings = Settings(nats_url="nats://me:pa55word@one:4222,nats://two:4222", sensor_nats_url="tls://t0ken@x")
    shown = str(settings.masked())
    assert "pa55word" not in shown
    assert "t0ken" not in shown
    assert settings.masked()["nats_url"] == "nats://***@one:4222,nats://two:4222"


@pytest.mark.parametrize(
    ("kind", "arguments", "path"),
    [
        (SENSOR, ("ns", "x", "status"), "/apis/attune.dev/v1alpha1/namespaces/ns/sensors/x/status"),
        (SENSOR, (), "/apis/attune.dev/v1alpha1/sensors"),
        (DEPLOYMENT, ("ns",), "/apis/apps/v1/namespaces/ns/deployments"),
        (NAMESPACE, (None, "ns"), "/api/v1/namespaces/ns"),
    ],
)
def test_paths(kind: Any, arguments: Any, path: str) -> None:
    assert kind.path(*arguments) == path


def test_liveness_fails_when_the_loop_was_held_up_or_a_task_died() -> None:
    clock = [0.0]
    heartbeat = Heartbeat(monotonic=lambda: clock[0])
    health = Probes(heartbeat=heartbeat)
    assert health.liveness()[0] == 200
    clock[0] = 16.0
    assert health.liveness() == (503, "the event loop was blocked")
    clock[0] = 0.0
    health.died("rules")
    assert health.liveness() == (503, "rules has ended")


def test_readiness_names_what_is_awaited() -> None:
    health = Probes(heartbeat=Heartbeat())
    health.wait_for("signing keys")
    assert health.readiness() == (503, "waiting for signing keys")
    health.completed("signing keys")
    assert health.readiness()[0] == 200


async def test_a_task_that_ends_by_itself_fails_the_liveness_probe() -> None:
    health = Probes(heartbeat=Heartbeat())
    supervisor = Supervisor(on_died=health.died)

    async def breaks() -> None:
        raise RuntimeError("out of luck")

    supervisor.start("the worker", breaks())
    async with asyncio.timeout(150):
        await supervisor.failed()
    assert health.liveness() == (503, "the worker has ended")
    await supervisor.stop_all()


class Kubernetes:
    """Takes Events as the API server does, and forgets them on request."""

    def __init__(self) -> None:
        self.events: dict[str, dict[str, Any]] = {}

    async def create(self, _kind: Any, body: dict[str, Any]) -> dict[str, Any]:
        self.events[body["metadata"]["name"]] = body
        return body

    async def merge(self, _kind: Any, _namespace: str, name: str, patch: dict[str, Any]) -> dict[str, Any] | None:
        if name not in self.events:
            return None
        self.events[name] |= patch
        return self.events[name]


NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def event(reason: str = "Created", *, uid: str = "u") -> ObjectEvent:
    sensor = ObjectReference(kind="Sensor", namespace="n", name="s", uid=uid)
    return ObjectEvent(regarding=sensor, reason=reason, message="m")


async def written(events: list[ObjectEvent], *, clock: list[float] | None = None) -> list[dict[str, Any]]:
    kubernetes = Kubernetes()
    recorder = EventRecorder(
        kubernetes,  # type: ignore[arg-type]
        instance="pod-1",
        monotonic=lambda: clock.pop(0) if clock else 0.0,
        now=lambda: NOW,
    )
    for one in events:
        recorder.record(one)
    task = asyncio.create_task(recorder.run())
    async with asyncio.timeout(150):
        while recorder._queue.qsize():  # noqa: ASYNC110
            await asyncio.sleep(0)
        await asyncio.sleep(0)
    task.cancel()
    return list(kubernetes.events.values())


async def test_equal_events_are_one_with_a_count() -> None:
    found = await written([event(), event(), event("Updated"), event()])
    assert [(body["reason"], body["count"]) for body in found] == [("Created", 3), ("Updated", 1)]


async def test_one_object_that_flaps_is_cut_and_others_are_not() -> None:
    found = await written([event(f"R{n}") for n in range(40)] + [event(uid="other")])
    assert len(found) == 26


async def test_later_the_same_is_a_new_event() -> None:
    assert len(await written([event(), event()], clock=[0.0, 700.0])) == 2


def test_an_event_is_what_kubectl_describe_shows() -> None:
    long = ObjectEvent(regarding=event().regarding, reason="R", message="x" * 5000, type="Warning")
    body = event_body(long, name="e", first=NOW, last=NOW, count=1, instance="i" * 500)
    assert body["involvedObject"] == {
        "apiVersion": "attune.dev/v1alpha1", "kind": "Sensor", "namespace": "n", "name": "s", "uid": "u"
    }  # fmt: skip
    assert len(body["message"]) == 1024
    assert len(body["reportingInstance"]) == 128
    assert body["type"] == "Warning"


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2026-11-23T12:00:00Z", NOW),
        (" 2026-11-23T13:00:00+01:00 ", NOW),
        ("2026-11-23T12:00:00", None),
        ("now", None),
        ("", None),
        ("9999-12-31T23:59:59-12:00", None),
    ],
)
def test_times_in_annotations(text: str, time: datetime | None) -> None:
    found = issuer.requests({"attune.dev/rotate-at": text})
    assert found.rotate_at == time
    assert bool(found.problems) is (time is None)


@pytest.mark.parametrize(
    ("wanted", "given", "words"),
    [("24h", 24.0, ""), ("5m", 1 / 6, "shortest"), ("100h", 72.0, "longest"), ("10m", 1 / 6, "")],
)
def test_a_ttl_is_brought_within_its_limits_and_that_is_said(wanted: str, given: float, words: str) -> None:
    from attune_contract.resources.durations import parse_duration

    ttl, remark = issuer.effective_ttl(parse_duration(wanted), shortest=timedelta(minutes=10))
    assert ttl == timedelta(hours=given)
    assert words in remark
    assert bool(remark) is bool(words)
