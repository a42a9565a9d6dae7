"""How long a consumer may be silent."""

from attune_kit.nats.last_per_subject import silence


def test_two_heartbeats_may_be_missing() -> None:
    assert silence(heartbeat=2, complete=True) == 5


def test_while_a_snapshot_comes_a_busy_server_has_ten_seconds() -> None:
    """Between two of its batches there are no heartbeats."""
    assert silence(heartbeat=1, complete=False) == 10
    assert silence(heartbeat=5, complete=False) == 12.5
