"""Programs that download are run again when they fail."""

from pathlib import Path

import pytest

from attune_cluster import commands
from attune_cluster.console import ClusterError

#: Fails until it has been run this often.
_NTH = 'echo run >> "$0.runs"; echo "this is run $(wc -l < "$0.runs")"; [ "$(wc -l < "$0.runs")" -ge {times} ]'


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "PAUSES", (0.0, 0.0))


@pytest.mark.parametrize(("times", "downloads", "runs"), [(3, True, 3), (1, True, 1), (4, True, 3), (2, False, 1)])
def test_only_what_downloads_is_run_again_at_most_twice(tmp_path: Path, times: int, downloads: bool, runs: int) -> None:
    log, command = tmp_path / "log", ["sh", "-c", _NTH.format(times=times), str(tmp_path / "it")]
    if runs == times:
        commands.logged(command, log, downloads=downloads)
    else:
        with pytest.raises(ClusterError, match=f"this is run {runs}$"):
            commands.logged(command, log, downloads=downloads)
    assert log.read_text().count("this is run") == runs + log.read_text().count("$ sh -c")
