"""``attune doctor`` on a real ``attune up`` and on a real kube-apiserver: what it checks, and that its bundle has no secret."""

import base64
import gzip
import json
import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.attune_up import AttuneUp, attune_up
from support.bundles import contents
from support.cli import attune
from support.definitions import definitions_served
from support.eventually import eventually
from typer.testing import Result

from attune_cli.errors import ExitCode
from attune_cluster.apiserver import ApiServer

pytestmark = pytest.mark.timeout(900)

REPOSITORY = Path(__file__).parents[3]
PACK = REPOSITORY / "packs" / "core"
#: Stands wherever a secret may stand in what follows.
PLANTED = "Zq7-planted-9f3kQ"
DB = {"secretKeyRef": {"name": "db", "key": "url"}}


def nothing_leaks(files: dict[str, str], *secrets: str) -> None:
    for secret in secrets:
        for form in (secret, base64.b64encode(secret.encode()).decode().rstrip("=")):
            places = [path for path, text in files.items() if form in text]
            assert not places, f"{secret[:6]}… is in {places}"


def examined(bundle: Path, *arguments: object, code: int) -> tuple[dict[str, str], dict[str, Any]]:
    """The states of checks by their names, and the bundle's files."""
    done = attune("doctor", "--out", bundle, "--output", "json", *arguments, code=code)
    said = json.loads(done.stdout)
    assert said["bundle"]["file"] == str(bundle)
    return {check["name"]: check["state"] for check in said["checks"]}, contents(bundle)


# -- attune up


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AttuneUp]:
    folder = tmp_path_factory.mktemp("up")
    for name in ("core.timer.yaml", "echo-every-second.yaml"):
        shutil.copy(PACK / name, folder)
    sensor = yaml.safe_load((folder / "core.timer.yaml").read_text())
    sensor["spec"] |= {
        "env": [
            {"name": "COLOUR", "value": PLANTED},
            {"name": "DB", "valueFrom": DB},
        ],
        "secrets": [{"name": "later"}],
    }
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "db", "namespace": "attune-system"}}
    secret |= {"stringData": {"url": f"postgresql://attune:{PLANTED}@db/attune"}}
    (folder / "core.timer.yaml").write_text(yaml.safe_dump_all([secret, sensor]))
    with attune_up(folder) as running:
        yield running


def well(up: AttuneUp, *arguments: object) -> Result:
    """What doctor says when all has started, also the runner of actions, for which nothing waits."""

    def looks_well() -> Result:
        # Fails unless its exit status is 0.
        return attune("doctor", "--no-bundle", "--data-dir", up.data_dir, *arguments)

    return eventually(looks_well, within=120, what="attune up is well")


@pytest.mark.nats
def test_of_attune_up_it_finds_what_is_ok_and_what_is_missing_and_leaks_nothing(up: AttuneUp, tmp_path: Path) -> None:
    looks = count()

    def all_read() -> tuple[dict[str, str], dict[str, str]] | None:
        """Each page has 5 s to answer, and this machine may have more to do."""
        bundle = tmp_path / f"bundle-{next(looks)}.tar.gz"
        states, files = examined(bundle, "--data-dir", up.data_dir, code=ExitCode.OK)
        return (states, files) if files["not-read.txt"] == "Everything that was looked for was read.\n" else None

    states, files = eventually(all_read, within=120, what="a bundle that has everything")
    assert states["NATS connections"] == "ok"
    assert states["Clocks"] == "ok"
    assert states["Tokens"] == "ok"
    assert states["Secrets"] == "ok"
    assert states["Secret attune-system/later"] == "note"
    assert "attune_timer_lateness_seconds_count" in "".join(
        text for path, text in files.items() if path.startswith("pages/sensor/")
    )
    assert "attune_rule_stream_connected" in files["pages/operator/operator/metrics.txt"]
    assert json.loads(files["pages/api/api/ready.txt"])["status"] == "ok"
    for path in ("versions.json", "checks.json", "sensors.json", "rules.json", "pods.json", "folder/logs/api.log"):
        assert files[path], path
    tokens = [path.read_text().strip() for path in up.data_dir.glob("*.token")]
    private = json.loads((up.data_dir / "api" / "signing-keys.json").read_text())
    keys = [key["d"] for key in private["keys"]]
    seeds = [line for line in (up.data_dir / "api" / "nats.creds").read_text().splitlines() if line.startswith("SU")]
    assert tokens
    assert keys
    assert seeds
    nothing_leaks(files, PLANTED, *tokens, *keys, *seeds)


@pytest.mark.nats
def test_without_a_bundle_it_only_checks(up: AttuneUp, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.tar.gz"
    done = well(up, "--out", bundle)
    assert "NATS connections" in done.stdout
    assert "Bundle" not in done.stdout
    assert not bundle.exists()


def test_of_an_attune_up_that_does_not_run_it_takes_the_logs(tmp_path: Path) -> None:
    data = tmp_path / ".attune"
    (data / "logs").mkdir(parents=True)
    (data / "admin.token").write_text(f"{PLANTED}\n")
    (data / "logs" / "attune-up.log").write_text(f'{{"event": "part_ended", "error": "no {PLANTED}"}}\n')
    states, files = examined(tmp_path / "bundle.tar.gz", "--data-dir", data, code=ExitCode.PROBLEM)
    assert states == {"attune up": "problem"}
    assert json.loads(files["folder/logs/attune-up.log"])["event"] == "part_ended"
    nothing_leaks(files, PLANTED)


# -- a cluster


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with ApiServer(tmp_path_factory.mktemp("kubernetes")) as running:
        request = running.api().request
        definitions_served(running.api())
        request("POST", "/api/v1/namespaces", {"metadata": {"name": "attune-system"}})
        sensor = yaml.safe_load((PACK / "core.timer.yaml").read_text())
        sensor["spec"]["env"] = [
            {"name": "DB", "valueFrom": DB},
            {"name": "OTHER", "valueFrom": {"secretKeyRef": {"name": "missing", "key": "url"}}},
            {"name": "COLOUR", "value": PLANTED},
        ]
        request("POST", "/apis/attune.dev/v1alpha1/namespaces/attune-system/sensors", sensor)
        secrets = "/api/v1/namespaces/attune-system/secrets"
        request("POST", secrets, {"metadata": {"name": "db"}, "stringData": {"url": PLANTED}})
        release = {
            "name": "attune",
            "version": 2,
            "info": {"status": "deployed"},
            "chart": {"metadata": {"name": "attune", "version": "0.1.0"}},
            "config": {
                "api": {"replicas": 3, "databaseUrl": f"postgresql://a:{PLANTED}@db/attune", "password": PLANTED}
            },
        }
        packed = base64.b64encode(gzip.compress(json.dumps(release).encode())).decode()
        labels = {"owner": "helm", "status": "deployed", "name": "attune"}
        metadata = {"name": "sh.helm.release.v1.attune.v2", "labels": labels}
        request(
            "POST", secrets, {"metadata": metadata, "type": "helm.sh/release.v1", "stringData": {"release": packed}}
        )
        configmap = {"metadata": {"name": "attune-jwks"}, "data": {"x.yaml": f"password: {PLANTED}\n"}}
        request("POST", "/api/v1/namespaces/attune-system/configmaps", configmap)
        yield running


@pytest.mark.apiserver
def test_of_a_cluster_it_checks_definitions_secrets_and_rights_and_leaks_nothing(
    server: ApiServer, tmp_path: Path
) -> None:
    flags = ("--kubeconfig", server.kubeconfig)
    states, files = examined(tmp_path / "bundle.tar.gz", *flags, code=ExitCode.PROBLEM)
    assert states["Definition rules.attune.dev"] == "ok"
    assert states["Definition sensors.attune.dev"] == "ok"
    assert states["Clocks"] == "ok"
    assert states["Your rights"] == "ok"
    assert states["operator"] == "problem"  # nothing of the chart runs there
    assert states["Secret attune-system/missing"] == "problem"
    assert states["Secrets"] == "ok"
    values = json.loads(files["attune-system/chart-values.json"])[0]["values"]["api"]
    assert values["replicas"] == 3
    assert values["databaseUrl"].endswith("@db/attune")
    assert json.loads(files["attune-system/configmaps.json"])[0]["metadata"]["name"] == "attune-jwks"
    nothing_leaks(files, PLANTED)


@pytest.mark.apiserver
def test_who_may_do_nothing_gets_a_bundle_that_says_so(server: ApiServer, tmp_path: Path) -> None:
    accounts = "/api/v1/namespaces/attune-system/serviceaccounts"
    request = server.api().request
    request("POST", accounts, {"metadata": {"name": "nobody"}})
    asked = {"spec": {"expirationSeconds": 3600}}
    token = request("POST", f"{accounts}/nobody/token", asked)["status"]["token"]
    config = yaml.safe_load(server.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": token}
    kubeconfig = tmp_path / "config"
    kubeconfig.write_text(yaml.safe_dump(config))
    states, files = examined(tmp_path / "bundle.tar.gz", "--kubeconfig", kubeconfig, code=ExitCode.OK)
    assert states["Sensors"] == "unknown"
    assert states["Your rights"] == "unknown"
    assert "configmaps" in files["not-read.txt"]
    nothing_leaks(files, PLANTED, token)


def test_a_cluster_that_does_not_answer_is_said_at_once(tmp_path: Path) -> None:
    config = {
        "current-context": "away",
        "contexts": [{"name": "away", "context": {"cluster": "away", "user": "me"}}],
        "clusters": [{"name": "away", "cluster": {"server": "https://127.0.0.1:1"}}],
        "users": [{"name": "me", "user": {"token": PLANTED}}],
    }
    kubeconfig = tmp_path / "config"
    kubeconfig.write_text(yaml.safe_dump(config))
    states, files = examined(tmp_path / "bundle.tar.gz", "--kubeconfig", kubeconfig, code=ExitCode.PROBLEM)
    assert states == {"Cluster": "problem"}
    assert "everything else: not read" in files["not-read.txt"]
    nothing_leaks(files, PLANTED)
