"""A file is read again when it has changed, and its last valid content is kept."""

from pathlib import Path

import pytest

from attune_kit.watched_file import WatchedFile, WatchedFileError


def number(content: bytes) -> int:
    return int(content)


def test_a_file_is_read_again_when_it_was_replaced_or_written(tmp_path: Path) -> None:
    file = WatchedFile(tmp_path / "file", bytes)
    with pytest.raises(WatchedFileError, match="No such file"):
        file.read()
    for version, content in enumerate(("one", "two", "three"), start=1):
        new = tmp_path / "new"
        new.write_text(content)
        new.replace(file.path)
        assert file.read() == content.encode()
        assert file.version == version
    file.path.touch()
    assert file.read() == b"three"
    assert file.version == 3


def test_the_latest_valid_value_stays_while_the_file_is_not_valid(tmp_path: Path) -> None:
    file = WatchedFile(tmp_path / "file", number)
    with pytest.raises(WatchedFileError):
        file.latest()
    file.path.write_text("1")
    assert file.latest() == 1
    file.path.write_text("one")
    with pytest.raises(WatchedFileError, match="invalid literal"):
        file.read()
    assert file.latest() == 1
    file.path.unlink()
    assert (file.latest(), file.version) == (1, 1)
    file.path.write_text("2")
    assert (file.latest(), file.version) == (2, 2)


def test_a_file_that_looks_unchanged_is_parsed_once(tmp_path: Path) -> None:
    parsed: list[bytes] = []

    def parse(content: bytes) -> bytes:
        parsed.append(content)
        return content

    file = WatchedFile(tmp_path / "file", parse)
    file.path.write_text("one")
    assert file.read() == file.read() == file.read(fresh=True)
    assert parsed == [b"one"]


def test_a_file_that_is_too_large_is_not_valid(tmp_path: Path) -> None:
    file = WatchedFile(tmp_path / "file", bytes, max_bytes=3)
    file.path.write_text("1234")
    with pytest.raises(WatchedFileError, match="larger than 3 bytes"):
        file.read()
