"""Ports that stay ours while the server on them is down."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from attune_local import ports


def test_a_free_port_can_be_listened_on_and_is_given_once() -> None:
    given = [ports.free_port() for _ in range(200)]
    assert len(set(given)) == len(given)
    for port in given[:20]:
        with socket.socket() as listener:
            # As servers do: connections of an earlier server on this port may not have ended entirely.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", port))
            listener.listen()


def test_no_outgoing_connection_gets_one() -> None:
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert all(ports.free_port() < lowest for _ in range(50))


def test_a_port_that_is_listened_on_is_not_free() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        taken = listener.getsockname()[1]
        assert not ports.is_free(taken)
        assert ports.port_like(taken) != taken
    assert ports.port_like(taken) == taken


def test_none_left_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "_ours", range(20_000, 30_000))
    monkeypatch.setattr(ports, "is_free", lambda _port: False)
    with pytest.raises(OSError, match="no free port of loopback in 20000 to 29999"):
        ports.free_port()


def test_processes_side_by_side_give_different_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "_ours", ports._ours)  # put back afterwards
    given = []
    for part in range(3):
        ports.keep_to(part, of=3)
        given.append({ports.free_port() for _ in range(50)})
    assert not given[0] & given[1]
    assert not (given[0] | given[1]) & given[2]


def test_of_two_processes_that_want_a_port_one_gets_it() -> None:
    wanted = ports.free_port()
    program = f"from attune_local import ports; print(ports.port_like({wanted}), flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        assert int(other.stdout.readline()) == wanted
        assert ports.port_like(wanted) != wanted, "it is free, and somebody else's"
        other.stdin.close()
        other.wait()
    assert ports.port_like(wanted) == wanted, "it went back with its owner"
    assert ports.port_like(wanted) == wanted
