"""Programs that misbehave in every way: memory stays bounded, the status says what is wrong, and other rules do not notice.

Each test runs a well-behaved rule beside the other.
"""

import asyncio
import os
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from support.eventually import until
from support.harness_events import payloads
from support.stdio_programs import TYPE, alive, events_of, harness, python

from attune_sensor import AckState, Rule
from attune_sensor.testing import SensorHarness

#: Rules with the parameter `good` tick; the others run what stands before.
_GOOD = """
if "ATTUNE_PARAM_GOOD" in os.environ:
    n = 0
    while True:
        n += 1
        say({"tick": n})
        time.sleep(0.02)
"""


@asynccontextmanager
async def beside_a_good_rule(bad: str, **options: float) -> AsyncIterator[tuple[SensorHarness, Rule]]:
    """A sensor with a rule that runs ``bad``, and one that ticks and must go on doing so all the while."""
    async with harness(python(_GOOD + bad), **options) as sensor:  # type: ignore[arg-type]
        good = sensor.apply(TYPE, {"good": True}, name="good")
        await until(lambda: len(events_of(sensor.api, good)) >= 3)
        yield sensor, sensor.apply(TYPE, {}, name="bad")
        before = len(events_of(sensor.api, good))
        await until(lambda: len(events_of(sensor.api, good)) >= before + 10)
        await sensor.wait_for(good, AckState.ACTIVE)
        ticks = [payload["tick"] for payload in events_of(sensor.api, good)]
        assert ticks == list(range(1, len(ticks) + 1)), "the good rule missed something, or was restarted"


def memory() -> float:
    """The highest use of memory so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def test_garbage_is_counted_and_told_and_the_events_between_are_taken() -> None:
    bad = """
for n in range(3):
    sys.stdout.buffer.write(b"\\x00\\xff\\xfe not json\\n[1, 2]\\n{\\"payload\\": 5}\\n\\n")
    sys.stdout.flush()
    say({"n": n})
hold()
"""
    async with beside_a_good_rule(bad) as (sensor, rule):
        await until(lambda: events_of(sensor.api, rule) == [{"n": 0}, {"n": 1}, {"n": 2}])
        await until(lambda: sensor.message(rule).startswith("Not everything gets through: "))
        await sensor.wait_for(rule, AckState.ACTIVE)
        assert "lines refused since" in sensor.message(rule)


async def test_a_line_of_10_mib_is_cut_and_the_next_is_taken() -> None:
    bad = """
sys.stdout.write('{"payload": {"large": "' + "x" * (10 * 1024 * 1024) + '"}}\\n')
say({"after": True})
hold()
"""
    before = memory()
    async with beside_a_good_rule(bad) as (sensor, rule):
        await until(lambda: events_of(sensor.api, rule) == [{"after": True}])
        await until(lambda: bool(sensor.message(rule)))
        assert "it has 10485786 bytes, and 1048576 are allowed" in sensor.message(rule)
    assert memory() - before < 30


async def test_a_line_without_end_takes_neither_memory_nor_others_time() -> None:
    before = memory()
    async with beside_a_good_rule("while True: sys.stdout.write('x' * 65536)", lines_per_second=100) as (sensor, rule):
        await sensor.wait_for(rule, AckState.ACTIVE)
        await until(lambda: "made to wait" in sensor.message(rule), within=60)
    assert memory() - before < 30


async def test_the_last_line_may_lack_its_end() -> None:
    async with beside_a_good_rule("""sys.stdout.write('{"payload": {"last": true}}'); sys.exit(0)""") as (sensor, rule):
        await sensor.wait_for(rule, AckState.COMPLETED)
        await until(lambda: events_of(sensor.api, rule) == [{"last": True}])


async def test_what_ignores_sigterm_is_killed_and_holds_nobody_up() -> None:
    bad = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
say({"pid": os.getpid()})
hold()
"""
    async with beside_a_good_rule(bad, stop_seconds=4) as (sensor, rule):
        # More of them than the SDK works on at once: a rule that comes meanwhile does not wait for their ends.
        rules = [rule, *(sensor.apply(TYPE, {}, name=f"bad-{n}") for n in range(15))]
        await until(lambda: all(events_of(sensor.api, found) for found in rules), within=30)
        pids = [events_of(sensor.api, found)[0]["pid"] for found in rules]
        for found in rules:
            sensor.delete(found)
        began = asyncio.get_running_loop().time()
        late = sensor.apply(TYPE, {"good": True}, name="late")
        await until(lambda: bool(events_of(sensor.api, late)))
        assert asyncio.get_running_loop().time() - began < 16 * 4 / 2, "one after the other would take 64 seconds"
        await until(lambda: not any(map(alive, pids)), within=20)


async def test_a_rule_s_next_process_waits_for_the_end_of_the_one_before() -> None:
    bad = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
say({"pid": os.getpid(), "q": os.environ.get("ATTUNE_PARAM_Q")})
hold()
"""
    async with beside_a_good_rule(bad, stop_seconds=1.5) as (sensor, rule):
        await until(lambda: bool(events_of(sensor.api, rule)))
        changed = sensor.apply(TYPE, {"q": "new"}, name="bad")
        assert "has not ended yet" in await sensor.wait_for(changed, AckState.FAILING)
        await until(lambda: len(events_of(sensor.api, rule)) == 2)
        first, second = events_of(sensor.api, rule)
        assert not alive(first["pid"])
        assert second["q"] == "new"
        await sensor.wait_for(changed, AckState.ACTIVE)


async def test_what_it_forks_goes_with_it() -> None:
    bad = """
children = []
for _ in range(5):
    if (pid := os.fork()) == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        hold()
    children.append(pid)
say({"pids": [os.getpid(), *children]})
hold()
"""
    async with beside_a_good_rule(bad, stop_seconds=0.5) as (sensor, rule):
        await until(lambda: bool(events_of(sensor.api, rule)))
        [said] = events_of(sensor.api, rule)
        assert all(map(alive, said["pids"]))
        sensor.delete(rule)
        await until(lambda: not any(map(alive, said["pids"])))


@pytest.fixture
def late_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left behind has longer to say its lines than it has by default: a busy machine may not let it run at once."""
    monkeypatch.setattr("attune_stdio.program._DRAIN_SECONDS", 5.0)


@pytest.mark.usefixtures("late_lines")
async def test_what_it_leaves_behind_at_its_own_end_goes_too_and_its_lines_are_taken() -> None:
    bad = """
if os.fork() == 0:
    time.sleep(0.2)
    say({"from": "the fork", "pid": os.getpid()})
    hold()
say({"from": "the program"})
sys.exit(3)
"""
    async with beside_a_good_rule(bad, retry=60) as (sensor, rule):
        assert "ended with status 3" in await sensor.wait_for(rule, AckState.FAILING, within=60)
        program, fork = events_of(sensor.api, rule)
        assert (program["from"], fork["from"]) == ("the program", "the fork")
        await until(lambda: not alive(fork["pid"]))


@pytest.mark.usefixtures("late_lines")
async def test_a_daemon_that_keeps_the_pipe_does_not_keep_the_rule() -> None:
    bad = """
if os.fork() == 0:
    os.setsid()
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    say({"pid": os.getpid()})
    hold()
sys.exit(3)
"""
    async with beside_a_good_rule(bad, retry=60) as (sensor, rule):
        assert "ended with status 3" in await sensor.wait_for(rule, AckState.FAILING, within=60)
        [said] = events_of(sensor.api, rule)
        os.kill(said["pid"], 9)


async def test_a_flood_of_50_000_lines_a_second_waits_in_its_own_pipe() -> None:
    bad = """
lines = "".join(json.dumps({"payload": {"n": n}}) + "\\n" for n in range(500))
due = time.monotonic()
while True:
    sys.stdout.write(lines)
    sys.stdout.flush()
    due += 500 / 50_000
    time.sleep(max(0, due - time.monotonic()))
"""
    before = memory()
    async with beside_a_good_rule(bad, lines_per_second=500) as (sensor, rule):
        loop = asyncio.get_running_loop()
        await until(lambda: len(events_of(sensor.api, rule)) >= 500)
        began, first = loop.time(), len(events_of(sensor.api, rule))
        await until(lambda: "made to wait" in sensor.message(rule))
        await asyncio.sleep(2)  # the rate is measured over a length of time
        taken = (len(events_of(sensor.api, rule)) - first) / (loop.time() - began)
        assert taken < 1000
        assert sensor.undelivered < 1000
    assert memory() - before < 40


async def test_a_flood_on_standard_error_harms_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    before = memory()
    async with beside_a_good_rule("while True: sys.stderr.write('complaint ' * 20 + '\\n')") as (sensor, rule):
        await sensor.wait_for(rule, AckState.ACTIVE)
        await until(lambda: capsys.readouterr().out.count("program_said") < 1000)
    assert memory() - before < 30


async def test_what_ends_at_once_is_started_again_and_again_and_says_its_last_words() -> None:
    bad = """
print("cannot open the queue", file=sys.stderr)
print("no such host: queue.example", file=sys.stderr)
sys.exit(3)
"""
    async with beside_a_good_rule(bad) as (sensor, rule):
        said = await sensor.wait_for(rule, AckState.FAILING)
        assert " ended with status 3 after " in said
        assert said.endswith("It said last: cannot open the queue | no such host: queue.example")
        starts = started(sensor)
        await until(lambda: started(sensor) >= starts + 10, within=30)


async def test_what_prints_nothing_says_so() -> None:
    async with beside_a_good_rule("hold()") as (sensor, rule):
        await until(lambda: "has printed nothing so far" in sensor.message(rule))


def started(sensor: SensorHarness) -> float:
    value = sensor.metrics.registry.get_sample_value("attune_stdio_starts_total")
    assert value is not None
    return value


async def test_one_that_works_again_for_a_while_is_active_again(tmp_path: Path) -> None:
    bad = f"""
counter = {str(tmp_path / "runs")!r}
with open(counter, "a+") as file:
    file.write("x"); file.flush(); file.seek(0)
    runs = len(file.read())
if runs <= 3:
    os.kill(os.getpid(), signal.SIGKILL)
say({{"runs": runs}})
hold()
"""
    async with beside_a_good_rule(bad) as (sensor, rule):
        assert "was ended by SIGKILL, perhaps for want of memory, after" in await sensor.wait_for(
            rule, AckState.FAILING
        )
        await until(lambda: events_of(sensor.api, rule) == [{"runs": 4}])
        await sensor.wait_for(rule, AckState.ACTIVE)


async def test_a_program_that_stops_printing_is_left_alone() -> None:
    # Closing standard output is no end, and no reason to wake up again and again.
    async with beside_a_good_rule("say({'n': 1}); os.close(1); hold()") as (sensor, rule):
        await until(lambda: events_of(sensor.api, rule) == [{"n": 1}])
        await sensor.wait_for(rule, AckState.ACTIVE)


async def test_a_halted_program_ends_when_its_rule_does() -> None:
    async with beside_a_good_rule("say({'pid': os.getpid()}); os.kill(os.getpid(), signal.SIGSTOP); hold()") as (
        sensor,
        rule,
    ):
        await until(lambda: bool(events_of(sensor.api, rule)))
        [said] = events_of(sensor.api, rule)
        sensor.delete(rule)
        await until(lambda: not alive(said["pid"]))


async def test_the_api_away_stops_nobody() -> None:
    async with beside_a_good_rule("for n in range(100): say({'n': n})\nhold()") as (sensor, rule):
        sensor.api.available = False
        await until(lambda: sensor.undelivered >= 100)
        sensor.api.available = True
        await until(lambda: events_of(sensor.api, rule) == [{"n": n} for n in range(100)])


async def test_payloads_that_are_too_large_for_the_api_are_told() -> None:
    # Shorter than a line may be, but not with what the event has besides.
    async with beside_a_good_rule("say({'x': 'x' * (1024 * 1024 - 60)})\nsay({'ok': 1})\nhold()") as (sensor, rule):
        await until(lambda: events_of(sensor.api, rule) == [{"ok": 1}])
        await until(lambda: "the API takes at most" in sensor.message(rule))


async def test_nothing_is_left_open() -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    async with harness(python("say({}); sys.exit(1)"), retry=0.01) as sensor:
        rule = sensor.apply(TYPE, {})
        await payloads(sensor, 5)
        before = descriptors()
        await payloads(sensor, 20)
        assert descriptors() <= before + 4
        sensor.delete(rule)
