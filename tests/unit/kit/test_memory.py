"""The program's memory settings. What they save is measured by ``tests/soak/test_rules_memory.py``."""

import subprocess
import sys


def test_startup_objects_are_frozen_and_collections_become_rare() -> None:
    program = (
        "import gc; from attune_kit.memory import freeze_startup_objects, limit_allocator; "
        "limit_allocator(); freeze_startup_objects(); print(gc.get_freeze_count() > 1000, gc.get_threshold()[0])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=240, check=True)
    assert done.stdout == "True 10000\n"
