"""Fixtures: the stage of the runner, and a target."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.actions_stage import Stage, Target


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with Stage(tmp_path) as found:
        yield found


@pytest.fixture
async def target() -> AsyncIterator[Target]:
    async with Target() as found:
        yield found
