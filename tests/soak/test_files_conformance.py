"""The conformance kit's checks of the files sensor, on a real file system. It needs no cluster, and takes a minute or two."""

from pathlib import Path

import pytest
from support.source_conformance import assert_conforms

pytestmark = pytest.mark.nats

#: Moves a file into the folder, named after the rule whose pattern it is of.
SEND = """
import time
from pathlib import Path
inbox = Path(os.environ["INBOX"])
def send(rules):
    for rule in rules:
        for pattern in rule.get("patterns", []):
            path = inbox / f"{pattern.removesuffix('*')}{time.time_ns()}"
            partial = path.with_name(path.name + ".part")
            partial.write_text("x")
            partial.rename(path)
"""


async def test_the_files_sensor_conforms(tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    await assert_conforms(
        tmp_path,
        module="attune_files",
        trigger_type="core.filescomplete",
        parameters={"patterns": ["$rule*"], "settle": "100ms"},
        bad_parameters={"folder": "unknown"},
        occurrence="path",
        config={"folders": {"default": {"path": str(inbox)}}},
        send=SEND,
        INBOX=str(inbox),
    )
