"""Only a process that is ours is ever ended, however the record of it came about."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from attune_cluster.processes import MARK, Identity, end_marked, end_recorded, mark_of, marked, running

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

MARKED = f"test-{os.getpid()}"


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"], env={"PATH": os.environ["PATH"], MARK: MARKED}) as process:
        yield process
        process.kill()


def identity_of(process: subprocess.Popen[bytes]) -> Identity:
    identity = Identity.of(process.pid)
    assert identity is not None
    return identity


def test_a_recorded_process_is_found_and_ended(sleeper: subprocess.Popen[bytes], tmp_path: Path) -> None:
    record = tmp_path / "node.pid"
    identity_of(sleeper).write(record)
    assert running(record) == Identity.of(sleeper.pid)
    assert end_recorded(record)
    assert sleeper.wait(timeout=60) == -9
    assert not record.exists()


@pytest.mark.parametrize("change", [{"started": 1}, {"boot": "of another day"}])
def test_a_process_that_got_a_recorded_id_later_is_left_alone(
    sleeper: subprocess.Popen[bytes], tmp_path: Path, change: dict[str, object]
) -> None:
    record = tmp_path / "node.pid"
    replace(identity_of(sleeper), **change).write(record)  # type: ignore[arg-type]
    assert running(record) is None
    assert end_recorded(record)
    assert sleeper.poll() is None
    assert not record.exists(), "the stale record is forgotten"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": "x", "started": 1, "boot": ""}', '{"pid": 1}'])
def test_a_damaged_record_is_no_record(tmp_path: Path, content: str) -> None:
    record = tmp_path / "node.pid"
    record.write_text(content)
    assert running(record) is None
    assert end_recorded(record)


def test_a_process_whose_start_was_not_recorded_is_found_by_its_mark(sleeper: subprocess.Popen[bytes]) -> None:
    assert mark_of(sleeper.pid) == MARKED
    assert sleeper.pid in set(marked(MARKED))
    assert sleeper.pid not in set(marked(MARKED + "0"))
    assert end_marked(MARKED) == []
    assert sleeper.wait(timeout=60) == -9


def test_the_start_time_is_read_past_a_program_name_with_brackets_and_spaces(tmp_path: Path) -> None:
    fields = " ".join(str(number) for number in range(4, 53))
    (tmp_path / "7").mkdir()
    (tmp_path / "7/stat").write_text(f"7 (a) b (c)) S {fields}")
    (tmp_path / "sys/kernel/random").mkdir(parents=True)
    (tmp_path / "sys/kernel/random/boot_id").write_text("boot\n")
    assert Identity.of(7, proc=tmp_path) == Identity(pid=7, started=22, boot="boot")


def test_a_zombie_does_not_run(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7/stat").write_text("7 (x) Z " + "0 " * 49)
    (tmp_path / "sys/kernel/random").mkdir(parents=True)
    (tmp_path / "sys/kernel/random/boot_id").write_text("boot\n")
    assert Identity.of(7, proc=tmp_path) is None
