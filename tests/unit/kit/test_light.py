"""Importing the kit costs little: every sensor carries it."""

import subprocess
import sys

import pytest

#: What must not come with the kit, or with a part of it that does not need it.
HEAVY = ("aiohttp", "attune_contract", "kubernetes", "kopf", "pydantic", "httpx", "yaml", "nkeys", "cel_expr_python")


@pytest.mark.parametrize(
    ("module", "allowed"),
    [
        ("attune_kit", ()),
        ("attune_kit.backoff", ()),
        ("attune_kit.supervisor", ()),
        ("attune_kit.watched_file", ()),
        ("attune_kit.logs", ()),
        ("attune_kit.nats.connector", ("aiohttp",)),  # nats-py imports it, for WebSocket
        ("attune_kit.nats.last_per_subject", ("aiohttp",)),
        ("attune_kit.kubernetes.access", ()),
        ("attune_kit.kubernetes.client", ("aiohttp",)),
    ],
)
def test_a_module_brings_nothing_heavy(module: str, allowed: tuple[str, ...]) -> None:
    code = f"import sys, {module}; print(*(name for name in {HEAVY} if name in sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert set(found) <= set(allowed)


def test_the_package_itself_imports_nothing() -> None:
    code = (
        "import sys; before = set(sys.modules); import attune_kit;print(*(set(sys.modules) - before - {'attune_kit'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == []
