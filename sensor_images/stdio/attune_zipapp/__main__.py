"""Makes ``attune-stdio.pyz``: the supervisor of ``runner: Stdio`` as one file that needs nothing but a python3.

``python -m attune_zipapp FILE`` (``make stdio-zipapp``) packs our packages and the libraries that they use, as they are
installed where it runs. Nothing compiled goes in, so the file runs on every processor and with every libc: the libraries have
plain Python for all that they have compiled, but for two, for which there are stand-ins
(:mod:`attune_zipapp.pure_msgspec`, :mod:`attune_zipapp.pure_nkeys`).
"""

import re
import sys
import zipfile
from collections.abc import Iterator
from importlib import metadata, util
from pathlib import Path
from typing import Final

#: What the SDK imports, and what of that (and of what that needs) is left out.
_WANTED: Final = ("aiohttp", "nats-py", "prometheus-client", "structlog")
_LEFT_OUT: Final = frozenset({"msgspec", "nkeys", "pynacl", "cffi", "pycparser"})
#: Our packages, and the parts of them that a sensor does not need.
_PACKAGES: Final = ("attune_contract", "attune_kit", "attune_sensor", "attune_stdio")
_UNUSED: Final = ("attune_contract/resources/", "attune_contract/crds.py", "attune_sensor/testing.py")
_STAND_INS: Final = {"msgspec.py": "pure_msgspec.py", "nkeys.py": "pure_nkeys.py"}
_MAIN: Final = b"""import sys

if sys.version_info < (3, 11):
    sys.stderr.write("attune-stdio needs Python 3.11 or later; this is %s. Use a newer image, or build yours on "
                     "attune/sensor-stdio.\\n" % sys.version.split()[0])
    sys.exit(2)

from attune_stdio.__main__ import main

sys.exit(main())
"""
#: All files have the same time, so that the same content is the same archive.
_TIME: Final = (2026, 1, 1, 0, 0, 0)


def _distributions() -> dict[str, metadata.Distribution]:
    """What is wanted and what that needs, by name."""
    found: dict[str, metadata.Distribution] = {}
    waiting = list(_WANTED)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in found or name in _LEFT_OUT:
            continue
        try:
            found[name] = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            if name in _WANTED:
                raise
            continue  # for another Python, or an extra that is not installed
        needed = (requirement for requirement in found[name].requires or () if "extra ==" not in requirement)
        waiting += (re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0] for requirement in needed)
    return found


def _libraries() -> Iterator[tuple[str, bytes]]:
    for name, found in _distributions().items():
        for file in found.files or ():
            path = str(file)
            if path.startswith("..") or "__pycache__" in path:
                continue
            if ".dist-info/" in path:
                if re.search(r"LICEN[CS]E|NOTICE|COPYING", path, re.IGNORECASE):
                    yield f"licenses/{name}/{Path(path).name}", file.read_binary()
            elif path.endswith(".py"):
                yield path, file.read_binary()


def _packages() -> Iterator[tuple[str, bytes]]:
    for package in _PACKAGES:
        spec = util.find_spec(package)
        if spec is None or spec.origin is None:
            raise SystemExit(f"the package {package} is not installed here")
        folder = Path(spec.origin).parent
        for file in folder.rglob("*.py"):
            path = f"{package}/{file.relative_to(folder).as_posix()}"
            if not path.startswith(_UNUSED):
                yield path, file.read_bytes()


def files() -> dict[str, bytes]:
    """All files of the archive by their path."""
    here = Path(__file__).parent
    stand_ins = {name: (here / source).read_bytes() for name, source in _STAND_INS.items()}
    return {**dict(_libraries()), **dict(_packages()), **stand_ins, "__main__.py": _MAIN}


def write(target: Path) -> None:
    """Write the archive, executable."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as opened:
        opened.write(b"#!/usr/bin/env python3\n")
        with zipfile.ZipFile(opened, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            for path, content in sorted(files().items()):
                entry = zipfile.ZipInfo(path, date_time=_TIME)
                entry.compress_type = zipfile.ZIP_DEFLATED
                entry.external_attr = 0o644 << 16
                archive.writestr(entry, content)
    target.chmod(0o755)


def main() -> int:
    """Write the archive that the command line names."""
    if len(sys.argv) != 2:
        sys.stderr.write("usage: python -m attune_zipapp FILE\n")
        return 2
    write(Path(sys.argv[1]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
