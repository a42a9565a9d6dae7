"""Programs in Java, with their parts as Maven resolves them."""

import asyncio
import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from support.environments import CACHE
from support.known_programs import run

SOAK = Path(__file__).resolve().parents[1] / "soak"


async def jars(name: str) -> Path:
    """What ``tests/soak/<name>/pom.xml`` asks for, with what that needs; several may ask at a time."""
    pom = SOAK / name / "pom.xml"
    digest = hashlib.sha256(await asyncio.to_thread(pom.read_bytes)).hexdigest()[:12]
    folder = CACHE / f"{name}-{digest}"
    if not await asyncio.to_thread(folder.exists):
        await asyncio.to_thread(CACHE.mkdir, parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=CACHE))
        try:
            await asyncio.to_thread(shutil.copy, pom, place)
            command = ["mvn", "-q", "-B", "-f", str(place / "pom.xml"), "dependency:copy-dependencies"]
            await run(*command, f"-DoutputDirectory={place / 'jars'}")
            try:
                await asyncio.to_thread(os.rename, place / "jars", folder)
            except OSError:
                if not await asyncio.to_thread(folder.exists):  # else somebody else was faster
                    raise
        finally:
            await asyncio.to_thread(shutil.rmtree, place, ignore_errors=True)
    return folder
