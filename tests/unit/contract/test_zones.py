"""Time zones are those that come with the product, whatever the machine has (docs/timers.md, "Time zones")."""

import importlib
import io
import itertools
import os
import shutil
import subprocess
import sys
import zipfile
import zoneinfo
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path

import pytest

from attune_contract.calendar.zones import UnknownZoneError, Zones, paths_of, shipped, version, zone

#: Zones whose rules changed after 2025c, the release that a Debian or Go of 2026 may have: a time after the change, and the
#: offset in hours that the newest release has for it.
CHANGED = [
    ("America/Vancouver", "2026-12-01T12:00", -7),
    ("Canada/Pacific", "2026-12-01T12:00", -7),
    ("America/Edmonton", "2026-12-01T12:00", -6),
    ("Canada/Mountain", "2026-12-01T12:00", -6),
    ("America/Yellowknife", "2026-12-01T12:00", -6),
    ("America/Inuvik", "2026-12-01T12:00", -6),
    ("America/Winnipeg", "2026-12-01T12:00", -5),
    ("Canada/Central", "2026-12-01T12:00", -5),
    ("America/Rainy_River", "2026-12-01T12:00", -5),
    ("America/Havana", "2026-12-01T12:00", -4),
    ("Cuba", "2026-12-01T12:00", -4),
    ("Africa/Casablanca", "2026-12-01T12:00", 0),
    ("Africa/El_Aaiun", "2026-12-01T12:00", 0),
    ("Europe/Chisinau", "2026-03-29T00:30", 2),
    ("Europe/Tiraspol", "2026-03-29T00:30", 2),
    ("America/Coyhaique", "2026-07-01T12:00", -3),
]


@pytest.mark.parametrize(("name", "moment", "hours"), CHANGED)
def test_zones_that_changed_since_2025c(name: str, moment: str, hours: int) -> None:
    offset = datetime.fromisoformat(moment).replace(tzinfo=UTC).astimezone(zone(name)).utcoffset()
    assert offset is not None
    assert offset.total_seconds() == hours * 3600


@pytest.mark.parametrize(
    "name",
    ["localtime", "posixrules", "posix/Europe/Berlin", "right/Europe/Berlin", "Factory", "utc", "europe/berlin", "Local", "",
     " Europe/Berlin", "US/Pacific-New", "../etc/passwd", "/etc/localtime", "Europe", "tzdata.zi", "a\0b", "X" * 5000],
)  # fmt: skip
def test_what_only_some_machines_have_is_refused(name: str) -> None:
    with pytest.raises(UnknownZoneError, match="expected an IANA name like Europe/Berlin, or UTC"):
        zone(name)


def test_every_listed_zone_can_be_read() -> None:
    assert len(shipped().names) > 590
    for name in shipped().names:
        assert zone(name).key == name
    assert {"EST5EDT", "Asia/Calcutta", "Europe/Kyiv", "GMT+0", "US/Pacific", "UTC"} <= shipped().names


def test_the_version_is_the_packages() -> None:
    assert version() == importlib.import_module("tzdata").IANA_VERSION
    assert version() >= "2026f"
    assert shipped().folder is not None


def test_the_machines_zones_are_not_looked_at(tmp_path: Path) -> None:
    """With wrong zones where Python looks first, ours are still right."""
    wrong = tmp_path / "America" / "Vancouver"
    wrong.parent.mkdir()
    shutil.copy(str(resources.files("tzdata") / "zoneinfo" / "Asia" / "Tokyo"), wrong)
    zoneinfo.reset_tzpath([str(tmp_path)])
    zoneinfo.ZoneInfo.clear_cache()
    try:
        moment = datetime(2026, 12, 1, tzinfo=UTC)
        assert moment.astimezone(zoneinfo.ZoneInfo("America/Vancouver")).hour == 9, "as the machine has it"
        assert moment.astimezone(Zones().get("America/Vancouver")).hour == 17
    finally:
        zoneinfo.reset_tzpath()
        zoneinfo.ZoneInfo.clear_cache()


@pytest.mark.parametrize("kind", ["folder", "wheel"])
def test_newer_zones_can_be_mounted(kind: str, tmp_path: Path) -> None:
    source = resources.files("tzdata") / "zoneinfo"
    tokyo = (source / "Asia" / "Tokyo").read_bytes()
    files = {"Europe/Atlantis": tokyo, "Europe/Berlin": tokyo, "posix/Europe/Berlin": tokyo, "localtime": tokyo,
             "tzdata.zi": b"# version 2031a\n# more", "zone.tab": b"no zone"}  # fmt: skip
    if kind == "folder":
        path = tmp_path / "zones"
        for name, content in files.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(content)
    else:
        path = tmp_path / "tzdata-2031.1-py2.py3-none-any.whl"
        with zipfile.ZipFile(path, "w") as wheel:
            for name, content in files.items():
                wheel.writestr(f"tzdata/zoneinfo/{name}", content)
    zones = Zones(*paths_of({"PYTHONTZPATH": str(path)}))
    moment = datetime(2026, 12, 1, tzinfo=UTC)
    assert zones.version == "2031a"
    assert moment.astimezone(zones.get("Europe/Atlantis")).hour == 9
    assert moment.astimezone(zones.get("Europe/Berlin")).hour == 9, "the mounted ones come first"
    assert moment.astimezone(zones.get("America/Havana")).hour == 20, "what is not there is the package's"
    for name in ("posix/Europe/Berlin", "localtime", "zone.tab"):
        with pytest.raises(UnknownZoneError):
            zones.get(name)


def test_a_path_that_is_not_there_is_as_none(tmp_path: Path) -> None:
    assert Zones(tmp_path / "missing").version == version()


def test_a_program_uses_what_its_environment_names(tmp_path: Path) -> None:
    (tmp_path / "version").write_text("2031b\n")
    (tmp_path / "UTC").write_bytes((resources.files("tzdata") / "zoneinfo" / "UTC").read_bytes())
    code = "from attune_contract.calendar import zones; print(zones.version())"
    environment = {**os.environ, "PYTHONTZPATH": str(tmp_path)}
    found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert found.stdout == "2031b\n"


def _transitions(content: bytes) -> list[int]:
    """The instants at which a zone's offset changes, of its file (RFC 8536, version 2 and later)."""
    file = io.BytesIO(content)
    for size in (4, 8):
        header = file.read(44)
        assert header[:4] == b"TZif"
        isut, isstd, leap, times, types, chars = (
            int.from_bytes(header[20 + 4 * n : 24 + 4 * n], "big") for n in range(6)
        )
        if size == 8:
            return [int.from_bytes(file.read(8), "big", signed=True) for _ in range(times)]
        file.read(times * 5 + types * 6 + chars + leap * 8 + isstd + isut)
    raise AssertionError


def test_changes_of_a_zone_are_as_far_apart_as_the_timer_thinks() -> None:
    """What `attune_timer.cron` steps over when it looks for changes; Asia/Gaza has two within 6.96 days in 2040."""
    from attune_timer.cron import BETWEEN_CHANGES

    begin = datetime(1970, 1, 1, tzinfo=UTC).timestamp()
    closest = {}
    for name in shipped().names:
        file = (resources.files("tzdata") / "zoneinfo").joinpath(*name.split("/"))
        found = [at for at in _transitions(file.read_bytes()) if at >= begin]
        closest[name] = min((b - a for a, b in itertools.pairwise(found)), default=10**9)
    name = min(closest, key=lambda each: closest[each])
    assert closest[name] * 1_000_000 > BETWEEN_CHANGES, f"{name}: {closest[name] / 86400:.2f} days"
