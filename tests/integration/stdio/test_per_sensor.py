"""One program for all rules: real processes, under the real supervisor."""

from pathlib import Path

from support.eventually import until
from support.harness_events import payloads
from support.stdio_programs import TYPE, alive, events_of, harness, python

from attune_sensor import AckState, SensorContext, event_id
from attune_sensor.testing import SensorHarness
from attune_stdio.interpreter import Expressions
from attune_stdio.metrics import StdioMetrics
from attune_stdio.output import OutputOptions
from attune_stdio.per_sensor import PerSensorHandler
from attune_stdio.process import own
from attune_stdio.restarts import Restarts
from attune_stdio.settings import Mode, StdioSettings

#: Says each line that it is told, as the payload of an event of the rule that the line is about.
ECHO = python(
    """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for text in sys.stdin:
    told = json.loads(text)
    say({"told": told, "pid": os.getpid()}, rule=told["rule"]["uid"])
say({"told": "to end"}, trigger_type="acme.thing")
"""
)


async def test_the_program_is_told_of_its_rules_as_they_come_and_go() -> None:
    async with harness(ECHO, mode=Mode.PER_SENSOR) as sensor:
        rule = sensor.apply(TYPE, {"q": 1})
        await sensor.wait_for(rule, AckState.ACTIVE)
        [first] = await payloads(sensor, 1)
        assert first["told"] == {
            "type": "start",
            "rule": {
                "uid": rule.uid,
                "namespace": "default",
                "name": "rule",
                "generation": 1,
                "trigger_type": TYPE,
                "parameters": {"q": 1},
                "created_at": rule.created_at.isoformat().replace("+00:00", "Z"),
            },
        }
        rule = sensor.apply(TYPE, {"q": 2})
        other = sensor.apply(TYPE, {"q": 3}, name="other")
        second, third = await payloads(sensor, 2)
        assert (second["told"]["type"], second["told"]["rule"]["parameters"]) == ("update", {"q": 2})
        assert (third["told"]["type"], third["told"]["rule"]["name"]) == ("start", "other")
        assert first["pid"] == second["pid"] == third["pid"]
        sensor.delete(rule)
        # Its answer to that is of a rule that does not run any more, and not taken.
        counted = "attune_stdio_lines_total", {"result": "late"}
        await until(lambda: sensor.metrics.registry.get_sample_value(*counted) == 1)
        assert len(events_of(sensor.api, rule)) == 2
    # At the end its standard input ends, and what it says then is taken.
    assert events_of(sensor.api, other)[-1]["told"] == "to end"


async def test_rules_go_by_their_name_too_and_a_trigger_type_stands_for_all_of_its_rules() -> None:
    program = python(
        """
rules = [json.loads(sys.stdin.readline())["rule"] for _ in range(3)]
say({"to": "b"}, rule="default/b", occurrence="1")
say({"to": "things"}, trigger_type="acme.thing", occurrence="2")
say({"to": "?"})
say({"to": "?"}, trigger_type="acme.none")
say({"to": "?"}, rule="default/none")
say({"to": "?"}, rule="default/a", trigger_type="acme.other")
say({"to": "others"}, trigger_type="acme.other", occurrence="2")
hold()
"""
    )
    async with harness(program, mode=Mode.PER_SENSOR, trigger_types=(TYPE, "acme.other")) as sensor:
        a, b = (sensor.apply(TYPE, {}, name=name) for name in "ab")
        c = sensor.apply("acme.other", {}, name="c")
        await until(lambda: len(sensor.api.events) == 4)
        assert events_of(sensor.api, a) == [{"to": "things"}]
        assert events_of(sensor.api, b) == [{"to": "b"}, {"to": "things"}]
        assert events_of(sensor.api, c) == [{"to": "others"}]
        assert sensor.api.events[-1].id == event_id(c.uid, "2")
        await until(lambda: " refused since " in sensor.message(a))


async def test_a_program_that_wants_to_know_no_rules_is_told_of_none_and_serves_them_all() -> None:
    program = ("/bin/sh", "-c", 'exec <&-; while :; do echo \'{"payload": {"tick": true}}\'; sleep 0.05; done')
    async with harness(program, mode=Mode.PER_SENSOR) as sensor:
        rules = [sensor.apply(TYPE, {"long": "x" * 1000}, name=f"rule-{n}") for n in range(200)]
        await until(lambda: all(events_of(sensor.api, rule) for rule in rules))
        await sensor.wait_for(rules[-1], AckState.ACTIVE)


async def test_one_that_does_not_read_is_found_out_and_takes_no_memory() -> None:
    program = python("time.sleep(2)\nfor text in sys.stdin: told = json.loads(text)\nhold()")

    def handler(context: SensorContext) -> PerSensorHandler:
        return PerSensorHandler(
            context=context,
            settings=StdioSettings(command=program, mode=Mode.PER_SENSOR),
            metrics=StdioMetrics(context.metrics.registry),
            expressions=Expressions(OutputOptions(), context=context, adopt=own.add, forget=own.discard),
            environment={},
            restarts=Restarts(),
            not_reading_after=0.3,
        )

    async with SensorHarness(handler, trigger_types=[TYPE]) as sensor:
        rules = [sensor.apply(TYPE, {"long": "x" * 1000}, name=f"rule-{n}") for n in range(200)]
        assert "does not read its standard input" in await sensor.wait_for(rules[-1], AckState.FAILING)
        await sensor.wait_for(rules[0], AckState.ACTIVE)  # this one it can have read
        for _ in range(5):
            rules = [sensor.apply(TYPE, {"long": "y" * 1000}, name=f"rule-{n}") for n in range(200)]
        await sensor.wait_for(rules[-1], AckState.ACTIVE, within=60)


async def test_a_program_that_ends_is_told_all_again_and_its_rules_say_so_meanwhile(tmp_path: Path) -> None:
    program = python(
        """
told = json.loads(sys.stdin.readline())
say({"pid": os.getpid(), "told": told["type"]}, rule=told["rule"]["uid"])
if told["rule"]["parameters"]["crash"] and not os.path.exists(sys.argv[1]):
    open(sys.argv[1], "w").close()
    print("lost my way", file=sys.stderr)
    sys.exit(0)
hold()
"""
    )
    command = (*program, str(tmp_path / "crashed"))
    async with harness(command, mode=Mode.PER_SENSOR, healthy_after=5.0) as sensor:
        rule = sensor.apply(TYPE, {"crash": True})
        said = await sensor.wait_for(rule, AckState.FAILING)
        assert "ended with status 0 after" in said
        assert said.endswith("It said last: lost my way")
        first, second = await payloads(sensor, 2)
        assert (first["told"], second["told"]) == ("start", "start")
        # A rule that comes before the program has proved itself again is handled in the same way.
        late = sensor.apply(TYPE, {"crash": False}, name="late")
        await sensor.wait_for(late, AckState.FAILING)
        await sensor.wait_for(rule, AckState.ACTIVE)
        await sensor.wait_for(late, AckState.ACTIVE)


async def test_the_program_may_refuse_a_rule_and_serve_the_others() -> None:
    program = python(
        """
for text in sys.stdin:
    rule = json.loads(text)["rule"]
    if rule["parameters"].get("q") == "wrong":
        print(json.dumps({"ack": "Rejected", "rule": rule["uid"], "message": "no queue wrong"}), flush=True)
    say({"pid": os.getpid()}, rule=rule["uid"])
"""
    )
    async with harness(program, mode=Mode.PER_SENSOR) as sensor:
        right, wrong = (sensor.apply(TYPE, {"q": q}, name=q) for q in ("right", "wrong"))
        assert await sensor.wait_for(wrong, AckState.REJECTED) == "no queue wrong"
        await sensor.wait_for(right, AckState.ACTIVE)
        mended = sensor.apply(TYPE, {"q": "better"}, name="wrong")
        await sensor.wait_for(mended, AckState.ACTIVE)
        [pid] = {payload["pid"] for payload in events_of(sensor.api, right)}
        assert alive(pid)
    assert not alive(pid)
