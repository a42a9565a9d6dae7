"""The file by which ``attune up`` is found."""

import json
from pathlib import Path

import msgspec
import pytest

from attune_contract.local import ENDPOINTS_FILE, Endpoint, Endpoints, read_endpoints, write_endpoints

ENDPOINTS = Endpoints(
    pid=4711,
    kubernetes=Endpoint(url="http://127.0.0.1:1", token_file="/data/kubernetes-token"),
    api=Endpoint(url="http://127.0.0.1:2", token_file="/data/admin-token"),
)


def test_what_is_written_is_read_and_is_the_owners_alone(tmp_path: Path) -> None:
    assert read_endpoints(tmp_path) is None
    write_endpoints(tmp_path, ENDPOINTS)
    assert read_endpoints(tmp_path) == ENDPOINTS
    assert (tmp_path / ENDPOINTS_FILE).stat().st_mode & 0o777 == 0o600
    assert json.loads((tmp_path / ENDPOINTS_FILE).read_text())["api"]["url"] == "http://127.0.0.1:2"
    assert [path.name for path in tmp_path.iterdir()] == [ENDPOINTS_FILE]


def test_something_else_is_an_error(tmp_path: Path) -> None:
    (tmp_path / ENDPOINTS_FILE).write_text("{}")
    with pytest.raises(msgspec.DecodeError):
        read_endpoints(tmp_path)
