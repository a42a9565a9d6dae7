"""``make nats-wheel`` compares all of a program but the ids of its build and of its commit."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[3] / "hack" / "sbom"))
import nats_wheel

PROGRAM = Path(sys.executable).with_name("nats-server").read_bytes()


def test_only_ids_are_left_out() -> None:
    found = nats_wheel.masked(PROGRAM)
    assert len(found) == len(PROGRAM)
    changed = sum(before != after for before, after in zip(PROGRAM, found, strict=True))
    assert 100 < changed <= 83 + 20 + 2 * 40


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_any_other_byte_makes_it_another_program(share: float) -> None:
    place = int(len(PROGRAM) * share)
    other = PROGRAM[:place] + bytes([PROGRAM[place] ^ 1]) + PROGRAM[place + 1 :]
    assert nats_wheel.masked(other) != nats_wheel.masked(PROGRAM)


def test_a_program_without_such_ids_was_not_built_like_that() -> None:
    with pytest.raises(ValueError, match="there is no"):
        nats_wheel.masked(b"#!/bin/sh\n")
