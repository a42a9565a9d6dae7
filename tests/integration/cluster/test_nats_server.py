"""The NATS server of the chart's image is built from its own Go module, and Go checks what it builds from."""

import re
import shutil
import subprocess
from pathlib import Path

from attune_cluster import golang, nats_server
from attune_cluster.settings import Settings

SETTINGS = Settings.from_environment()
GO_MOD = (nats_server.MODULE / "go.mod").read_text()
GO_SUM = (nats_server.MODULE / "go.sum").read_text()
[VERSION] = re.findall(rf"{nats_server.SERVER} (v[\d.]+)", GO_MOD)


def test_the_program_is_the_pinned_version_from_the_modules_of_go_sum() -> None:
    program = nats_server.nats_server(SETTINGS)
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    assert said.strip() == f"nats-server: {VERSION}"
    go = golang.toolchain(SETTINGS).program
    about = subprocess.run([go, "version", "-m", program], capture_output=True, text=True, check=True).stdout
    modules = re.findall(r"^\t(?:mod|dep)\t(\S+)\t(\S+)\t(\S+)$", about, re.MULTILINE)
    assert nats_server.SERVER in {name for name, _, _ in modules}
    assert len(modules) >= 9
    for name, found, digest in modules:
        assert f"{name} {found} {digest}\n" in GO_SUM
    assert "\tbuild\tCGO_ENABLED=0\n" in about


def test_a_module_that_is_not_what_go_sum_says_is_refused(tmp_path: Path) -> None:
    go = golang.toolchain(SETTINGS)
    nats_server.fetch(go, log=tmp_path / "fetch.log")  # the program may come from a cache without its modules
    shutil.copytree(nats_server.MODULE, tmp_path / "module")
    sums = tmp_path / "module" / "go.sum"
    command: list[str | Path] = [go.program, "list", "-deps", "-mod=readonly", nats_server.SERVER]

    def listed() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=sums.parent, env=go.environment(), capture_output=True, text=True, check=False, timeout=150
        )

    assert listed().returncode == 0
    [digest] = re.findall(rf"^{nats_server.SERVER} {VERSION} h1:(\S+)$", GO_SUM, re.MULTILINE)
    sums.write_text(GO_SUM.replace(digest, "A" * 43 + "="))
    refused = listed()
    assert refused.returncode != 0
    assert "checksum mismatch" in refused.stderr
