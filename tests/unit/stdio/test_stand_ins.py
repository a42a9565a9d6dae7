"""The zipapp's stand-ins for compiled libraries do what those do."""

import json
import re
import subprocess
import sys
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import msgspec
import nkeys
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.signing import SigningKey

from attune_contract.messages import AckState
from attune_zipapp import pure_msgspec, pure_nkeys

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def structures(library: Any) -> dict[str, Any]:
    """Classes like those of the contract, made with a library."""

    class Inner(library.Struct, frozen=True):  # type: ignore[misc, call-arg]
        status: str
        id: str | None = None

    class Outer(library.Struct, frozen=True, kw_only=True, omit_defaults=True):  # type: ignore[misc, call-arg]
        uid: uuid.UUID
        state: AckState
        at: datetime
        number: int
        share: float = 0.5
        name: str | int | None = None
        names: tuple[str, ...] = ()
        inner: list[Inner] | None = None
        payload: dict[str, Any] | None = None

    class Strict(library.Struct, forbid_unknown_fields=True):  # type: ignore[misc, call-arg]
        a: int = 1

    return {"Inner": Inner, "Outer": Outer, "Strict": Strict}


REAL, PURE = structures(msgspec), structures(pure_msgspec)
AT = "2026-11-23T12:00:00.123456Z"
OUTER = {"uid": str(uuid.UUID(int=7)), "state": "Active", "at": AT, "number": 3}


@settings(deadline=None)
@given(JSON)
def test_any_json_is_read_and_written_alike(value: Any) -> None:
    text = json.dumps(value, ensure_ascii=False)
    try:
        data = text.encode()
    except UnicodeEncodeError:
        return
    assert pure_msgspec.json.decode(data) == msgspec.json.decode(data)
    assert json.loads(pure_msgspec.json.encode(value)) == json.loads(msgspec.json.encode(value))


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"share": 1},
        {"share": 0.5, "name": None},
        {"name": 5},
        {"name": "five", "names": ["a", "b"], "inner": [{"status": "x"}, {"status": "y", "id": "z", "more": 1}]},
        {"payload": {"a": [1, {"b": None}]}, "unknown": True},
        {"at": "2026-11-23T13:00:00+01:00"},
        {"at": "2026-11-23t12:00:00z"},
    ],
)
def test_structures_are_read_and_written_alike(fields: dict[str, Any]) -> None:
    data = json.dumps({**OUTER, **fields}).encode()
    real, pure = msgspec.json.decode(data, type=REAL["Outer"]), pure_msgspec.json.decode(data, type=PURE["Outer"])
    for field in REAL["Outer"].__struct_fields__:
        if field != "inner":
            assert getattr(pure, field) == getattr(real, field), field
            assert type(getattr(pure, field)) is type(getattr(real, field)), field
    assert json.loads(pure_msgspec.json.encode(pure)) == json.loads(msgspec.json.encode(real))
    assert pure_msgspec.json.Encoder(order="sorted").encode(pure) == msgspec.json.Encoder(order="sorted").encode(real)
    assert hash(PURE["Inner"]("a")) == hash(PURE["Inner"](status="a"))
    assert PURE["Inner"]("a") == PURE["Inner"]("a") != PURE["Inner"]("b")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"nul",
        b"[1,]",
        b'{"a": NaN}',
        b"1" * 5000 + b"x",
        json.dumps({**OUTER, "number": "3"}).encode(),
        json.dumps({**OUTER, "number": True}).encode(),
        json.dumps({**OUTER, "uid": "7"}).encode(),
        json.dumps({**OUTER, "at": "yesterday"}).encode(),
        json.dumps({**OUTER, "at": 5}).encode(),
        json.dumps({**OUTER, "at": "20261123T120000Z"}).encode(),
        json.dumps({**OUTER, "state": "Happy"}).encode(),
        json.dumps({**OUTER, "name": 0.5}).encode(),
        json.dumps({**OUTER, "names": "a"}).encode(),
        json.dumps({**OUTER, "inner": [{"id": "z"}]}).encode(),
        json.dumps({**OUTER, "payload": []}).encode(),
        json.dumps({key: value for key, value in OUTER.items() if key != "at"}).encode(),
        b"[]",
    ],
)
def test_what_is_refused_is_refused_by_both(data: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        msgspec.json.decode(data, type=REAL["Outer"])
    with pytest.raises(pure_msgspec.MsgspecError):
        pure_msgspec.json.decode(data, type=PURE["Outer"])


@pytest.mark.parametrize(("library", "made"), [(msgspec, REAL), (pure_msgspec, PURE)], ids=["real", "pure"])
def test_structures_are_strict_in_the_same_places(library: Any, made: dict[str, Any]) -> None:
    with pytest.raises(library.ValidationError, match="unknown field `b`"):
        library.json.decode(b'{"b": 1}', type=made["Strict"])
    assert library.json.decode(b'{"a": 2}', type=made["Strict"]).a == 2
    wrong: list[Callable[[], Any]] = [
        lambda: made["Inner"](),
        lambda: made["Inner"]("a", other=1),
        lambda: made["Outer"]("a"),
        lambda: library.json.encode(object()),
    ]
    for call in wrong:
        with pytest.raises(TypeError):
            call()
    with pytest.raises(AttributeError):
        made["Inner"]("a").status = "b"
    with pytest.raises(UnicodeDecodeError):
        library.json.decode(b'"\xff"')
    assert library.json.encode({"path": timedelta(seconds=1)}, enc_hook=str) in (
        b'{"path":"0:00:01"}',
        b'{"path":"PT1S"}',
    )
    zone = timezone(timedelta(hours=1))
    assert library.json.encode(datetime(2026, 1, 1, tzinfo=zone)) == b'"2026-01-01T00:00:00+01:00"'
    assert library.json.encode(datetime(2026, 1, 1, tzinfo=UTC)) == b'"2026-01-01T00:00:00Z"'
    assert library.convert({"status": "a"}, type=made["Inner"]).id is None


def test_signatures_are_those_of_libsodium() -> None:
    for data in (b"", b"nonce", bytes(range(256)) * 4):
        seed = nkeys.encode_seed(bytes(SigningKey.generate()), nkeys.PREFIX_BYTE_USER)
        assert pure_nkeys.from_seed(bytearray(seed)).sign(data) == nkeys.from_seed(bytearray(seed)).sign(data)


@pytest.mark.parametrize(
    "damage", [lambda s: s[:-1] + b"A", lambda s: s[:-5], lambda s: b"!" + s[1:], lambda s: b"A" + s[1:]]
)
def test_a_damaged_seed_is_refused(damage: Callable[[bytes], bytes]) -> None:
    seed = bytes(nkeys.encode_seed(bytes(range(32)), nkeys.PREFIX_BYTE_USER))
    assert pure_nkeys.from_seed(seed)
    with pytest.raises(pure_nkeys.NkeysError):
        pure_nkeys.from_seed(damage(seed))


def test_the_stand_in_has_all_that_the_supervisor_takes_from_msgspec() -> None:
    """What is imported, and what is named as ``msgspec.…``, in modules that a sensor loads."""
    code = (
        "import sys, attune_stdio.__main__\n"
        "print(*(m.__file__ for n, m in sys.modules.items() if n.startswith('attune_') and m.__file__), sep='\\n')"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    used = set()
    for path in loaded:
        text = Path(path).read_text()
        used |= set(re.findall(r"\bmsgspec((?:\.\w+)+)", text)) if "import msgspec\n" in text else set()
        for names in re.findall(r"^from msgspec import (.*)$", text, re.MULTILINE):
            used |= {f".{found.strip()}" for found in names.split(",")}
    for path in used:
        found: Any = pure_msgspec
        for part in path.strip(".").split("."):
            assert hasattr(found, part), f"msgspec{path}"
            found = getattr(found, part)


def test_a_copy_with_changes_is_alike() -> None:
    for library, classes in ((msgspec, REAL), (pure_msgspec, PURE)):
        inner = classes["Inner"](status="x", id="y")
        changed = library.structs.replace(inner, status="z")
        assert (changed.status, changed.id, inner.status) == ("z", "y", "x")
