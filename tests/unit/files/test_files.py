"""The files sensor's rules, patterns and memory; and that its manifest agrees with its program."""

import os
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
import yaml
from support.rule_stream import rule_state

from attune_contract.resources import Sensor as SensorResource
from attune_files.config import folders_of
from attune_files.globs import matches
from attune_files.parameters import UNFINISHED, Subscription, subscription_of
from attune_files.payload import Read, payload_of
from attune_files.scanning import Content, File, GoneError, ScanError, mark_of, read, scan
from attune_files.settling import Settling
from attune_files.state import MOST_KNOWN, State, pack, unpack
from attune_sensor import MOST_STATE_BYTES, InvalidRuleError, Rule, SettingsError

PACK = Path(__file__).parents[3] / "packs" / "files" / "core.files.yaml"
SENSOR = SensorResource.from_object(yaml.safe_load(PACK.read_text()))
DECLARED = SENSOR.spec.canonical("core.filescomplete")
assert DECLARED is not None
PAYLOADS = jsonschema.Draft202012Validator(DECLARED.payload_schema or {})
PARAMETERS = jsonschema.Draft202012Validator(DECLARED.parameters_schema or {})


def subscription(**parameters: Any) -> Subscription:
    state = rule_state(trigger_type="core.filescomplete", parameters=parameters)
    return subscription_of(Rule(state=state, since_us=0), ["default"])


def file(path: str = "a", *, modified: int = 1_800_000_000_000_000_000, size: int = 1) -> File:
    return File(modified=modified, path=path, size=size, mark=mark_of(path, modified, size))


@pytest.mark.parametrize(
    ("parameters", "good"),
    [
        ({}, True),
        ({"folder": "default", "patterns": ["*.csv", "a/**/b"], "ignore": [], "settle": "0s", "marker": ".ok"}, True),
        ({"content": "inline", "digest": True, "first": "report"}, True),
        ({"patterns": []}, False),
        ({"patterns": [""]}, False),
        ({"ignore": ["a/b"]}, False),
        ({"marker": "/x"}, False),
        ({"settle": "soon"}, False),
        ({"content": "all"}, False),
        ({"path": "/etc"}, False),
    ],
)
def test_the_manifest_and_the_program_agree(parameters: dict[str, Any], good: bool) -> None:
    assert PARAMETERS.is_valid(parameters) == good
    if good:
        subscription(**parameters)
    else:
        with pytest.raises(InvalidRuleError):
            subscription(**parameters)


def test_the_samples_the_defaults_and_the_configuration_of_the_pack() -> None:
    assert list(folders_of(SENSOR.spec.config or {})) == ["default"]
    schema = (DECLARED.parameters_schema if DECLARED else None) or {}
    for sample in schema["examples"]:
        subscription(**sample)
    assert schema["properties"]["ignore"]["default"] == list(UNFINISHED)


@pytest.mark.parametrize(
    ("folder", "complaint"),
    [
        ({"path": "relative"}, "no absolute path"),
        ({"path": "/a/../b"}, "no absolute path"),
        ({"path": "/a", "scanEvery": "1ms"}, "scanEvery"),
        ({"path": "/a", "scanEvery": "often"}, "scanEvery"),
        ({"path": "/a", "surprise": 1}, "surprise"),
    ],
)
def test_a_configuration_that_cannot_be_used(folder: dict[str, Any], complaint: str) -> None:
    with pytest.raises(SettingsError, match=complaint):
        folders_of({"folders": {"default": folder}})
    with pytest.raises(SettingsError, match="no name"):
        folders_of({"folders": {"a/b": {"path": "/a"}}})


@pytest.mark.parametrize(
    ("path", "pattern", "is_one"),
    [
        ("a.csv", "*.csv", True),
        ("a/b.csv", "*.csv", False),
        ("a/b.csv", "*/*.csv", True),
        ("b.csv", "**/*.csv", True),
        ("a/b/c.csv", "**/*.csv", True),
        ("a/x/b/y/c", "a/**/b/**/c", True),
        ("a/b", "a/b/**/*", False),
        ("A.csv", "a.csv", False),
        ("a1", "a[0-9]", True),
        ("a", "a/b", False),
    ],
)
def test_patterns(path: str, pattern: str, is_one: bool) -> None:
    assert matches(path.split("/"), pattern.split("/")) == is_one


def test_how_deep_is_looked() -> None:
    assert subscription().depth == 0
    assert subscription(patterns=["a", "a/b/c"]).depth == 2
    assert subscription(patterns=["a/**"]).depth is None


def test_a_file_is_complete_when_it_has_not_changed_for_a_while() -> None:
    settling = Settling(2.0)
    one, two = file("1"), file("2")
    assert settling.complete([one], began=10.0) == []
    assert settling.complete([one, two], began=11.0) == []
    assert settling.next_at() == 12.0
    assert settling.complete([one, two], began=12.0) == [one]
    settling.done(one.mark)
    grown = file("2", size=2)
    assert settling.complete([grown], began=13.0) == []
    assert settling.complete([grown], began=14.9) == []
    assert settling.complete([grown], began=15.0) == [grown]
    settling.done(grown.mark)
    assert settling.next_at() is None


def test_what_is_remembered_outlives_a_process_and_is_bounded() -> None:
    state = State(fingerprint=b"f" * 12)
    marks = [number.to_bytes(8, "big") for number in range(MOST_KNOWN)]
    state.remember(marks)
    packed = pack(state)
    assert unpack(packed) == state
    assert len(packed) < MOST_STATE_BYTES
    state.remember([b"another."], seen=marks[:5])
    assert len(state.known) == MOST_KNOWN
    assert marks[0] in state.known  # it is there still
    assert marks[5] not in state.known
    for other in (b"", b"no state", packed[:-10]):
        assert unpack(other) is None


def test_files_are_found_oldest_first_without_those_that_are_known(tmp_path: Path) -> None:
    for name, at in (("b", 5), ("a", 5), ("c", 1)):
        (tmp_path / name).write_bytes(b"x")
        os.utime(tmp_path / name, (at, at))
    found = scan(str(tmp_path), subscription(), set(), all_=True)
    assert [each.path for each in found.new] == ["c", "a", "b"]
    again = scan(str(tmp_path), subscription(), {found.new[0].mark}, all_=True)
    assert ([each.path for each in again.new], again.known) == (["a", "b"], [found.new[0].mark])
    os.utime(tmp_path / "c", (2, 2))
    assert len(scan(str(tmp_path), subscription(), {each.mark for each in found.new}, all_=True).new) == 1
    with pytest.raises(ScanError, match="No such file"):
        scan(str(tmp_path / "none"), subscription(), set())


def test_a_file_is_read_as_it_was_found_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").write_bytes(b"abc")
    [found] = scan(str(tmp_path), subscription(patterns=["in/*"]), set(), all_=True).new
    assert read(str(tmp_path), found, most=3, digest=False).raw == b"abc"
    small = read(str(tmp_path), found, most=2, digest=True)
    assert (small.raw, small.digest[:8]) == (None, "ba7816bf")
    (tmp_path / "in").rename(tmp_path / "aside")
    (tmp_path / "in").symlink_to(tmp_path / "aside")
    with pytest.raises(GoneError):
        read(str(tmp_path), found, most=3, digest=False)
    (tmp_path / "in").unlink()
    with pytest.raises(GoneError):
        read(str(tmp_path), found, most=3, digest=False)
    (tmp_path / "aside").rename(tmp_path / "in")
    (tmp_path / "in" / "a").write_bytes(b"abcd")
    with pytest.raises(GoneError):
        read(str(tmp_path), found, most=9, digest=False)


def test_payloads_are_as_declared() -> None:
    inline, none = subscription(content="inline"), subscription()
    contents: list[tuple[Subscription, Read]] = [
        (none, Read(file=file(), content=Content(digest="ab"))),
        (none, Read(file=file("\udcff", modified=-1), content=Content())),
        (inline, Read(file=file(), content=Content(raw=b'{"a": 1}'))),
        (inline, Read(file=file(), content=Content(raw=b""))),
        (inline, Read(file=file(), content=Content(raw=b"\xff"))),
        (inline, Read(file=file(), content=Content())),
        (inline, Read(file=file(), content=Content(error="Permission denied"))),
    ]
    for asked, content in contents:
        for whole in (True, False):
            payload = payload_of("a/b", asked, content, whole=whole)
            PAYLOADS.validate(msgspec.json.decode(msgspec.json.encode(payload)))
