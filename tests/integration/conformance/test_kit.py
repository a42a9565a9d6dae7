"""The conformance kit: our sensors and one without our SDK pass it; each check fails a sensor that is wrong in it."""

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
from support.nats_server import NatsServer
from support.redis_server import RedisServer
from support.wrong_sensors import WRONGS
from typer.testing import CliRunner

from attune_cluster.apiserver import ApiServer
from attune_cluster.golang import toolchain
from attune_cluster.settings import Settings
from attune_conformance import report, testbed
from attune_conformance.checks import all_checks
from attune_conformance.command import conformance
from attune_conformance.profile import Profile
from attune_conformance.runner import Outcome, Result, run_checks
from attune_contract import environment
from attune_contract.events import event_id
from attune_kit.nats.connection import NatsEndpoint, open_connection

pytestmark = [pytest.mark.nats, pytest.mark.timeout(900)]

TESTS = Path(__file__).resolve().parents[2]
GO_SENSOR = TESTS.parent / "examples" / "go-sensor"
INTERVAL = {"interval": 0.2}


def timer(*command: str, slack: float = 20.0) -> Profile:
    return Profile(
        command=command or (sys.executable, "-m", "attune_timer"),
        trigger_type="core.intervaltimer",
        parameters=INTERVAL,
        bad_parameters={"interval": 0},
        every=0.2,
        slack=slack,
        environment={"PYTHONPATH": os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])},
    )


async def examine(profile: Profile, folder: Path, *names: str, parallel: int = 6) -> dict[str, Result]:
    checks = all_checks()
    results = await run_checks(
        [checks[name] for name in names or checks], profile=profile, folder=folder, parallel=parallel
    )
    return {result.check.name: result for result in results}


@pytest.fixture(scope="module")
def go_sensor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example in Go, vetted and built."""
    go = toolchain(Settings.from_environment())
    program = tmp_path_factory.mktemp("go") / "go-sensor"
    for arguments in (["vet", "./..."], ["build", "-o", str(program), "."]):
        done = subprocess.run(
            [go.program, *arguments], cwd=GO_SENSOR, env=go.environment(), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    return program


#: A program that prints a line for each multiple of ATTUNE_PARAM_EVERY seconds.
PRINTER = """
import json, os, time
from datetime import UTC, datetime
every = float(os.environ["ATTUNE_PARAM_EVERY"])
if every <= 0:
    print(json.dumps({"ack": "Rejected", "message": "every must be positive"}), flush=True)
    time.sleep(3600)
while True:
    k = int(time.time() / every) + 1
    time.sleep(max(0.0, k * every - time.time()))
    at = datetime.fromtimestamp(round(k * every, 6), UTC).isoformat()
    print(json.dumps({"payload": {"k": k}, "occurrence": at, "occurred_at": at}), flush=True)
"""


def printing() -> Profile:
    return Profile(
        command=(sys.executable, "-m", "attune_stdio", "--", sys.executable, "-I", "-c", PRINTER),
        trigger_type="acme.tick",
        parameters={"every": 0.2},
        bad_parameters={"every": -1},
        every=0.2,
    )


def in_go(program: Path) -> Profile:
    return Profile(
        command=(str(program),),
        trigger_type="example.tick",
        parameters={"every": 0.2},
        bad_parameters={"every": -1},
        every=0.2,
    )


#: Calls the path of each rule again and again; a disabled one answers with an error, which is nothing to this caller.
CALLER = """
import contextlib, json, os, time, urllib.error, urllib.request
port, rules = os.environ["ATTUNE_PORT_HTTP"], os.environ["ATTUNE_CONFORMANCE_RULES_FILE"]
while True:
    time.sleep(0.2)
    for rule in json.load(open(rules)):
        if path := rule["parameters"].get("path"):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", data=b"{}", timeout=60).close()
"""


def called() -> Profile:
    return Profile(
        command=(sys.executable, "-m", "attune_webhook"),
        trigger_type="core.webhook",
        parameters={"path": "/$rule", "auth": {"type": "none"}},
        bad_parameters={"path": "/bad", "auth": {"type": "bearer"}},
        every=0.5,
        repeatable=False,
        ports=("http",),
        stimulus=(sys.executable, "-I", "-c", CALLER),
    )


#: Changes a ConfigMap five times a second. Several of these say the same at the same time, and the API server takes that as one.
CHANGER = """
import base64, contextlib, json, os, ssl, tempfile, time, urllib.request
config = json.load(open(os.environ["KUBECONFIG"]))
cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
tls = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
with tempfile.NamedTemporaryFile() as both:
    both.write(base64.b64decode(user["client-certificate-data"]) + base64.b64decode(user["client-key-data"]))
    both.flush()
    tls.load_cert_chain(both.name)
url = cluster["server"] + "/api/v1/namespaces/default/configmaps/clock?fieldManager=changer&force=true"
headers = {"Content-Type": "application/apply-patch+yaml"}
while True:
    n = int(time.time() * 5) + 1
    time.sleep(max(0.0, n / 5 - time.time()))
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "clock"}, "data": {"n": str(n)}}
    with contextlib.suppress(OSError):
        request = urllib.request.Request(url, data=json.dumps(body).encode(), headers=headers, method="PATCH")
        urllib.request.urlopen(request, timeout=60, context=tls).close()
"""
#: The ConfigMap that it changes, as a rule names it.
CLOCK = {"apiVersion": "v1", "kind": "ConfigMap", "namespaces": ["default"], "fieldSelector": "metadata.name=clock"}


def watching(server: ApiServer) -> Profile:
    return Profile(
        command=(sys.executable, "-m", "attune_kubernetes"),
        trigger_type="core.kubernetes",
        parameters=CLOCK,
        bad_parameters={**CLOCK, "filter": "object.("},
        every=0.5,
        occurrence="resourceVersion",  # the API server's times are whole seconds
        environment={"KUBECONFIG": str(server.kubeconfig)},
        slack=40.0,  # there is an API server beside all the rest
        stimulus=(sys.executable, "-I", "-c", CHANGER),
    )


#: Adds an entry to the stream of each rule again and again, by Redis' own protocol.
ADDER = """
import contextlib, json, os, socket, time
host, rules = ("127.0.0.1", int(os.environ["REDIS_PORT"])), os.environ["ATTUNE_CONFORMANCE_RULES_FILE"]
while True:
    time.sleep(0.2)
    with contextlib.suppress(OSError, ValueError), socket.create_connection(host, 60) as redis:
        for rule in json.load(open(rules)):
            if stream := rule["parameters"].get("stream"):
                redis.sendall(f"XADD {stream} * n {time.time()}\\r\\n".encode())
                redis.recv(100)
"""


def reading(server: RedisServer) -> Profile:
    return Profile(
        command=(sys.executable, "-m", "attune_redis"),
        trigger_type="core.redisstream",
        parameters={"stream": "$rule"},
        bad_parameters={"stream": "s", "server": "unknown"},
        every=0.5,
        repeatable=False,  # two instances divide the entries among them
        occurrence="id",
        config={"servers": {"default": {"url": server.url}}},
        environment={"REDIS_PORT": str(server.port)},
        stimulus=(sys.executable, "-I", "-c", ADDER),
    )


#: Publishes a message for each rule again and again, by NATS' own protocol.
PUBLISHER = """
import contextlib, json, os, socket, time
host, rules = ("127.0.0.1", int(os.environ["NATS_PORT"])), os.environ["ATTUNE_CONFORMANCE_RULES_FILE"]
while True:
    time.sleep(0.2)
    with contextlib.suppress(OSError, ValueError), socket.create_connection(host, 60) as nats:
        nats.sendall(b'CONNECT {"verbose": false}\\r\\n')
        for rule in json.load(open(rules)):
            if subject := rule["parameters"].get("subject"):
                body = str(time.time()).encode()
                nats.sendall(b"PUB %s %d\\r\\n%s\\r\\n" % (subject.encode(), len(body), body))
        nats.sendall(b"PING\\r\\n")
        while (answer := nats.recv(10000)) and b"PONG" not in answer:
            pass
"""


def reading_nats(server: NatsServer) -> Profile:
    return Profile(
        command=(sys.executable, "-m", "attune_nats"),
        trigger_type="core.natsstream",
        parameters={"stream": "TICKS", "subject": "ticks.$rule"},
        bad_parameters={"stream": "TICKS", "server": "unknown"},
        every=0.5,
        repeatable=False,  # two instances divide the messages among them
        occurrence="sequence",
        config={"servers": {"default": {"url": server.url}}},
        environment={"NATS_PORT": str(server.port)},
        slack=40.0,  # after a kill it waits until the server delivers again what was under way
        stimulus=(sys.executable, "-I", "-c", PUBLISHER),
    )


async def _make_ticks(server: NatsServer) -> None:
    async with open_connection(NatsEndpoint(url=server.url)) as connection:
        await connection.jetstream.add_stream(name="TICKS", subjects=["ticks.>"])


@pytest.fixture
def profile(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Profile]:
    """The sensor's, with what has to run for it."""
    match request.param:
        case "timer":
            yield timer()
        case "stdio":
            yield printing()
        case "webhook":
            yield called()
        case "go":
            yield in_go(request.getfixturevalue("go_sensor"))
        case "redis":
            with RedisServer(tmp_path / "redis") as redis:
                yield reading(redis)
        case "nats":
            nats = NatsServer(tmp_path / "broker")
            nats.start()
            asyncio.run(_make_ticks(nats))
            yield reading_nats(nats)
            nats.stop()
        case "kubernetes":
            with ApiServer(tmp_path / "kubernetes") as server:
                yield watching(server)


@pytest.mark.parametrize(
    "profile",
    [
        "timer",
        "stdio",
        "go",
        "webhook",
        "redis",
        "nats",
        pytest.param("kubernetes", marks=[pytest.mark.apiserver, pytest.mark.alone]),
    ],
    indirect=True,
)
async def test_sensors_conform(profile: Profile, tmp_path: Path) -> None:
    # The Kubernetes sensor runs alone: it waits a second for the API's answer, and sends an event again after that.
    results = await examine(profile, tmp_path, parallel=10)
    good = {Outcome.PASSED} if profile.repeatable else {Outcome.PASSED, Outcome.NOT_APPLICABLE}
    assert {name: result.message for name, result in results.items() if result.outcome not in good} == {}


def test_two_checks_name_no_rule_alike(tmp_path: Path) -> None:
    """They share the broker: with one name, each would read what is meant for the other."""
    one, other = (testbed.Testbed(profile=timer(), folder=tmp_path / name) for name in ("one", "other"))
    names = [bed.new_rule().name for bed in (one, other, one, other)]
    assert len(set(names)) == 4


def test_there_is_a_wrong_sensor_for_each_check() -> None:
    assert set(WRONGS) == set(all_checks())


async def test_each_check_fails_the_sensor_that_is_wrong_in_it(tmp_path: Path) -> None:
    room = asyncio.Semaphore(10)

    async def one(name: str) -> Result:
        async with room:
            wrong = timer(sys.executable, "-m", "support.wrong_sensors", name, slack=8.0)
            return (await examine(wrong, tmp_path / name, name))[name]

    results = await asyncio.gather(*(one(name) for name in all_checks()))
    for result in results:
        print(f"{result.check.name}: {WRONGS[result.check.name].__name__}: {result.message}")
    others = {r.check.name: (r.outcome, r.message) for r in results if r.outcome is not Outcome.FAILED}
    assert others == {}


def cli(*arguments: str) -> tuple[int, str, str]:
    import typer

    app = typer.Typer()
    app.command()(conformance)
    result = CliRunner().invoke(app, arguments)
    return result.exit_code, result.stdout, result.stderr


def test_the_command_says_what_it_found_in_each_form(tmp_path: Path) -> None:
    code, out, err = cli(
        "--trigger-type=core.intervaltimer", '--parameters={"interval": 0.2}', "--every=0.2",
        "--check=rules-there-first", "--check=bad-parameters", "--output=json", f"--junit={tmp_path / 'junit.xml'}",
        "--", sys.executable, "-m", "attune_timer",
    )  # fmt: skip
    assert code == 0, err
    found = {check["name"]: check["outcome"] for check in json.loads(out)["checks"]}
    assert found == {"rules-there-first": "passed", "bad-parameters": "not applicable"}
    assert "The sensor conforms." in err
    suite = ElementTree.parse(tmp_path / "junit.xml").getroot()
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("2", "0", "1")


def test_a_program_that_ends_at_once_fails_with_its_last_words(tmp_path: Path) -> None:
    code, out, _ = cli(
        "--trigger-type=acme.file", "--check=rules-there-first", f"--logs={tmp_path}", "--slack=1",
        "--", sys.executable, "-c", "raise SystemExit('no such queue')",
    )  # fmt: skip
    assert code == 1
    assert "MUST: The sensor ended with status 1. Its last words: no such queue" in out
    assert "The sensor does not conform." in out
    [log] = tmp_path.rglob("sensor-1.log")
    assert log.read_text() == "no such queue\n"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "which program?"),
        (("--", "true"), "which trigger type?"),
        (("--trigger-type=a.b", "--", "no-such-program"), "there is no program 'no-such-program'"),
        (("--trigger-type=a.b", "--parameters=5", "--", "true"), "--parameters: not a JSON object"),
        (("--trigger-type=a.b", "--parameters={", "--", "true"), "--parameters: not JSON"),
        (("--trigger-type=a.b", "--env=X", "--", "true"), "--env: 'X' is not NAME=VALUE"),
        (("--trigger-type=a.b", "--check=x", "--", "true"), "there is no check x; see attune conformance --list"),
        (("--trigger-type=a.b", "--output=xml", "--", "true"), "--output: 'xml' is neither text nor json"),
        (("--manifest=no.yaml", "--", "true"), "no.yaml"),
        (("--manifest=packs/core/core.timer.yaml", "--trigger-type=a.b", "--", "true"), "and not a.b"),
    ],
)
def test_a_wrong_command_is_told_in_a_sentence(arguments: tuple[str, ...], sentence: str) -> None:
    code, _, err = cli(*arguments)
    assert code == 2
    assert sentence in err


def test_the_list_names_every_check() -> None:
    code, out, _ = cli("--list")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == list(all_checks())


def test_a_failed_should_does_not_count(tmp_path: Path) -> None:
    check = all_checks()["metrics"]
    result = Result(check=check, outcome=Outcome.FAILED, message="none", seconds=1.0, log=tmp_path)
    assert report.summary([result]) == "1 failed. The sensor conforms."
    assert ElementTree.fromstring(report.as_junit([result])).get("skipped") == "1"


def test_the_protocol_names_every_check_and_no_other() -> None:
    text = (TESTS.parent / "docs" / "sensor-protocol.md").read_text()
    named = {name.strip() for found in re.findall(r"\[([a-z0-9, -]+)\](?!\()", text) for name in found.split(",")}
    assert named == set(all_checks())


def test_the_protocol_names_every_variable() -> None:
    text = (TESTS.parent / "docs" / "sensor-protocol.md").read_text()
    ours = {value for name, value in vars(environment).items() if name.isupper() and str(value).startswith("ATTUNE_")}
    documented = set(re.findall(r"`(ATTUNE_[A-Z_]+)", text))
    assert documented - ours <= {"ATTUNE_", "ATTUNE_CONFORMANCE_RULES_FILE", "ATTUNE_RULES"}
    # The SDK's own settings are in its tutorial, those of the runner Stdio on its page.
    undocumented = ours - documented
    assert {name for name in undocumented if not name.startswith(("ATTUNE_STDIO_", "ATTUNE_SCRIPTS_"))} <= {
        "ATTUNE_RESYNC_SECONDS",
        "ATTUNE_HEALTH_SECONDS",
        "ATTUNE_SPOOL_MAX_BYTES",
        "ATTUNE_SPOOL_FULL",
    }


def test_the_protocols_example_of_an_id_is_right() -> None:
    text = (TESTS.parent / "docs" / "sensor-protocol.md").read_text()
    [(name, expected)] = re.findall(r'"([-0-9a-f]+/[^"]+)"\) = "([^"]+)"', text)
    assert str(event_id(*name.split("/"))) == expected
