"""Which files decide what an image contains: what the Dockerfile copies, and the Dockerfile itself.

The hash over them tells whether there is anything to build without starting a builder. It may include a file that the
build ignores (then one build too many finds its layers cached); it must not miss one.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path

SKIPPED = {
    ".git",
    ".cluster",
    ".venv",
    ".uv",
    ".mypy_cache",
    ".ruff_cache",
    ".pytest_cache",
    "__pycache__",
    "node_modules",
}
"""Folders that no build copies: made by tools, large, or both."""


def instructions(dockerfile: str) -> Iterator[str]:
    """The Dockerfile's instructions, one string each, continued lines joined and comments dropped."""
    kept = "\n".join(line for line in dockerfile.splitlines() if not line.lstrip().startswith("#"))
    for line in re.sub(r"\\\s*\n", " ", kept).splitlines():
        if line.strip():
            yield line.strip()


def copied(dockerfile: str) -> list[str]:
    """What COPY and ADD (and a RUN that binds the context) take from the build context, as they write it."""
    found: list[str] = []
    for line in instructions(dockerfile):
        word, _, rest = line.partition(" ")
        if word.upper() == "RUN":
            for mount in re.findall(r"--mount=(\S+)", rest):
                options = dict(option.partition("=")[::2] for option in mount.split(","))
                if options.get("type", "bind") == "bind" and "from" not in options:
                    found.append(options.get("source") or options.get("src") or ".")
        if word.upper() not in ("COPY", "ADD"):
            continue
        if "--from=" in rest:
            continue
        rest = re.sub(r"^\s*(--\S+\s+)*", "", rest)
        arguments: list[str] = json.loads(rest) if rest.startswith("[") else shlex.split(rest)
        found += [source for source in arguments[:-1] if not source.startswith("<<") and "://" not in source]
    return found


def declared(dockerfile: str) -> set[str]:
    """The names of the build arguments it knows."""
    words = (line.split(None, 1) for line in instructions(dockerfile))
    return {parts[1].partition("=")[0].strip() for parts in words if parts[0].upper() == "ARG" and len(parts) == 2}


def files(context: Path, sources: Iterable[str]) -> list[Path]:
    """The files that `sources` (paths or patterns relative to `context`) stand for."""
    found: set[Path] = set()
    for source in sources:
        relative = source.strip("/") or "."
        matches = [context] if relative == "." else list(context.glob(relative))
        for match in matches:
            if match.is_dir():
                for folder, names, inside in os.walk(match):
                    names[:] = [name for name in names if name not in SKIPPED]
                    found.update(Path(folder, name) for name in inside if not name.endswith(".pyc"))
            else:
                found.add(match)
    return sorted(found)


def content_key(context: Path, *, dockerfile: Path, extra: Iterable[str] = ()) -> str:
    """A hash of the Dockerfile, of everything it copies (names, modes, contents) and of `extra`."""
    text = dockerfile.read_text()
    digest = hashlib.sha256()
    for part in (text, *extra):
        digest.update(f"{len(part)}\0{part}".encode())
    ignore = context / ".dockerignore"
    for path in [*([ignore] if ignore.exists() else []), *files(context, copied(text))]:
        try:
            content = str(path.readlink()).encode() if path.is_symlink() else path.read_bytes()
            mode = path.lstat().st_mode & 0o111
        except OSError:  # gone since it was listed
            continue
        digest.update(f"{path.relative_to(context)}\0{mode}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()[:16]
