"""A program for each rule: real processes, under the real supervisor."""

from datetime import UTC, datetime
from pathlib import Path

from support.eventually import until
from support.harness_events import payloads
from support.stdio_programs import TYPE, alive, events_of, harness, python, shell

from attune_sensor import AckState, event_id
from attune_sensor.testing import FakeApi, SensorHarness
from attune_stdio.messages import EventLine
from attune_stdio.output import Format, OutputOptions
from attune_stdio.output import named as named_by_time
from attune_stdio.settings import OnExit


async def test_a_few_lines_of_shell_are_a_sensor() -> None:
    loop = shell(
        'n=0; while :; do n=$((n+1)); echo "{\\"payload\\": {\\"n\\": $n}}"; sleep "$ATTUNE_PARAM_EVERY"; done'
    )
    async with harness(loop) as sensor:
        rule = sensor.apply(TYPE, {"every": 0.01})
        await sensor.wait_for(rule, AckState.ACTIVE)
        assert await payloads(sensor, 3) == [{"n": 1}, {"n": 2}, {"n": 3}]
        event = sensor.api.events[0]
        assert (event.rule_uid, event.rule_name, event.trigger_type) == (rule.uid, "rule", TYPE)


async def test_the_program_is_given_its_rule() -> None:
    program = python(
        """
with open(os.environ["ATTUNE_PARAMETERS_FILE"]) as file:
    parameters = json.load(file)
mode = oct(os.stat(os.environ["ATTUNE_PARAMETERS_FILE"]).st_mode & 0o777)
say({"parameters": parameters, "mode": mode, "variables": {k: v for k, v in os.environ.items() if "ATTUNE" in k}})
hold()
"""
    )
    secret = {"ATTUNE_API_TOKEN_FILE": "/token", "ATTUNE_SENSOR_REF": "default/s"}
    async with harness(program, environment=secret) as sensor:
        parameters = {"queue": "jobs", "limits": {"a": 1}}
        rule = sensor.apply(TYPE, parameters)
        [given] = await payloads(sensor, 1)
    file = given["variables"].pop("ATTUNE_PARAMETERS_FILE")
    assert given == {
        "parameters": parameters,
        "mode": "0o600",
        "variables": {
            "ATTUNE_PARAM_QUEUE": "jobs",
            "ATTUNE_PARAM_LIMITS": '{"a":1}',
            "ATTUNE_RULE": "default/rule",
            "ATTUNE_RULE_UID": rule.uid,
            "ATTUNE_RULE_NAMESPACE": "default",
            "ATTUNE_RULE_NAME": "rule",
            "ATTUNE_TRIGGER_TYPE": TYPE,
            "ATTUNE_SENSOR_REF": "default/s",
        },
    }
    assert not Path(file).parent.exists()


async def test_the_event_s_id_is_the_occurrence_s() -> None:
    time = "2026-11-23T12:00:00Z"
    program = python(
        f"""
say({{"n": 1}}, occurrence="first")
say({{"n": 2}}, occurred_at="{time}")
say({{"n": 1}}, occurrence="first")
say({{"n": 3}}); say({{"n": 3}})
hold()
"""
    )
    async with harness(program) as sensor:
        rule = sensor.apply(TYPE, {})
        assert await payloads(sensor, 4) == [{"n": 1}, {"n": 2}, {"n": 3}, {"n": 3}]
        first, second, third, fourth = sensor.api.events
    assert first.id == event_id(rule.uid, "first")
    named = named_by_time(EventLine(payload={"n": 2}, occurred_at=datetime(2026, 11, 23, 12, tzinfo=UTC)))
    assert second.id == event_id(rule.uid, named.occurrence or ""), "by the time and the payload"
    assert second.occurred_at == datetime(2026, 11, 23, 12, tzinfo=UTC)
    assert third.id != fourth.id


async def test_scripts_are_found_by_their_name_and_run_beside_each_other(tmp_path: Path) -> None:
    (tmp_path / "watch").write_text("#!/bin/sh\n. ./common.sh\nsay hello\nsleep 60\n")
    (tmp_path / "common.sh").write_text('say() { echo "{\\"payload\\": {\\"said\\": \\"$1\\"}}"; }\n')
    for name in ("watch", "common.sh"):
        (tmp_path / name).chmod(0o555)
    for command in (("watch",), ("./watch",), ("sh", "watch")):
        async with harness(command, scripts=tmp_path) as sensor:
            sensor.apply(TYPE, {})
            assert await payloads(sensor, 1) == [{"said": "hello"}]


async def test_a_changed_rule_gets_a_new_process_and_a_stopped_one_none() -> None:
    program = python('say({"pid": os.getpid(), "q": os.environ["ATTUNE_PARAM_Q"]}); hold()')
    async with harness(program) as sensor:
        sensor.apply(TYPE, {"q": "one"})
        [first] = await payloads(sensor, 1)
        rule = sensor.apply(TYPE, {"q": "two"})
        [second] = await payloads(sensor, 1)
        assert (first["q"], second["q"]) == ("one", "two")
        assert first["pid"] != second["pid"]
        assert not alive(first["pid"])
        rule = sensor.apply(TYPE, {"q": "two"}, enabled=False)
        await sensor.wait_for(rule, AckState.STOPPED)
        await until(lambda: not alive(second["pid"]))
        sensor.apply(TYPE, {"q": "three"})
        [third] = await payloads(sensor, 1)
        sensor.delete(rule)
        await until(lambda: not alive(third["pid"]))


async def test_a_change_that_the_program_would_not_see_does_not_disturb_it() -> None:
    program = python(
        'say({"pid": os.getpid()}); signal.signal(signal.SIGTERM, lambda *_: say({"told": "to end"})); hold()'
    )
    async with harness(program) as sensor:
        sensor.apply(TYPE, {"q": 1}, name="a")
        [first] = await payloads(sensor, 1)
        again = sensor.apply(TYPE, {"q": 1}, name="a")
        await sensor.wait_for(again, AckState.ACTIVE)
        assert alive(first["pid"])
        assert len(sensor.api.events) == 1


async def test_what_a_stopped_rule_s_program_still_says_is_not_taken() -> None:
    program = python(
        """
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
say({"late": False})
signal.sigwait([signal.SIGTERM])
say({"late": True})
"""
    )
    async with harness(program) as sensor:
        rule = sensor.apply(TYPE, {})
        await payloads(sensor, 1)
        sensor.delete(rule)
        witness = sensor.apply(TYPE, {}, name="witness")
        await payloads(sensor, 1)
        assert events_of(sensor.api, rule) == [{"late": False}]
    # But at the sensor's own end, what was found until then is reported.
    assert events_of(sensor.api, witness) == [{"late": False}, {"late": True}]


async def test_ending_with_status_0_completes_the_rule() -> None:
    async with harness(python("say({})")) as sensor:
        rule = sensor.apply(TYPE, {})
        await sensor.wait_for(rule, AckState.COMPLETED)
        await payloads(sensor, 1)


async def test_or_it_is_started_again_without_a_complaint() -> None:
    async with harness(python("say({})"), on_exit=OnExit.RESTART) as sensor:
        rule = sensor.apply(TYPE, {})
        await payloads(sensor, 3)
        await sensor.wait_for(rule, AckState.ACTIVE)


async def test_one_that_always_ends_at_once_says_so() -> None:
    async with harness(python("sys.exit(0)"), on_exit=OnExit.RESTART) as sensor:
        rule = sensor.apply(TYPE, {})
        await until(lambda: "It ended with status 0" in sensor.message(rule))
        await sensor.wait_for(rule, AckState.ACTIVE)


async def test_a_program_may_refuse_its_rule_or_say_how_it_fares() -> None:
    program = python(
        """
say_ack = lambda **ack: print(json.dumps(ack), flush=True)
queue = os.environ["ATTUNE_PARAM_QUEUE"]
if queue == "wrong":
    say_ack(ack="Rejected", message="there is no queue wrong")
else:
    say_ack(ack="Failing", message="the queue is away")
    print("garbage", flush=True)
say({"pid": os.getpid()})
hold()
"""
    )
    async with harness(program) as sensor:
        wrong = sensor.apply(TYPE, {"queue": "wrong"}, name="wrong")
        assert await sensor.wait_for(wrong, AckState.REJECTED) == "there is no queue wrong"
        right = sensor.apply(TYPE, {"queue": "right"}, name="right")
        assert await sensor.wait_for(right, AckState.FAILING) == "the queue is away"
        await until(lambda: bool(events_of(sensor.api, right)))
        # What the supervisor has to remark does not stand over the program's own word.
        await until(lambda: (lines(sensor, "malformed") or 0) >= 1)
        assert sensor.message(right) == "the queue is away"
        # The one that refused is not started again, until the rule changes.
        mended = sensor.apply(TYPE, {"queue": "right"}, name="wrong")
        await sensor.wait_for(mended, AckState.FAILING)


def lines(sensor: SensorHarness, result: str) -> float | None:
    return sensor.metrics.registry.get_sample_value("attune_stdio_lines_total", {"result": result})


async def test_a_restarted_sensor_reports_the_same_events_once(tmp_path: Path) -> None:
    program = shell("for n in 1 2 3; do echo '{\"payload\": {}, \"occurrence\": '$n'}'; done; exec sleep 60")
    api = FakeApi()
    for _ in range(2):
        async with harness(program, api=api) as sensor:
            rule = sensor.apply(TYPE, {})
            await sensor.wait_for(rule, AckState.ACTIVE)
            await until(lambda: len(api.events) >= 3)
    assert sorted(event.id for event in api.events) == sorted(event_id(rule.uid, n) for n in "123")


async def test_a_program_that_cannot_be_started_says_so_and_others_run(tmp_path: Path) -> None:
    (tmp_path / "broken").write_text("no interpreter named")
    for command, words in ((("/nowhere/program",), "No such file"), ((str(tmp_path / "broken"),), "Permission denied")):
        async with harness(command) as sensor:
            rule = sensor.apply(TYPE, {})
            said = await sensor.wait_for(rule, AckState.FAILING)
            assert f"The program {command[0]} cannot be started: {words}" in said
            assert "started again in" in said


async def test_a_wrong_expression_is_told_with_its_column() -> None:
    output = OutputOptions(format=Format.JSON, when="line.a == 1 && lin.b")
    async with harness(shell("echo '{}'; exec sleep 100"), output=output) as sensor:
        rule = sensor.apply(TYPE, {})
        message = await sensor.wait_for(rule, AckState.REJECTED, within=30)
    assert "spec.stdio.when" in message
    assert "column 16: unknown variable lin; expected one of: line, params" in message
