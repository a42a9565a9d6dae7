"""Events on disk."""

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attune_sensor import SpoolError
from attune_sensor._spool import Spool

KIB = 1024


def record(number: int, size: int = 100) -> bytes:
    return f"{number:08d}".encode().ljust(size, b".")


def drain(spool: Spool, *, max_records: int = 7) -> list[bytes]:
    everything: list[bytes] = []
    while spool.count:
        records, position = spool.peek(max_records=max_records, max_bytes=10 * KIB)
        everything += records
        spool.advance(position)
    return everything


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    opened = make(tmp_path)
    yield opened
    opened.close()


def make(directory: Path, *, max_bytes: int = 256 * KIB, segment_bytes: int = 4 * KIB) -> Spool:
    spool = Spool(directory=directory, max_bytes=max_bytes, segment_bytes=segment_bytes)
    spool.open()
    return spool


def test_records_come_out_as_they_went_in(spool: Spool, tmp_path: Path) -> None:
    records = [record(number) for number in range(500)]
    assert spool.append(records[:300]) == 300
    assert spool.append(records[300:]) == 200
    assert spool.count == 500
    assert len(list(tmp_path.glob("*.segment"))) > 5
    assert drain(spool) == records
    assert (spool.count, spool.size) == (0, 0)
    assert list(tmp_path.glob("*.segment")) == []


def test_peek_keeps_to_its_bounds_but_gives_at_least_one(spool: Spool) -> None:
    spool.append([record(number) for number in range(10)])
    assert len(spool.peek(max_records=3, max_bytes=10 * KIB)[0]) == 3
    assert len(spool.peek(max_records=10, max_bytes=250)[0]) == 2
    assert len(spool.peek(max_records=10, max_bytes=1)[0]) == 1


def test_next_process_finds_what_was_not_delivered(tmp_path: Path) -> None:
    records = [record(number) for number in range(300)]
    first = make(tmp_path)
    first.append(records)
    _, position = first.peek(max_records=100, max_bytes=100 * KIB)
    first.advance(position)
    first.close()
    second = make(tmp_path)
    found = drain(second)
    second.close()
    # A segment that was delivered in part is delivered again.
    assert found == records[-len(found) :]
    assert 200 <= len(found) < 250


def test_after_a_restart_numbers_go_on(tmp_path: Path) -> None:
    first = make(tmp_path)
    first.append([record(1)])
    first.close()
    second = make(tmp_path)
    second.append([record(2)])
    assert drain(second) == [record(1), record(2)]
    second.close()


@pytest.mark.parametrize("cut", [1, 5, 8, 60, 107])
def test_record_cut_short_by_a_crash_is_cut_off(tmp_path: Path, cut: int) -> None:
    first = make(tmp_path)
    first.append([record(number) for number in range(10)])
    first.close()
    [segment] = tmp_path.glob("*.segment")
    content = segment.read_bytes()
    segment.write_bytes(content[: len(content) - cut])
    second = Spool(directory=tmp_path, max_bytes=256 * KIB)
    report = second.open()
    assert report.records == 9
    assert report.damaged_bytes == 108 - cut
    second.append([record(10)])
    assert drain(second) == [record(number) for number in (*range(9), 10)]
    second.close()


def test_damaged_record_ends_its_segment_only(tmp_path: Path) -> None:
    first = make(tmp_path)
    first.append([record(number) for number in range(100)])
    first.close()
    segments = sorted(tmp_path.glob("*.segment"))
    content = bytearray(segments[0].read_bytes())
    content[108 * 3 + 50] ^= 1
    segments[0].write_bytes(content)
    second = make(tmp_path)
    found = drain(second)
    second.close()
    assert found[:3] == [record(0), record(1), record(2)]
    assert found[3:] == [record(number) for number in range(100 - len(found[3:]), 100)]
    assert len(found) > 50


def test_damage_while_running_is_told_and_can_be_passed(tmp_path: Path) -> None:
    spool = make(tmp_path)
    spool.append([record(number) for number in range(100)])
    first = min(tmp_path.glob("*.segment"))
    first.write_bytes(b"?" * len(first.read_bytes()))
    with pytest.raises(OSError, match="damaged"):
        spool.peek(max_records=1, max_bytes=KIB)
    lost = spool.drop_oldest()
    assert drain(spool) == [record(number) for number in range(lost, 100)]
    spool.close()


def test_full_spool_takes_what_fits(tmp_path: Path) -> None:
    spool = make(tmp_path, max_bytes=64 * KIB)
    assert spool.append([record(number, 1000) for number in range(100)]) == 65
    assert spool.size <= 64 * KIB
    assert spool.append([record(100, 1000)]) == 0
    spool.close()


def test_dropping_the_oldest_makes_room_and_counts(tmp_path: Path) -> None:
    spool = make(tmp_path, max_bytes=64 * KIB)
    spool.append([record(number, 1000) for number in range(65)])
    lost = spool.drop_oldest()
    assert 0 < lost < 10
    assert spool.append([record(65, 1000)]) == 1
    assert drain(spool) == [record(number, 1000) for number in range(lost, 66)]
    spool.close()


def test_place_that_was_dropped_meanwhile_is_no_error(spool: Spool) -> None:
    spool.append([record(number) for number in range(100)])
    _, position = spool.peek(max_records=5, max_bytes=KIB)
    lost = spool.drop_oldest()
    spool.advance(position)
    assert drain(spool) == [record(number) for number in range(lost, 100)]


class FullDisk:
    """A file on a disk that has room for some bytes only."""

    def __init__(self, file: Any, room: int) -> None:
        self._file = file
        self._room = room

    def write(self, data: bytes) -> int:
        if self._room == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        written: int = self._file.write(data[: self._room])
        self._room -= written
        return written

    def __getattr__(self, name: str) -> object:
        return getattr(self._file, name)


def test_full_disk_is_told_and_corrupts_nothing(spool: Spool, tmp_path: Path) -> None:
    spool.append([record(0)])
    real = spool._file
    spool._file = FullDisk(real, 150)  # type: ignore[assignment]
    with pytest.raises(OSError, match="No space left"):
        spool.append([record(1), record(2)])
    assert spool.count == 1
    spool._file = real
    assert spool.append([record(1), record(2)]) == 2
    assert drain(spool) == [record(0), record(1), record(2)]


def test_two_processes_cannot_share_a_spool(spool: Spool, tmp_path: Path) -> None:
    with pytest.raises(SpoolError, match="in use by another sensor"):
        Spool(directory=tmp_path, max_bytes=256 * KIB).open()


def test_directory_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SpoolError, match="cannot use the spool"):
        Spool(directory=tmp_path / "file" / "spool", max_bytes=256 * KIB).open()


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 60)),
        st.tuples(st.just("deliver"), st.integers(1, 60)),
        st.tuples(st.just("drop"), st.just(0)),
        st.tuples(st.just("reopen"), st.just(0)),
    ),
    max_size=40,
)


@given(STEPS)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_behaves_like_a_list(tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]) -> None:
    """Whatever is done to it, what comes out is what went in, in order; a restart repeats at most one segment."""
    directory = tmp_path_factory.mktemp("spool")
    spool = make(directory)
    model: list[int] = []
    number = 0
    for kind, argument in steps:
        if kind == "append":
            spool.append([record(number + offset) for offset in range(argument)])
            model += range(number, number + argument)
            number += argument
        elif kind == "deliver":
            records, position = spool.peek(max_records=argument, max_bytes=100 * KIB)
            assert records == [record(expected) for expected in model[: len(records)]]
            assert len(records) == min(argument, len(model))
            spool.advance(position)
            model = model[len(records) :]
        elif kind == "drop":
            lost = spool.drop_oldest()
            model = model[lost:]
        else:
            spool.close()
            spool = make(directory)
            assert len(model) <= spool.count < len(model) + 4 * KIB // 108 + 1
            again = spool.count - len(model)
            first = model[0] if model else number
            model = [*range(first - again, first), *model]
        assert spool.count == len(model)
        assert spool.size == sum(path.stat().st_size for path in directory.glob("*.segment"))
    assert drain(spool) == [record(expected) for expected in model]
    spool.close()
